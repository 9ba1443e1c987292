"""Generating frames with trained networks: the part and the whole method."""

import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import product, starmap
from typing import NamedTuple

import numpy as np

from joanna import files, model
from joanna.artifacts import ComponentFrames, Frames, Latents
from joanna.checkpoint import load_weights, read_history
from joanna.errors import UserError
from joanna.fast import Windows
from joanna.feedback import LoopDetector, SongFeedback, loop_limit
from joanna.phase import PHASE_METHODS, generated_components
from joanna.run import TRAININGS, Run, Training
from joanna.settings import hop, methods
from joanna.spectra import COMPONENTS, FrameDistances, join, match_statistics, normalize, sounding


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
        goals["ae"] = int(history[label][-1][1])
    settings = _training_settings(run.settings, loaded.provenance, goals)
    return TrainedNetworks(networks, history, digests, settings)


def _training_settings(settings, provenance, goals):
    """The settings, with those of the training from the weights; `goals` are epochs by prefix of a key."""
    trained = {key: value for key, value in provenance.items() if key in settings and key != "source"}
    for prefix, goal in goals.items():
        epochs = settings[f"{prefix}-epoch"] * settings[f"{prefix}-iteration"]
        if not trained.get("minutes") and goal != epochs:
            trained |= {f"{prefix}-epoch": goal, f"{prefix}-iteration": 1}
    return {**settings, **trained}


def to_audio(run: Run, song: Frames, frames: dict[str, np.ndarray]) -> np.ndarray:
    """Audio ``(S,)`` of normalized frames ``(M, F)`` of both components, at the mean and std of the song."""
    power, overlap = run.settings["magnitude-power"], run.settings["overlap"]
    has_sound = sounding(song.audio, run.settings["frame-length"], overlap)
    magnitude, _ = mute_pauses(frames["magnitude"], song.components["magnitude"], has_sound)
    frames = {**frames, "magnitude": magnitude}
    magnitude, phase = (song.components[name].restore(frames[name]) for name in ("magnitude", "phase"))
    return join(magnitude, phase, power, overlap)


def mute_pauses(
    frames: np.ndarray, song: ComponentFrames, has_sound: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Replace the generated frames that are pauses by silence.

    A frame is a pause if the most similar frame of the song has no sound.

    Args:
        frames: generated magnitudes ``(K, F)``, normalized.
        song: the song's magnitudes.
        has_sound: which of the song's frames have sound ``(M,)``.

    Returns:
        The frames ``(K, F)``, and which of them have sound ``(K,)``.
    """
    if has_sound.all():
        return frames, np.ones(len(frames), bool)
    distances = FrameDistances(song.frames)
    nearest = [distances(frame[None])[0].argmin() for frame in frames]  # all at once would take gigabytes
    kept = has_sound[nearest]
    silence = normalize(np.zeros_like(song.mean), song.mean, song.std)
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
        print(f"note: {name} gains little at overlap {overlap}; train with overlap={needed}")
    generated = {}
    for component in generated_components(name):
        predictor, seed = trained.networks[component].predictor, seeds[component]
        generator = FrameGenerator(run, component, predictor, song, seed)
        generated[component] = generator.generate(jobs)
    took = time.monotonic() - started
    speed = len(jobs) * seconds / took
    print(f"generated {len(jobs)} clips of {seconds:g} s in {took:.0f} s: {speed:.2f} times real time")
    return generated, speed


class FrameGenerator:
    """Generates the frames of one component for several clips, two at a time, from seed frames."""

    def __init__(self, run: Run, component: str, predictor, song: Frames, seed: np.ndarray):
        self._run, self._component, self._predictor = run, component, predictor
        self._song, self._seed, self._stopped = song.components[component], seed, threading.Event()
        self._sounding = sounding(song.audio, run.settings["frame-length"], run.settings["overlap"])

    def generate(self, jobs: list[Job]) -> dict[Job, np.ndarray]:
        """Frames ``(M, F)`` of each job, normalized; UserError if a value is not finite."""
        with ThreadPoolExecutor(2) as pool:
            waiting = [pool.submit(self._generate, job) for job in jobs]
            try:
                return dict(zip(jobs, (future.result() for future in waiting), strict=True))
            except BaseException:
                self._stopped.set()
                pool.shutdown(cancel_futures=True)
                raise

    def _generate(self, job):
        settings = self._run.settings
        title = f"{self._component}: {job.method}, sequences of {job.length}"
        title += f", take {job.take + 1}" if settings["takes"] > 1 else ""
        print(f"{title}\n", end="", flush=True)  # in one piece, for two threads print

        def on_loop(frame, lag):
            print(f"{title}: frame {frame} repeats frame {frame - lag}: replaced by a random one", flush=True)

        rng = self._run.rng("generate", self._component, *job)
        guide = None
        if settings["guided"]:
            song = self._song.frames
            loops = LoopDetector(loop_limit(settings), song.shape[1] // 2 + 1, on_loop)
            guide = SongFeedback(song, self._sounding, settings["jumps"], rng, loops)

        def next_input(frame):
            if self._stopped.is_set():
                raise InterruptedError
            return guide.next_input(frame) if guide else frame

        samples = round(settings["generate-seconds"] * settings["sample-rate"])
        # trim_and_fade cuts off a frame length at both ends
        count = math.ceil((samples + 2 * settings["frame-length"]) / hop(settings)) + settings["overlap"]
        seed = self._seed if settings["seed-source"] else self._seed[: job.length]
        windows = Windows(self._predictor, job.length, settings["variation"], rng)
        frames = METHODS[job.method](windows, seed, count, next_input)
        if not np.isfinite(frames).all():
            raise UserError(f"{title}: the network's output is NaN or Inf", rerun="lstm")
        counted = np.ones(len(frames), bool)
        if self._component == "magnitude":  # phases do not tell a pause
            frames, counted = mute_pauses(frames, self._song, self._sounding)
        return match_statistics(frames, counted) if settings["match-statistics"] else frames


def part(
    windows: Windows, seed: np.ndarray, count: int, next_input: Callable = lambda frame: frame
) -> np.ndarray:
    """Frames ``(count, F)``: append the last frame of each prediction, slide the window.

    Args:
        windows: of the predictor, which maps frames ``(1, T, F)`` to the next frames ``(1, T, F)``.
        seed: seed frames ``(T, F)``, normalized, at least a window; not part of the result. The first
            prediction is made from all of them.
        next_input: maps a predicted frame ``(F,)`` to the one appended to the window.
    """
    frames = [windows.push(frame[None])[0] for frame in seed[-windows.length :]][-1:]
    if len(seed) > windows.length:
        frames = [windows.network.predict_on_batch(seed[None])[0, -1]]
    while len(frames) < count:
        frames.append(windows.push(next_input(frames[-1])[None])[0])
    return np.array(frames)


def whole(
    windows: Windows, seed: np.ndarray, count: int, next_input: Callable = lambda frame: frame
) -> np.ndarray:
    """Frames ``(count, F)``: the whole of each output is the next input, its last frame is kept.

    An output is its input advanced by one frame, so that its earlier frames are already in the result.
    Arguments as in `part`.
    """
    first = windows.network.predict_on_batch(seed[None])[0, -windows.length :]
    frames = [first[-1]]
    # the input of each window is the previous window's output one step ago; the first one's is `first`
    outputs = np.empty((0, seed.shape[1]), np.float32)
    for frame in first[:-1]:
        outputs = windows.push(np.concatenate([frame[None], outputs]))
    while len(frames) < count:
        outputs = windows.push(np.concatenate([next_input(frames[-1])[None], outputs]))
        frames.append(outputs[0])
        outputs = outputs[1:]
    return np.array(frames)


METHODS = {"part": part, "whole": whole}
