"""Training with Keras's own fit, from the checkpoint to the goal."""

import functools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from joanna import callbacks as control
from joanna import fast
from joanna.backend import keras
from joanna.backend import tensorflow as tf
from joanna.checkpoint import Checkpoint
from joanna.dataset import EpochBatches
from joanna.errors import UserError
from joanna.progress import ProgressDisplay, duration
from joanna.resources import TimeBudget
from joanna.run import RUN_AGAIN, Training

# Largest norm of a step's gradient (Pascanu, Mikolov and Bengio 2013, arXiv:1211.5063). Without it the
# large first gradients keep Adam's later steps small: error of the spliced layers 0.086, with it 0.009.
_CLIP = 0.02
_HALVINGS = 3


@dataclass(frozen=True)
class Task:
    """What `fit` trains."""

    training: Training
    model: keras.Model  # maps the inputs of the batches to their targets
    batches: Callable[[int], list]  # epoch -> (inputs, targets) pairs, the same number in each epoch
    learning_rate: float  # peak of the schedule
    initialize: Callable[[], None]  # sets the first weights again


class WarmupCosine(keras.optimizers.schedules.LearningRateSchedule):
    """A rate that rises from a tenth for 2 % of the steps, then decays along a cosine to a tenth.

    Loshchilov and Hutter 2017, arXiv:1608.03983. `steps` and `peak` are variables, so that the traced
    training step serves another schedule, too; Keras's CosineDecay fixes them.
    """

    def __init__(self):
        self.steps, self.peak = tf.Variable(1.0), tf.Variable(0.0)

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        warm_up = tf.maximum(1.0, tf.floor(self.steps / 50))
        rise = tf.cast(step, tf.float32) / warm_up
        fall = (tf.cast(step, tf.float32) - warm_up) / tf.maximum(1.0, self.steps - warm_up)
        share = tf.where(rise < 1, rise, 0.5 + 0.5 * tf.cos(math.pi * tf.clip_by_value(fall, 0.0, 1.0)))
        return self.peak * (0.1 + 0.9 * share)


def fit(
    task: Task, checkpoint: Checkpoint, budget: TimeBudget, callbacks: Sequence[keras.callbacks.Callback] = ()
) -> None:
    """Train with Adam from the checkpoint to the goal: all iterations, or the epochs that fit the time.

    All random numbers depend on the seed, the epoch and the step, so a resumed training gives
    bit-identical results. Weights are saved after each iteration and every 45 s, or less often if that
    took more than 2 % of the time or wrote more than 0.95 MB/s; at most 8 minutes apart. Ctrl-C and
    SIGTERM end it after the current epoch. An exploding loss resumes from the last save, or starts
    again, at half the rate.

    The network of `checkpoint` shares the weights of the model. `callbacks` run after an epoch was saved.

    Raises:
        UserError: the loss explodes at an eighth of the rate, too.
        Stopped: by Ctrl-C or SIGTERM.
    """
    training, settings = task.training, checkpoint.run.settings
    progress = checkpoint.state.of(training.key)
    if not settings["minutes"]:
        progress.goal = training.epochs(settings)
    if progress.goal and progress.epochs >= progress.goal:
        print(f"{training.label}: all {progress.goal:,} epochs are already trained", flush=True)
        return
    rates = compile_model(task.model)
    if not progress.goal:
        _set_goal(task, progress, rates, budget, settings["minutes"])
    goal = progress.goal
    if progress.epochs or progress.steps:
        print(f"{training.label}: resuming at epoch {progress.epochs + 1:,} of {progress.last:,}", flush=True)
    budget.start(training)
    with control.StopOnSignal() as stop:
        while True:
            rate = task.learning_rate * 0.5**progress.halvings
            rates.peak.assign(rate)
            try:
                return _fit_from_checkpoint(task, checkpoint, rates, budget, stop, callbacks)
            except FloatingPointError:
                failed, halvings = progress.epochs + 1, progress.halvings + 1
            if halvings > _HALVINGS:
                key = "generator-rate" if training.kind == "generator" else "learning-rate"
                raise UserError(
                    f"{training.label}: the loss exploded at epoch {failed:,}, at a learning rate of "
                    f"{rate:g} after {_HALVINGS} halvings; {key} is {settings[key]:g}: lower it"
                )
            checkpoint.restore(task.initialize)
            progress = checkpoint.state.of(training.key)
            progress.halvings, progress.goal = halvings, goal
            print(
                f"{training.label}: the loss exploded at epoch {failed:,}; resuming from epoch "
                f"{progress.epochs + 1:,} at half the learning rate: {rate / 2:g}",
                flush=True,
            )


def _set_goal(task, progress, rates, budget, minutes):
    """Set the goal to the epochs that fit the time left of `minutes`; it stays 0 if none does."""
    limit = functools.partial(budget.seconds_for, task.training)
    fitting = epochs_within(limit, task, rates)
    message = f"{fitting:,} epochs fit into {duration(limit())}"
    if fitting:
        progress.goal = progress.epochs + fitting
    else:
        message = (
            f"no time is left of the {minutes:g} minutes; it trains one epoch, so that there are clips. "
            f"{RUN_AGAIN}, or raise minutes"
        )
    print(f"{task.training.label}: {message}", flush=True)


def _fit_from_checkpoint(task, checkpoint, rates, budget, stop, callbacks):
    """Run fit from the checkpoint on; FloatingPointError if the loss explodes."""
    model, training, state = task.model, task.training, checkpoint.state
    progress = state.of(training.key)
    data = EpochBatches(task.batches, progress.epochs, model.distribute_strategy.num_replicas_in_sync)
    first = progress.epochs * data.parts + progress.steps // len(data)
    restart(model, rates, progress.last * data.parts * len(data))
    for variable, value in zip(model.optimizer.variables, state.moments.pop(training.key, []), strict=False):
        variable.assign(value)
    model.optimizer.iterations.assign(first * len(data))
    best = min((loss for _, _, loss in state.history.get(training.key, [])), default=math.inf)
    run_left = functools.partial(budget.run_left, training)
    with ProgressDisplay(training.label, first / data.parts, progress.last, best, run_left) as display:
        session = control.Session(training, checkpoint, data, budget, stop, display)
        callbacks = [*(callback(session) for callback in control.CALLBACKS), *callbacks]
        data.fit(model, initial_epoch=first, epochs=progress.last * data.parts, callbacks=callbacks)


def compile_model(model: keras.Model) -> WarmupCosine:
    """Compile with Adam and return its learning-rate schedule, which `restart` sets."""
    rates, devices = WarmupCosine(), model.distribute_strategy.num_replicas_in_sync
    with model.distribute_strategy.scope():
        model.compile(fast.Adam(rates, global_clipnorm=_CLIP / devices), loss="mse")
        model.optimizer.build(model.trainable_variables)
    return rates


def restart(model: keras.Model, rates: WarmupCosine, steps: int) -> None:
    """Reset the optimizer of a compiled model, with a schedule of `steps` steps."""
    rates.steps.assign(steps)
    for variable in model.optimizer.variables:
        variable.assign(np.zeros(variable.shape, variable.dtype))


def epochs_within(limit: Callable[[], float], task: Task, rates: WarmupCosine) -> int:
    """Epochs that fit into the seconds of `limit`, from a few steps at a learning rate of 0."""
    restart(task.model, rates, 1000)
    rates.peak.assign(0.0)
    task.batches(8)  # traces what the batches are made with
    making = []
    for epoch in (0, 1):  # some are made every eighth epoch only
        started = time.monotonic()
        batches = task.batches(epoch)
        making.append(time.monotonic() - started)
    training_seconds = len(batches) * step_seconds(task.model, batches[:4])
    return int(limit() / (training_seconds + making[0] / 8 + making[1]))


def step_seconds(model: keras.Model, batches: list) -> float:
    """Measured seconds of a training step of a compiled model; the first epoch of three traces."""
    data = EpochBatches(lambda epoch: batches, devices=model.distribute_strategy.num_replicas_in_sync)
    steps, ends = len(data), []
    clock = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: ends.append(time.monotonic())
    )
    data.fit(model, epochs=3, callbacks=[clock])
    return float(np.median(np.diff(ends[steps - 1 :])))
