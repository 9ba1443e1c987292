"""Generating frames with trained networks: the part and the whole method."""

import dataclasses
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from itertools import product, starmap
from typing import Any, NamedTuple

import numpy as np

from joanna import files, model
from joanna.artifacts import ComponentFrames, Frames, Latents
from joanna.checkpoint import load_weights, read_history
from joanna.errors import UserError
from joanna.fast import Windows
from joanna.feedback import LoopDetector, SongFeedback, loop_limit
from joanna.phase import PHASE_METHODS, each_distance, generated_components
from joanna.run import TRAININGS, Run, Training
from joanna.settings import EPOCH_PREFIX, clip_blocks, hop, methods, total_epochs, variation
from joanna.spectra import COMPONENTS, join


class Job(NamedTuple):
    """A clip to generate."""

    method: str  # part or whole
    length: int  # frames of the network's input
    take: int  # from 0


class TrainedNetworks(NamedTuple):
    """The networks of a run and what they were trained with."""

    networks: dict[str, model.Networks]  # by component
    history: dict[str, list]  # label of a training -> rows of seconds, epochs, loss
    digests: list[str]  # of the weights of each component
    settings: dict  # of the run; those that only the training depends on are the weights' own


def load_networks(run: Run, latents: Latents) -> TrainedNetworks:
    """Load the weights of both components.

    Raises:
        UserError: weights are missing, damaged, not trained yet, or do not fit the settings or latents.
    """
    networks, history, digests, states = {}, {}, [], {}
    for component in COMPONENTS:
        networks[component] = model.build(run.settings)
        path = run.weights_file(component, "lstm")
        loaded = load_weights(networks[component].predictor, path, run, "lstm")
        states[component] = loaded.state.of(Training(component, "generator").key)
        if not states[component].epochs:
            raise UserError(f"{path} holds no trained generator yet", rerun="lstm")
        if loaded.trained_on != latents.digest:
            raise UserError(f"{path} was trained before the autoencoders were trained again", rerun="lstm")
        digests.append(files.array_digest(*networks[component].predictor.get_weights()))
        autoencoder = read_history(run.weights_file(component, "autoencoder"), latents.weights[component])
        stored = {**autoencoder, **loaded.state.history}
        for training in TRAININGS:
            if training.component == component and training.key in stored:
                history[training.label] = stored[training.key]
    components = generated_components(run.settings["phase-method"])
    phase, magnitude = states["phase"], states["magnitude"]
    if "phase" in components and 2 * phase.epochs < magnitude.epochs:
        print(
            f"note: the phase generator was trained for {phase.epochs:,} epochs, the magnitude "
            f"generator for {magnitude.epochs:,}: with minutes, train with the phase-method you want"
        )
    goals = {"lstm": magnitude.goal}
    label = Training("magnitude", "autoencoder").label
    if label in history:
        goals["autoencoder"] = int(history[label][-1][1])
    settings = _training_settings(run.settings, loaded.provenance, goals)
    return TrainedNetworks(networks, history, digests, settings)


def _training_settings(settings, provenance, goals):
    """The settings, with those of the training from the weights; `goals` are epochs by stage."""
    trained = {key: value for key, value in provenance.items() if key in settings and key != "source"}
    for stage, goal in goals.items():
        if not trained.get("minutes") and goal != total_epochs(settings, stage):
            prefix = EPOCH_PREFIX[stage]
            trained |= {f"{prefix}-epoch": goal, f"{prefix}-iteration": 1}
    return {**settings, **trained}


def reconstruct(
    run: Run, networks: dict[str, model.Networks], song: Frames, block: int = 4096, lead: int = 256
) -> np.ndarray:
    """Audio ``(S,)`` of the song through the spliced autoencoders.

    `block` frames at a time, as an hour at once would take gigabytes: their LSTM layers, trained on shorter
    windows, start `lead` frames before.
    """
    step, length = hop(run.settings), run.settings["frame-length"]
    signal = np.zeros(((len(song) - 1) * step + length, *song.audio.shape[1:]))
    for start in range(0, len(song), block):
        rows, first = slice(start, start + block), max(0, start - lead)
        output = {
            name: networks[name].spliced.predict_on_batch(own.frames[None, first : rows.stop])[
                0, start - first :
            ]
            for name, own in song.components.items()
        }
        audio = to_audio(run, song, output, rows)
        signal[start * step :][: len(audio)] += audio
    return signal


def to_audio(
    run: Run, song: Frames, frames: dict[str, np.ndarray], compared: slice = slice(None)
) -> np.ndarray:
    """Audio of normalized frames ``(M, F)`` of both components, at the mean and std of the song.

    Pauses become silence; see `mute_pauses`, which compares with the song's frames `compared`.
    """
    power, overlap, stereo = (run.settings[key] for key in ("magnitude-power", "overlap", "stereo"))
    own = song.components["magnitude"]
    own = dataclasses.replace(own, frames=own.frames[compared])
    magnitude, _ = mute_pauses(frames["magnitude"], own, song.sounding[compared], stereo)
    frames = {**frames, "magnitude": magnitude}
    magnitude, phase = (song.components[name].restore(frames[name]) for name in ("magnitude", "phase"))
    return join(magnitude, phase, power, overlap, stereo)


def mute_pauses(
    frames: np.ndarray, song: ComponentFrames, has_sound: np.ndarray, stereo: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Replace the generated frames that are pauses by silence.

    A frame is a pause if the most similar frame of the song has no sound.

    Args:
        frames: generated magnitudes ``(K, F)``, normalized.
        song: the song's magnitudes.
        has_sound: which of the song's frames have sound ``(M,)``.
        stereo: whether mid and side count.

    Returns:
        The frames ``(K, F)``, and which of them have sound ``(K,)``.
    """
    if has_sound.all():
        return frames, np.ones(len(frames), bool)
    kept = has_sound[[distances.argmin() for distances in each_distance(frames, song.frames, stereo)]]
    silence = song.normalize(np.zeros_like(song.mean)[None])
    return np.where(kept[:, None], frames, silence), kept


def generate(run: Run, trained: TrainedNetworks, song: Frames, seeds: dict) -> tuple[dict, float]:
    """Generate all clips from the seed frames ``(T, F)`` of each component.

    Returns component -> job -> normalized frames ``(M, F)``, and the seconds generated per second.
    """
    settings, started = run.settings, time.monotonic()
    combinations = product(methods(settings), settings["sequence-lengths"], range(settings["takes"]))
    jobs = list(starmap(Job, combinations))
    name, overlap, seconds = (settings[key] for key in ("phase-method", "overlap", "generate-seconds"))
    if name != "all" and overlap < (needed := PHASE_METHODS[name].minimum_overlap):
        print(f"note: {name} adds a buzz at overlap {overlap}; train with overlap={needed}")
    if settings["guided"] and not settings["jumps"]:
        print(
            "note: jumps is 0: only loops are replaced by frames of the song; raise jumps to guide all of it"
        )
    generated = {}
    for component in generated_components(name):
        predictor, seed = trained.networks[component].predictor, seeds[component]
        generator = FrameGenerator(run, component, predictor, song, seed)
        generated[component] = generator.generate(jobs)
    took = time.monotonic() - started
    speed = len(jobs) * seconds / took
    print(f"generated {len(jobs)} clips of {seconds:g} s in {took:.0f} s: {speed:.2f} times real time")
    return generated, speed


def _frame_count(settings):
    """Frames of a job: those that a clip needs, with what `trim_and_fade` cuts off, and a few more."""
    return clip_blocks(settings) + 3 * settings["overlap"]


def dropout_rates(settings: dict, jobs: Sequence[Job]) -> np.ndarray:
    """Dropout rates of the `Windows` of jobs ``(steps, jobs)``: the variation at the second of each step."""
    lengths = np.array([job.length for job in jobs])
    most = [settings["whole-frames"] if job.method == "whole" else 1 for job in jobs]
    kept = np.minimum(most, lengths)  # an output has no more frames
    steps = np.arange(max(lengths) + _frame_count(settings))[:, None]
    cut = settings["overlap"] - settings["continue"]  # frames before the first second, see trim_and_fade
    frames = (steps + 1 - lengths) * kept - cut
    seconds = frames * hop(settings) / settings["sample-rate"]
    curves = (variation(settings, job.method) for job in jobs)
    rates = [curve.at(times) for times, curve in zip(seconds.T, curves, strict=True)]
    return np.stack(rates, axis=1)


class FrameGenerator:
    """Generates the frames of one component for several clips at a time, from seed frames."""

    def __init__(self, run: Run, component: str, predictor, song: Frames, seed: np.ndarray):
        self._run, self._component, self._predictor = run, component, predictor
        self._song, self._seed = song.components[component], seed
        self._sounding = song.sounding
        recording = run.settings["seed-source"]
        self._predictions = predictor.predict_on_batch(seed[None])[0] if recording else seed[:0]

    def generate(self, jobs: list[Job]) -> dict[Job, np.ndarray]:
        """Frames ``(M, F)`` of each job, normalized; UserError if a value is not finite."""
        settings = self._run.settings
        print(f"{self._component}: {len(jobs)} clip{'s' * (len(jobs) > 1)}", flush=True)
        rngs = [self._run.rng("generate", self._component, *job) for job in jobs]
        lengths = [job.length for job in jobs]
        windows = Windows(self._predictor, lengths, dropout_rates(settings, jobs), rngs)
        loops = [self._loop(job, rng) for job, rng in zip(jobs, rngs, strict=True)]
        generated = dict(zip(jobs, run_loops(windows, loops), strict=True))
        for job, frames in generated.items():
            if not np.isfinite(frames).all():
                raise UserError(f"{self._title(job)}: the network's output is NaN or Inf", rerun="lstm")
        return generated

    def _loop(self, job, rng):
        """The feedback loop of a job."""
        settings = self._run.settings
        options: dict[str, Any] = {"kept": settings["whole-frames"]} if job.method == "whole" else {}
        if settings["guided"]:
            song = self._song.frames

            def on_loop(frame, lag):
                text = f"frame {frame} repeats frame {frame - lag}: replaced by a random one"
                print(f"{self._title(job)}: {text}", flush=True)

            detector = LoopDetector(loop_limit(settings), song.shape[1] // 2 + 1, on_loop)
            feedback = SongFeedback(song, self._sounding, settings["jumps"], rng, detector)
            options["next_input"] = feedback.next_input
        predictions = self._predictions[-job.length :]
        frames = self._seed[-job.length :] if len(predictions) else self._seed[: job.length]
        return METHODS[job.method](Seed(frames, predictions), _frame_count(settings), **options)

    def _title(self, job):
        title = f"{self._component}: {job.method}, sequences of {job.length}"
        return title + (f", take {job.take + 1}" if self._run.settings["takes"] > 1 else "")


# takes predictions ``(R, F)`` of the windows in progress, gives their inputs ``(1, F)`` or ``(R, F)`` (see
# `Windows.push`), and returns the frames of the clip ``(count, F)``
Loop = Generator[np.ndarray, np.ndarray, np.ndarray]


def run_loops(windows: Windows, loops: Sequence[Loop]) -> list[np.ndarray]:
    """Run the feedback loops of several clips together; their frames ``(M, F)``."""
    inputs = [next(loop) for loop in loops]
    ended = np.empty((0, inputs[0].shape[1]), np.float32)
    frames: dict[int, np.ndarray] = {}
    while len(frames) < len(loops):
        for clip, predictions in enumerate(windows.push(inputs)):
            if clip in frames:
                continue
            try:
                inputs[clip] = loops[clip].send(predictions)
            except StopIteration as end:
                frames[clip], inputs[clip] = end.value, ended
    return [frames[clip] for clip in range(len(loops))]


class Seed(NamedTuple):
    """What a feedback loop starts from; none of it is part of the clip."""

    frames: np.ndarray  # (L, F), the input of the first window
    predictions: np.ndarray  # (L, F), of them at the end of a longer recording; (0, F) without one


def part(seed: Seed, count: int, next_input: Callable = lambda frame: frame) -> Loop:
    """Loop for frames ``(count, F)``: append the last frame of each prediction, slide the window.

    `next_input` maps a predicted frame ``(F,)`` to the one appended to the window.
    """
    for frame in seed.frames:
        predicted = yield frame[None]
    frames = [*seed.predictions[-1:], predicted[0]][:1]
    while len(frames) < count:
        predicted = yield next_input(frames[-1])[None]
        frames.append(predicted[0])
    return np.array(frames)


def whole(seed: Seed, count: int, next_input: Callable = lambda frame: frame, kept: int = 1) -> Loop:
    """Loop for frames ``(count, F)``: each whole output is the next input, its last `kept` frames are kept.

    An output is its input advanced by one frame. So with one, the default, no frame is kept twice.
    `next_input` maps the last frame of an output ``(F,)`` to that of the next input.
    """
    frames = list(seed.predictions[-min(kept, count - 1) :])
    # input of the first window; that of each other window is the previous one's output, one step ago
    waiting = [*seed.predictions[:-1]] if frames else [*seed.frames]
    outputs = seed.frames[:0]  # of the windows in progress, at this step
    passes: list[deque[np.ndarray]] = []  # and the last ones so far
    while len(frames) < count:
        last = waiting.pop(0) if waiting else next_input(frames[-1])
        outputs = yield np.concatenate([last[None], outputs])
        passes.append(deque(maxlen=kept))
        for outputs_so_far, output in zip(passes, outputs, strict=True):
            outputs_so_far.append(output)
        if len(passes) == len(seed.frames):  # the first is complete
            frames += passes.pop(0)
            outputs = outputs[1:]
    return np.array(frames[:count])


METHODS = {"part": part, "whole": whole}
