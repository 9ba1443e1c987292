"""The only training loop, the normalised error, and weight files."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from joanna import fast
from joanna.backend import keras
from joanna.backend import tensorflow as tf
from joanna.dataset import misfit, recipe
from joanna.settings import UserError

_SECONDS_BETWEEN_LINES = 10
# Largest norm of a step's gradient (Pascanu, Mikolov and Bengio 2013, arXiv:1211.5063). The first steps'
# would else keep Adam's later ones small: the spliced layers' error is 0.009 with it, 0.086 without.
_CLIP = 0.02


def train(
    model: keras.Model,
    batches: Callable[[int], list],
    label: str,
    epochs: int,
    iterations: int,
    done: int,
    learning_rate: float,
    save: Callable[[int], None],
) -> None:
    """Train `model` with Adam and a cosine schedule over all iterations x epochs.

    Args:
        model: maps the batches' inputs to their targets; its trainable weights change.
        batches: epoch number -> list of (inputs, targets), the same number each epoch.
        label: what the progress lines call it.
        epochs: epochs an iteration.
        iterations: iterations in all.
        done: iterations already trained; training goes on after them.
        learning_rate: the schedule's highest.
        save: called with the number of finished iterations after each.

    Raises:
        UserError: the loss is no longer a finite number.
    """
    total = epochs * iterations
    if done >= iterations:
        print(f"{label}: all {iterations} iterations are trained already")
        return
    start = done * epochs
    first = batches(start)
    steps = len(first)
    compile_for(model, total * steps, learning_rate)
    if model.distribute_strategy.num_replicas_in_sync > 1:
        model.test_on_batch(*first[0])  # Keras cannot build the loss from shares of a batch
    model.optimizer.iterations.assign(start * steps)
    started = shown = time.monotonic()
    for epoch in range(start, total):
        model.reset_metrics()
        for inputs, targets in first if epoch == start else batches(epoch):
            loss = float(model.train_on_batch(*_spread(model, inputs, targets)))
        if not np.isfinite(loss):
            raise UserError(
                f"{label}: the loss is {loss} at epoch {epoch + 1}; lower learning-rate "
                "and start afresh with load-weights=False"
            )
        now = time.monotonic()
        if now - shown > _SECONDS_BETWEEN_LINES or epoch + 1 == total:
            shown = now
            left = (now - started) / (epoch + 1 - start) * (total - epoch - 1)
            print(
                f"{label}: epoch {epoch + 1:,} of {total:,}, loss {loss:.4f}, {duration(left)} left",
                flush=True,
            )
        if (epoch + 1) % epochs == 0:
            save((epoch + 1) // epochs)


def compile_for(model: keras.Model, steps: int, learning_rate: float) -> None:
    """Compile with Adam; its rate warms up over 2 % of `steps`, then falls along a cosine."""
    warm_up = max(1, steps // 50)
    schedule = keras.optimizers.schedules.CosineDecay(
        learning_rate / 10,
        max(1, steps - warm_up),
        alpha=0.1,
        warmup_target=learning_rate,
        warmup_steps=warm_up,
    )
    with model.distribute_strategy.scope():
        model.compile(optimizer=fast.Adam(schedule, global_clipnorm=_CLIP), loss="mse")
        model.optimizer.build(model.trainable_variables)


def _spread(model, *arrays):
    """Arrays, or an even share of them for each device `model` was built on."""
    strategy = model.distribute_strategy
    count = strategy.num_replicas_in_sync
    if count == 1:
        return arrays

    def share(replica):
        return tuple(
            tf.constant(np.array_split(array, count)[replica.replica_id_in_sync_group])
            for array in arrays
        )

    return strategy.experimental_distribute_values_from_function(share)


def duration(seconds: float) -> str:
    """Seconds in words: '45 s', '12 min', '3.5 h'."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def epoch_rng(seed: int, *place) -> np.random.Generator:
    """A generator that depends only on the seed and on words and numbers that name a place."""
    return np.random.default_rng([seed, *"/".join(map(str, place)).encode()])


def normalised_error(frames: np.ndarray, predicted: np.ndarray) -> float:
    """Mean squared error of scaled frames over their variance; 0 is perfect, 1 is the mean frame."""
    return float(np.mean(np.square(frames - predicted)) / np.mean(np.square(frames)))


def save_weights(model: keras.Model, path: Path, settings: dict, stage: str, **progress) -> None:
    """Write a Keras .weights.h5 file with the stage's recipe, whole or not at all."""
    beside = path.with_name("." + path.name)
    model.save_weights(beside, overwrite=True)
    with h5py.File(beside, "a") as file:
        file.attrs["recipe"] = json.dumps(recipe(settings, stage))
        file.attrs.update(progress)
    os.replace(beside, path)


def load_weights(model: keras.Model, path: Path, settings: dict, stage: str) -> dict:
    """Load weights that `stage` wrote into `model`; returns the progress stored with them.

    Raises:
        UserError: missing, unreadable, or made with other settings.
    """
    again = f"run: python {stage}.py"
    if not path.is_file():
        raise UserError(f"{path} is missing; {again}")
    try:
        with h5py.File(path, "r") as file:
            attributes = dict(file.attrs)
    except OSError:
        raise UserError(f"{path} is not a readable weights file; delete it and {again}") from None
    reason = misfit(attributes, settings, stage)
    if reason:
        raise UserError(f"{path} {reason}; {again}")
    try:
        model.load_weights(path)
    except (ValueError, KeyError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} does not fit the network ({reason}); delete it and {again}") from None
    return attributes


def resume(model: keras.Model, path: Path, settings: dict, stage: str, made_from: str = "") -> dict:
    """Load weights to go on from, if the settings want that and the file fits.

    Args:
        made_from: identity of the input file the weights must have been trained on, if any.

    Returns:
        The progress stored with them; empty when training starts afresh, which is said aloud.
    """
    if not settings["load-weights"] or not path.exists():
        return {}
    try:
        with h5py.File(path, "r") as file:
            trained_on = file.attrs.get("made_from", "")
        if trained_on != made_from:
            raise UserError(f"{path} was trained on other input")
        attributes = load_weights(model, path, settings, stage)
    except (UserError, OSError) as reason:
        print(f"{str(reason).split('; ')[0]}: starting afresh")
        return {}
    print(f"going on from {path}")
    return attributes
