"""Clips: generated frames to audio, scored and ranked; their names, loudness and metadata."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, count, product
from pathlib import Path

import numpy as np

from joanna import audio, scores, spectra
from joanna.artifacts import Frames
from joanna.errors import UserError
from joanna.generation import Job
from joanna.phase import PhaseInputs, selected_methods
from joanna.run import Run
from joanna.settings import hop

_FADE_SECONDS = 0.01
_SILENCE = 1e-3  # of the source's RMS


@dataclass
class Clip:
    """A generated clip."""

    name: str  # of its file, without ending
    signal: np.ndarray  # audio (S,) at the source's loudness
    magnitude: np.ndarray  # (M, F), to the power of magnitude-power
    phase: np.ndarray  # (M, F) in radians
    scores: dict[str, float]
    wav: bytes = b""  # its file, with the metadata


class ClipMaker:
    """Turns generated frames into clips, with the phases of the song's `reconstruction` ``(S,)``."""

    def __init__(self, run: Run, frames: Frames, reconstruction: np.ndarray):
        self._run, self._frames, self._rate = run, frames, run.settings["sample-rate"]
        hop_seconds = hop(run.settings) / self._rate
        self.reference = scores.Reference(frames.audio, self._rate, hop_seconds)
        # of the audio, not of the network's output: overlapping frames average out part of its errors
        spectrum = spectra.stft(reconstruction, run.settings["frame-length"], run.settings["overlap"])
        self._song_phase = np.angle(spectrum)

    def rank_takes(self, generated: dict, metadata: dict) -> Iterator[list[Clip]]:
        """The takes of each method, sequence length and phase method, best first.

        Args:
            generated: component -> job -> normalized frames ``(M, F)``; phase may be missing.
            metadata: what the clips have in common, see `audio.read_clip_metadata`.
        """
        phase_methods = selected_methods(self._run.settings["phase-method"])
        groups = dict.fromkeys(job[:2] for job in generated["magnitude"])
        for (method, length), way in product(groups, phase_methods):
            jobs = [job for job in generated["magnitude"] if job[:2] == (method, length)]
            clips = [self._clip(job, way, phase_methods[way], generated) for job in jobs]
            clips.sort(key=lambda clip: self.reference.ranking_key(clip.scores))
            own = {"method": method, "sequence-lengths": [length], "phase-method": way}
            settings = {**metadata["settings"], **own, "load-weights": True}
            for take, clip in enumerate(clips, 1):
                clip.name = f"{method}-{length}" + (f"-{way}" if len(phase_methods) > 1 else "")
                clip.name += f"-take-{take}" if len(clips) > 1 else ""
                clip.name = metadata.get("name", clip.name)
                clip.signal = match_loudness(clip.signal, self._frames.audio, clip.name, "lstm")
                text = json.dumps({**metadata, "settings": settings, "name": clip.name, "take": take})
                clip.wav = audio.wav_bytes(clip.signal, self._rate, text)
            yield clips

    def hints(self, found: dict[str, float]) -> list[str]:
        """Advice on a clip's scores."""
        return scores.hints(found, self.reference.baselines)

    def _clip(self, job: Job, way: str, method, generated) -> Clip:
        """The clip of a job, without name, loudness and metadata."""
        settings, parts = self._run.settings, self._frames.components
        normalized = generated["magnitude"][job]
        magnitude = parts["magnitude"].restore(normalized)
        phase = np.empty((0, 0))
        if "phase" in generated:
            phase = parts["phase"].restore(generated["phase"][job])
        inputs = PhaseInputs(
            magnitude=normalized,
            phase=phase,
            linear_magnitude=spectra.linear_magnitude(magnitude, settings["magnitude-power"]),
            song_magnitude=parts["magnitude"].frames,
            song_phase=self._song_phase,
            overlap=settings["overlap"],
        )
        phase = method.phases(inputs)
        signal = spectra.join(magnitude, phase, settings["magnitude-power"], settings["overlap"])
        signal = trim_and_fade(signal, settings)
        return Clip(way, signal, magnitude, phase, self.reference.score(signal))


def trim_and_fade(signal: np.ndarray, settings: dict) -> np.ndarray:
    """Cut generate-seconds from generated audio ``(S,)``, without its faded ends.

    The cut is somewhere in a sound; a fade of 10 ms avoids the click.
    """
    samples = round(settings["generate-seconds"] * settings["sample-rate"])
    signal = signal[settings["frame-length"] :][:samples].copy()
    fade = np.linspace(0, 1, min(samples, round(_FADE_SECONDS * settings["sample-rate"])))
    signal[: len(fade)] *= fade
    signal[len(signal) - len(fade) :] *= fade[::-1]
    return signal


def match_loudness(signal: np.ndarray, source: np.ndarray, name: str, stage: str) -> np.ndarray:
    """The clip's audio ``(S,)`` at the source's loudness; a silent one stays silent, with a warning.

    Raises:
        UserError: the signal holds NaN or Inf; `stage` is the one to run again.
    """
    if not np.isfinite(signal).all():
        raise UserError(f"{name}: the network's output is NaN or Inf", rerun=stage)
    if audio.rms(signal) < _SILENCE * audio.rms(source):
        prefix = "ae" if stage == "autoencoder" else stage
        print(f"warning: {name} is silent; raise {prefix}-iteration or minutes and run {stage}.py again")
        return signal
    return audio.match_loudness(signal, source)


def unused_name(folder: Path, clip: Clip) -> str:
    """The clip's name, with -again if a different wav has that name."""
    numbered = (f"{clip.name}-again-{number}" for number in count(2))
    for name in chain((clip.name, f"{clip.name}-again"), numbered):
        path = folder / f"{name}.wav"
        if not path.exists() or path.read_bytes() == clip.wav:
            return name
    raise AssertionError  # the numbers do not end
