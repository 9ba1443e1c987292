"""Keras callbacks that control a training: batches, saving, signals, time limit, progress."""

import math
import signal
import time
from dataclasses import dataclass

import numpy as np

from joanna.backend import keras
from joanna.backend import tensorflow as tf
from joanna.checkpoint import Checkpoint
from joanna.dataset import EpochBatches
from joanna.errors import Stopped
from joanna.progress import ProgressDisplay
from joanna.resources import TimeBudget
from joanna.run import RUN_AGAIN, Training
from joanna.settings import schedule

_SECONDS_BETWEEN_SAVES = 45  # or up to
_MOST_BETWEEN_SAVES = 480  # so that they take
_MAX_SAVING = 0.02  # of the time, and write
_MAX_WRITTEN = 0.95e6  # bytes per second: 10 GB in two hours, with the saves at the ends
_EXPLODED = 100.0  # times the variance of the song's normalized frames


@dataclass
class Session:
    """A call of fit: what its callbacks share."""

    training: Training
    checkpoint: Checkpoint
    data: EpochBatches
    budget: TimeBudget
    stop: "StopOnSignal"
    display: ProgressDisplay

    def __post_init__(self):
        self.progress = self.checkpoint.state.of(self.training.key)
        self.last = self.progress.last
        self.history = self.checkpoint.state.history.setdefault(self.training.key, [])


class SessionCallback(keras.callbacks.Callback):
    """Base class of the callbacks that share a session."""

    def __init__(self, session: Session):
        super().__init__()
        self.session = session


class PrepareEpoch(SessionCallback):
    """Selects the batches, and seeds dropout from random-seed, the epoch and the step alone."""

    def on_train_begin(self, logs: dict | None = None) -> None:
        layers = [layer for layer in self.model.layers if isinstance(layer, keras.layers.Dropout)]
        self._seeds = [layer.seed_generator.state for layer in layers if layer.rate]

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._epoch, self._first_step = self.session.data.select(epoch)

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        if self._seeds:
            training, run = self.session.training, self.session.checkpoint.run
            step = self._first_step + batch
            rng = run.rng(f"{training.component} {training.key}", "dropout", self._epoch, step)
            for seed in self._seeds:
                seed.assign(rng.integers(0, 2**31, size=seed.shape))


class ExplodingLoss(SessionCallback):
    """Raises FloatingPointError when the loss is not a number or far above the variance."""

    def on_train_batch_end(self, batch: int, logs: dict) -> None:
        if not logs["loss"] <= _EXPLODED:  # the mean of the epoch so far
            raise FloatingPointError


class StopOnSignal:
    """Catches Ctrl-C and SIGTERM within a context, which then ends with Stopped.

    `FinishEpoch` ends the training after its epoch; a second signal stops at once.
    """

    def __enter__(self) -> "StopOnSignal":
        self.signal = 0  # the number of the signal
        self._handlers = {each: signal.signal(each, self._catch) for each in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, error: type | None, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if self.signal and not error:  # it arrived during the last preview
            raise Stopped(self.signal)

    def _catch(self, number, frame):
        if self.signal:
            raise Stopped(number)
        self.signal = number
        print("\nstopping after this epoch; press Ctrl-C again to stop now", flush=True)


class FinishEpoch(SessionCallback):
    """Records and shows each epoch; saves after each iteration, every 45 to 480 s, and on a signal.

    Ends the training after the epoch in which a signal arrived, or in which its time was over.
    """

    def on_train_begin(self, logs: dict | None = None) -> None:
        settings, history = self.session.checkpoint.run.settings, self.session.history
        epochs, _ = schedule(settings, self.session.training.stage)
        self._iteration = math.inf if settings["minutes"] else epochs
        self._trained = history[-1][0] if history else 0.0
        self._started = time.monotonic()
        self._next_save = self._started + _SECONDS_BETWEEN_SAVES
        checkpoint = self.session.checkpoint
        if checkpoint.is_new and checkpoint.path.exists():  # else the old weights would be resumed
            self._save(ended=False)

    def on_epoch_end(self, epoch: int, logs: dict) -> None:
        session, progress, now = self.session, self.session.progress, time.monotonic()
        progress.epochs, progress.steps = session.data.position(epoch + 1)
        if not progress.steps and progress.epochs < session.last and session.budget.is_over():
            self._end_early()
        epochs = (epoch + 1) / session.data.parts
        session.history.append([self._trained + now - self._started, epochs, logs["loss"]])
        ended, iterated = epochs == session.last, epochs % self._iteration == 0
        stopping = session.stop.signal  # one that arrives later ends the next epoch
        if ended or iterated or stopping or now > self._next_save:
            self._save(ended)
        if stopping:
            raise Stopped(stopping)
        session.budget.epoch_finished(session.training)
        session.display.update(epochs, logs["loss"], session.last)

    def _end_early(self):
        """End the training now; it stays unfinished with less than half of its epochs."""
        session, epochs = self.session, self.session.progress.epochs
        finished = 2 * epochs >= session.last
        advice = "" if finished else f". {RUN_AGAIN}"
        print(
            f"{session.training.label}: slower than measured, ends after epoch {epochs:,} of "
            f"{session.last:,}{advice}",
            flush=True,
        )
        session.last, session.progress.goal = epochs, epochs if finished else 0
        self.model.stop_training = True

    def _save(self, ended):
        started, checkpoint = time.monotonic(), self.session.checkpoint
        # the generator's first save would drop the moments of the spliced layers
        kept = not (ended and self.session.training.kind == "spliced")
        variables = self.model.optimizer.variables if kept else []
        # arrays that share the memory of the variables
        moments = [np.asarray(tf.convert_to_tensor(variable)) for variable in variables]
        checkpoint.save(self.session.training.key, moments)
        now, written = time.monotonic(), checkpoint.path.stat().st_size
        pauses = _SECONDS_BETWEEN_SAVES, (now - started) / _MAX_SAVING, written / _MAX_WRITTEN
        self._next_save = now + min(max(pauses), _MOST_BETWEEN_SAVES)


CALLBACKS = (PrepareEpoch, ExplodingLoss, FinishEpoch)
