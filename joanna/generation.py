"""Generating frames with trained networks: the part and the whole method; the song's reconstruction."""

import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from joanna import files, model
from joanna.artifacts import ComponentFrames, Frames, Latents
from joanna.checkpoint import load_weights, read_history
from joanna.errors import UserError
from joanna.fast import Windows
from joanna.feedback import SongFeedback, loop_limit
from joanna.phase import selected_methods
from joanna.run import TRAININGS, Run, Training
from joanna.settings import hop, schedule
from joanna.spectra import COMPONENTS, join, match_statistics


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
    networks, history, digests, epochs = {}, {}, [], {}
    for component in COMPONENTS:
        networks[component] = model.build(run.settings)
        path = run.weights_file(component, "lstm")
        loaded = load_weights(networks[component].predictor, path, run, "lstm")
        generator = loaded.state.of(Training(component, "generator").key)
        epochs[component] = generator.epochs
        if not generator.epochs:
            raise UserError(f"{path} holds no trained generator yet", rerun="lstm")
        if loaded.trained_on != latents.digest:
            raise UserError(f"{path} was trained before the autoencoders were trained again", rerun="lstm")
        digests.append(files.array_digest(*networks[component].predictor.get_weights()))
        path = run.weights_file(component, "autoencoder")
        autoencoder = read_history(path, latents.weights[component])
        stored = {**autoencoder, **loaded.state.history}
        for training in TRAININGS:
            if training.component == component and training.key in stored:
                history[training.label] = stored[training.key]
    used = any(way.generates_phase for way in selected_methods(run.settings["phase-method"]).values())
    if used and 2 * epochs["phase"] < epochs["magnitude"]:
        print(
            f"note: the phase generator was trained for {epochs['phase']:,} epochs, the magnitude "
            f"generator for {epochs['magnitude']:,}: with minutes, train with the phase-method you want"
        )
    goals = {"lstm": generator.goal}
    if "autoencoder" in autoencoder:
        goals["autoencoder"] = int(autoencoder["autoencoder"][-1][1])
    settings = _training_settings(run.settings, loaded.provenance, goals)
    return TrainedNetworks(networks, history, digests, settings)


def _training_settings(settings, provenance, goals):
    """The settings, with those of the training from the weights; `goals` are the epochs per stage."""
    trained = {key: value for key, value in provenance.items() if key in settings and key != "source"}
    for stage, goal in goals.items():
        if not trained.get("minutes") and goal != math.prod(schedule(settings, stage)):
            prefix = "ae" if stage == "autoencoder" else "lstm"
            trained |= {f"{prefix}-epoch": goal, f"{prefix}-iteration": 1}
    return {**settings, **trained}


def reconstruct(run: Run, networks: dict[str, model.Networks], frames: Frames) -> np.ndarray:
    """Audio ``(S,)`` of the song through the spliced autoencoders."""
    spectra = {}
    for name, song in frames.components.items():
        output = networks[name].spliced.predict_on_batch(song.frames[None])[0]
        spectra[name] = song.restore(output)
    power, overlap = run.settings["magnitude-power"], run.settings["overlap"]
    return join(spectra["magnitude"], spectra["phase"], power, overlap)


class FrameGenerator:
    """Generates the frames of one component for several clips, two at a time, from seed frames."""

    def __init__(self, run: Run, component: str, predictor, song: ComponentFrames, seed: np.ndarray):
        self._run, self._component, self._predictor = run, component, predictor
        self._song, self._seed = song, seed
        self._stopped = threading.Event()

    def generate(self, jobs: list[Job]) -> dict[Job, np.ndarray]:
        """Frames ``(M, F)`` of each job, normalized.

        Raises:
            UserError: a value is not finite.
        """
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
        print(title, flush=True)

        def on_loop(frame, lag):
            print(f"{title}: frame {frame} repeats what came {lag} frames before: perturbed", flush=True)

        rng = self._run.rng("generate", self._component, *job)
        limit = loop_limit(settings)
        feedback = SongFeedback(self._song.frames, settings["variation"], rng, limit, on_loop)

        def next_input(frame):
            if self._stopped.is_set():
                raise InterruptedError
            return feedback.next_input(frame)

        samples = round(settings["generate-seconds"] * settings["sample-rate"])
        # trim_and_fade cuts off a frame length at both ends
        count = math.ceil((samples + 2 * settings["frame-length"]) / hop(settings)) + settings["overlap"]
        seed = self._seed if settings["seed-source"] else self._seed[: job.length]
        frames = METHODS[job.method](self._predictor, seed, job.length, count, next_input)
        if not np.isfinite(frames).all():
            raise UserError(f"{title}: the network's output is NaN or Inf", rerun="lstm")
        return match_statistics(frames) if settings["match-statistics"] else frames


def part(
    predictor, seed: np.ndarray, length: int, count: int, next_input: Callable = lambda frame: frame
) -> np.ndarray:
    """Frames ``(count, F)``: append the last frame of each prediction, slide the window.

    Args:
        predictor: maps frames ``(1, T, F)`` to the next frames ``(1, T, F)``.
        seed: seed frames ``(T, F)``, normalized, at least `length`; not part of the result. The first
            prediction is made from all of them.
        length: frames in the window.
        count: number of frames.
        next_input: maps a predicted frame ``(F,)`` to the one appended to the window.
    """
    windows = Windows(predictor, length)
    frames = [windows.push(frame[None])[0] for frame in seed[-length:]][-1:]
    if len(seed) > length:
        frames = [predictor.predict_on_batch(seed[None])[0, -1]]
    while len(frames) < count:
        frames.append(windows.push(next_input(frames[-1])[None])[0])
    return np.array(frames)


def whole(
    predictor, seed: np.ndarray, length: int, count: int, next_input: Callable = lambda frame: frame
) -> np.ndarray:
    """Frames ``(count, F)``: the whole of each output is the next input, its last frame is kept.

    An output is its input advanced by one frame, so that its earlier frames are already in the result.
    Arguments as in `part`.
    """
    first = predictor.predict_on_batch(seed[None])[0, -length:]
    windows, frames = Windows(predictor, length), [first[-1]]
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
