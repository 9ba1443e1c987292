"""Estimate what a run costs on this machine, from a few timed training steps."""

import contextlib
import math
import shlex
from pathlib import Path

import config
from joanna import settings
from joanna.artifacts import Frames, Latents
from joanna.batches import even_batches
from joanna.checkpoint import Checkpoint
from joanna.errors import UserError
from joanna.progress import duration
from joanna.resources import TimeBudget, check_memory
from joanna.run import TRAININGS, Run
from joanna.source import load_source, max_frames, stated_frames
from joanna.spectra import COMPONENTS

_LONG_RUN = 3_000_000  # frames trained on; a shorter run takes minutes and is not measured


def song_frames(run: Run) -> int:
    """Frames of an epoch: those of frames.h5, or approximately, with pauses, those of the source."""
    with contextlib.suppress(UserError):
        return len(Frames.load(run))
    frames = stated_frames(run.root, run.settings)
    if math.isinf(frames):
        frames = len(load_source(run.root, run.settings).samples) // settings.hop(run.settings)
    return int(frames)


def seconds_per_frame(chosen: dict, frames: int) -> tuple[float, float]:
    """Measured training seconds per frame: autoencoder, and both LSTM trainings together.

    Steps have the size of those of a song of `frames`, because a small step takes nearly as long as a
    large one.
    """
    import numpy as np

    from joanna import fast, model, training

    length = chosen["window-length"]
    rows = len(even_batches(np.arange(frames), chosen["batch-size"])[0])
    windows = len(even_batches(np.arange(-(-frames // length)), chosen["window-batch"])[0])
    width, latent = chosen["frame-length"], settings.bottleneck(chosen)
    single = np.zeros((rows, width), np.float32)
    latents, song = (np.zeros((windows, length, size), np.float32) for size in (latent, width))

    def measure(network, inputs, targets):
        training.compile_model(network)
        return training.step_seconds(network, [(inputs, targets)]) / (inputs.size / inputs.shape[-1])

    with fast.released_custom_gradients():
        networks = model.build(chosen)
        autoencoder = measure(networks.autoencoder, single, single)
        spliced = measure(networks.latent_decoder, latents, song)
        networks.spliced_lstm.trainable = False
        return autoencoder, spliced + measure(networks.generator, latents, latents)


def _epochs(chosen):
    """Epochs of each autoencoder and of each LSTM training."""
    return [settings.total_epochs(chosen, stage) for stage in settings.EPOCH_PREFIX]


def _epochs_left(run):
    """Those that are yet to be trained, on average over the trainings of a stage."""
    autoencoder, lstm = _epochs(run.settings)
    with contextlib.suppress(UserError):  # the stage that writes the file is yet to run
        autoencoder = _left(run, "autoencoder", Frames.load(run).digest)
        if not autoencoder:  # otherwise the latents are about to change
            lstm = _left(run, "lstm", Latents.load(run).digest)
    return [autoencoder, lstm]


def _left(run, stage, digest):
    left = sum(Checkpoint(run, component, stage, digest).epochs_left() for component in COMPONENTS)
    return math.ceil(left / sum(training.stage == stage for training in TRAININGS))


def _print_minutes(chosen):
    """Print a warning if `minutes` is too short."""
    overhead = TimeBudget(chosen).overhead_seconds()
    if 60 * chosen["minutes"] < overhead:
        print(
            f"warning: minutes is {chosen['minutes']:g}; starting, saving and generating take "
            f"{overhead / 60:.1f} minutes on a slow machine, which leaves a training one epoch: raise minutes"
        )


def print_estimate(run: Run) -> None:
    """Print what a long run costs, or that its minutes are too few."""
    chosen = run.settings
    if chosen["minutes"]:
        return _print_minutes(chosen)
    epochs = sum(_epochs(chosen))
    # the source is read only if the settings allow a long run
    if max_frames(chosen) * epochs < _LONG_RUN or (frames := song_frames(run)) * epochs < _LONG_RUN:
        return
    left = _epochs_left(run)
    if not any(left):
        return
    check_memory(chosen, "training", frames)
    print("measuring this machine ...", flush=True)

    def cost(chosen, frames, epochs):
        pairs = zip(seconds_per_frame(chosen, frames), epochs, strict=True)
        return duration(len(COMPONENTS) * sum(seconds * frames * epochs for seconds, epochs in pairs))

    begun = left != _epochs(chosen)
    subject = "the rest of the training" if begun else "training"
    print(f"{subject} takes about {cost(chosen, frames, left)} on this machine. ", end="")
    if begun or "demo" not in config.presets:  # it may be deleted
        return print("Stop this run with Ctrl-C; the same command resumes it")
    words = ["demo", f"source={chosen['source']}", f"name={Path(chosen['name']).name[:95]}-demo"]
    demo = Run(settings.load([*words, "start=0", "seconds=0", "seed-section=0"]), run.root)
    demo_frames = int(min(frames, max_frames(demo.settings)))
    print(
        f"{shlex.join(['./run.sh', *words])} trains for about "
        f"{cost(demo.settings, demo_frames, _epochs(demo.settings))}. "
        "Stop this run with Ctrl-C; the same command resumes it"
    )
