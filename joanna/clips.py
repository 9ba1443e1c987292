"""Clips: generated frames to audio, scored and ranked; their names, loudness and metadata."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from joanna import audio, scores, spectra
from joanna.artifacts import Frames
from joanna.errors import UserError
from joanna.generation import Job, mute_pauses
from joanna.matching import SongStatistics, match_phases
from joanna.phase import PhaseInputs, PhaseMethod, consistent_phase, selected_methods
from joanna.run import Run
from joanna.settings import hop

_FADE_SECONDS = 0.01
_SILENCE = 1e-3  # of the source's RMS
_SHOWN_SECONDS = 60  # of a recording that is continued, in the report


@dataclass
class Clip:
    """A generated clip."""

    name: str  # of its file, without ending
    signal: np.ndarray  # audio (S,) at the source's loudness, after the last minute of what it continues
    magnitude: np.ndarray  # (M, F), to the power of magnitude-power
    phase: np.ndarray  # (M, F) in radians
    scores: dict[str, float]
    wav: bytes = b""  # its file, with the metadata


class ClipMaker:
    """Turns generated frames into clips, with the phases of the song's `reconstruction` ``(S,)``.

    They continue a `recording` ``(S,)``, unless it is empty.
    """

    def __init__(self, run: Run, frames: Frames, reconstruction: np.ndarray, recording: np.ndarray):
        self._run, self._frames, self._rate = run, frames, run.settings["sample-rate"]
        self._recording, self._hidden = recording, max(0, len(recording) - _SHOWN_SECONDS * self._rate)
        self.reference = scores.Reference(frames.audio, self._rate, hop(run.settings) / self._rate)
        self._reconstruction = reconstruction
        self._statistics = None
        if run.settings["match-statistics"]:
            self._statistics = SongStatistics(frames.components["magnitude"].frames, frames.sounding)

    def rank_takes(self, generated: dict, metadata: dict) -> Iterator[Clip]:
        """The takes of each method, sequence length and phase method, best first.

        Args:
            generated: component -> job -> normalized frames ``(M, F)``; phase may be missing.
            metadata: what the clips have in common, see `audio.read_clip_metadata`.
        """
        phase_methods = selected_methods(self._run.settings["phase-method"])
        for method, length in dict.fromkeys(job[:2] for job in generated["magnitude"]):
            jobs = [job for job in generated["magnitude"] if job[:2] == (method, length)]
            inputs = [self._inputs(job, generated) for job in jobs]
            for way, phase_method in phase_methods.items():
                name = f"{method}-{length}" + ("-guided" if self._run.settings["guided"] else "")
                name += "-continued" if self._run.settings["continue"] else ""
                name += f"-{way}" if len(phase_methods) > 1 else ""
                clips = [self._clip(name, phase_method, *given) for given in inputs]
                own = {"method": method, "sequence-lengths": [length], "phase-method": way}
                settings = {**metadata["settings"], **own, "load-weights": True}
                yield from self._ranked(clips, {**metadata, "settings": settings})

    def _ranked(self, clips, metadata):
        """The clips best first, with the numbers of their takes, loudness and metadata."""
        clips.sort(key=lambda clip: self.reference.ranking_key(clip.scores))
        for take, clip in enumerate(clips, 1):
            clip.name += f"-take-{take}" if len(clips) > 1 else ""
            clip.name = metadata.get("name", clip.name)
            signal = match_loudness(clip.signal, self._frames.audio, clip.name, "lstm")
            if len(self._recording):
                signal = continue_recording(self._recording, signal, self._run.settings)
            text = json.dumps({**metadata, "name": clip.name, "take": take})
            clip.signal, clip.wav = signal[self._hidden :].copy(), audio.wav_bytes(signal, self._rate, text)
            yield clip

    def _inputs(self, job: Job, generated: dict) -> tuple[PhaseInputs, np.ndarray]:
        """Input of the phase methods for a job, and which of its frames have sound ``(M,)``."""
        settings, song = self._run.settings, self._frames.components
        stereo, power = settings["stereo"], settings["magnitude-power"]
        magnitude, sounding = generated["magnitude"][job], self._frames.sounding
        magnitude, sounding = mute_pauses(magnitude, song["magnitude"], sounding, stereo)
        phase = generated["phase"][job] if "phase" in generated else np.zeros_like(magnitude[:0])
        if self._statistics:
            magnitude = self._statistics.match(magnitude, sounding)
            phase = match_phases(phase) if len(phase) else phase
        inputs = PhaseInputs(
            magnitude=magnitude,
            phase=song["phase"].restore(phase),
            linear_magnitude=spectra.linear_magnitude(song["magnitude"].restore(magnitude), power),
            song_magnitude=song["magnitude"].frames,
            song_phase=self._song_phase,
            overlap=settings["overlap"],
            stereo=stereo,
            iterations=settings["phase-iterations"],
        )
        return inputs, sounding

    def _song_phase(self, places: np.ndarray) -> np.ndarray:
        """Phases ``(K, F)`` of the song's frames ``(K,)``; those of all of an hour would take a gigabyte.

        They are of the audio, not of the network's output: overlapping frames average out part of its errors.
        """
        length, overlap = (self._run.settings[key] for key in ("frame-length", "overlap"))
        step, runs = hop(self._run.settings), np.split(places, 1 + np.flatnonzero(np.diff(places) != 1))
        passages = [self._reconstruction[run[0] * step : run[-1] * step + length] for run in runs]
        return np.concatenate(
            [spectra.component_frames(each, "phase", length, overlap, 1.0) for each in passages]
        )

    def _clip(self, name: str, phase_method: PhaseMethod, inputs: PhaseInputs, sounding: np.ndarray) -> Clip:
        """A clip without the number of its take, loudness and metadata."""
        settings = self._run.settings

        def signal(frames):
            keys = "magnitude-power", "overlap", "stereo"
            return trim_and_fade(spectra.join(*frames, *(settings[key] for key in keys)), settings)

        phase = phase_method.phases(inputs)
        magnitude_and_phase = self._fitted(inputs, phase, sounding)
        heard, start = signal(magnitude_and_phase), _lead(settings)
        scored = decided = heard[start:]
        if phase is not inputs.followed:
            decided = signal(self._fitted(inputs, inputs.followed, sounding))[start:]
        found = self.reference.score(scored, decided)
        if found.get("copied-seconds"):
            found["copied-at"] += (len(self._recording) - self._hidden) / self._rate
        return Clip(name, heard, *magnitude_and_phase, found)

    def _fitted(
        self, inputs: PhaseInputs, phase: np.ndarray, sounding: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Magnitudes, to the power of magnitude-power, and phases ``(M, F)`` of a clip.

        Overlapping frames do not agree, so their sum has other statistics. With match-statistics the frames
        of the sum are matched once more and take its phases. Those at the ends, which fewer frames overlap,
        keep their magnitudes, as does a bin that stood still before the sum.
        """
        own, overlap, stereo = self._frames.components["magnitude"], inputs.overlap, inputs.stereo
        before, power = inputs.magnitude, self._run.settings["magnitude-power"]
        magnitude = own.restore(before)
        if not self._statistics:
            return magnitude, phase
        joined = spectra.join(magnitude, phase, power, overlap, stereo)
        frames = spectra.component_frames(joined, "magnitude", before.shape[1], overlap, power, np.float32)
        inner = sounding.copy()
        inner[: overlap - 1] = inner[len(inner) - overlap + 1 :] = False
        matched = self._statistics.match(own.normalize(frames), inner)[inner]
        if len(matched):
            moving = np.minimum(1, 2 * before[inner].std(axis=0))
            magnitude[inner] = own.restore(moving * matched + (1 - moving) * before[inner])
        return magnitude, consistent_phase(joined, phase, overlap, stereo)


def trim_and_fade(signal: np.ndarray, settings: dict) -> np.ndarray:
    """Cut generate-seconds from generated audio ``(S,)``, without its faded ends.

    The cut is somewhere in a sound; a fade of 10 ms avoids the click. What continues a recording keeps its
    beginning, which fades in over the recording's end, before the generate-seconds.
    """
    samples = round(settings["generate-seconds"] * settings["sample-rate"]) + _lead(settings)
    signal = signal[0 if settings["continue"] else settings["frame-length"] :][:samples].copy()
    fade = np.linspace(0, 1, min(samples, round(_FADE_SECONDS * settings["sample-rate"])))
    channels = np.atleast_2d(signal.T)  # a view
    if not settings["continue"]:
        channels[:, : len(fade)] *= fade
    channels[:, len(signal) - len(fade) :] *= fade[::-1]
    return signal


def _lead(settings):
    """Samples of generated audio that fade in over the end of the recording that it continues."""
    return settings["frame-length"] - hop(settings) if settings["continue"] else 0


def continue_recording(recording: np.ndarray, generated: np.ndarray, settings: dict) -> np.ndarray:
    """The recording ``(S,)`` and the audio ``(K,)`` of `trim_and_fade` that continues it, float32.

    The generated frames follow the recording's last one at the hop, and fade in as in any inverse STFT. The
    recording fades out as its frames do, and the sum is raised to keep its power, which the two lack where
    they do not correlate.
    """
    lead, window = _lead(settings), spectra.window_pair(settings["frame-length"], settings["overlap"])
    fade = np.prod(window, axis=0).reshape(settings["overlap"], -1).cumsum(axis=0).ravel()[:lead]
    old, new = recording[-lead:].T * (1 - fade), generated[:lead].T
    correlation = max(0.0, scores.correlation(old * fade, new * (1 - fade)))
    power = 1 - 2 * (1 - correlation) * fade * (1 - fade)
    parts = recording[:-lead], ((old + new) / np.sqrt(power)).T, generated[lead:]
    return np.concatenate(parts, dtype=np.float32)


def match_loudness(signal: np.ndarray, source: np.ndarray, name: str, stage: str) -> np.ndarray:
    """The clip's audio ``(S,)`` at the source's loudness; a silent one stays silent, with a warning.

    UserError if it holds NaN or Inf; `stage` is the one to run again.
    """
    if not np.isfinite(signal).all():
        raise UserError(f"{name}: the network's output is NaN or Inf", rerun=stage)
    if audio.rms(signal) < _SILENCE * audio.rms(source):
        prefix = "ae" if stage == "autoencoder" else stage
        print(f"warning: {name} is silent; raise {prefix}-iteration or minutes and run {stage}.py again")
        return signal
    return audio.match_loudness(signal, source)
