"""Keras callbacks that control a training: batches, saving, signals, time limit, progress."""

import contextlib
import math
import signal
import time
from typing import TYPE_CHECKING

from joanna.backend import keras
from joanna.checkpoint import Checkpoint
from joanna.errors import Stopped
from joanna.progress import Progress
from joanna.resources import TimeBudget
from joanna.run import Run, Training
from joanna.settings import schedule

if TYPE_CHECKING:
    from joanna.training import EpochBatches

_SECONDS_BETWEEN_SAVES = 45
_EXPLODED = 100.0  # times the variance of the song's normalized frames


class PrepareEpoch(keras.callbacks.Callback):
    """Prepares the batches of each epoch before it starts."""

    def __init__(self, data: "EpochBatches"):
        super().__init__()
        self._data = data

    def on_epoch_begin(self, epoch, logs=None):
        """Select the batches."""
        self._data.select(epoch)


class SeedDropout(keras.callbacks.Callback):
    """Seeds dropout before each step from the run's seed, the epoch and the step alone."""

    def __init__(self, run: Run, training: Training, data: "EpochBatches"):
        super().__init__()
        self._run, self._data, self._key = run, data, f"{training.component} {training.key}"

    def on_train_begin(self, logs=None):
        """Find the seed generators of the dropout layers."""
        layers = [layer for layer in self.model.layers if isinstance(layer, keras.layers.Dropout)]
        self._states = [layer.seed_generator.state for layer in layers if layer.rate]

    def on_epoch_begin(self, epoch, logs=None):
        """Find the step that the epoch starts at."""
        self._epoch, self._first = self._data.position(epoch)

    def on_train_batch_begin(self, batch, logs=None):
        """Seed the layers."""
        if self._states:
            rng = self._run.rng(self._key, "dropout", self._epoch, self._first + batch)
            for state in self._states:
                state.assign(rng.integers(0, 2**31, size=state.shape))


class ExplodingLoss(keras.callbacks.Callback):
    """Raises FloatingPointError when the loss is not a number or far above the variance."""

    def on_train_batch_end(self, batch, logs=None):
        """Check the loss, averaged over the epoch so far."""
        if not logs["loss"] <= _EXPLODED:
            raise FloatingPointError


class TimeLimit(keras.callbacks.Callback):
    """Ends a training that is slower than measured, at the end of the epoch in which its time is over."""

    def __init__(
        self, checkpoint: Checkpoint, training: Training, data: "EpochBatches", budget: TimeBudget
    ):
        super().__init__()
        self._state, self._training = checkpoint.state, training
        self._data, self._budget = data, budget

    def on_epoch_end(self, epoch, logs=None):
        """Lower the goal to the epochs trained; SaveProgress then saves."""
        progress = self._state.of(self._training.key)
        epochs, step = self._data.position(epoch + 1)
        if not step and epochs < progress.goal and self._budget.is_over():
            print(
                f"{self._training.label}: slower than measured, ends after epoch {epochs:,}", flush=True
            )
            progress.goal, self.model.stop_training = epochs, True


class StopOnSignal(keras.callbacks.Callback):
    """Ends the training after the current epoch when Ctrl-C or SIGTERM arrives.

    A context manager: signals are caught within it. A second signal stops at once.

    Attributes:
        signal: number of the signal; 0: none.
    """

    def __enter__(self):
        self.signal = 0
        self._handlers = {
            number: signal.signal(number, self._catch) for number in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def __exit__(self, *_):
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _catch(self, number, frame):
        if self.signal:
            raise Stopped(number)
        self.signal = number
        print("\nstopping after this epoch; once more stops at once", flush=True)

    def check(self) -> None:
        """Raise Stopped if a signal has arrived."""
        if self.signal:
            raise Stopped(self.signal)

    def on_epoch_end(self, epoch, logs=None):
        """Stop; SaveProgress has saved."""
        self.check()


class SaveProgress(keras.callbacks.Callback):
    """Records each epoch in the checkpoint and saves it.

    It saves at the end of an epoch: after each iteration, if the last save is 45 s ago, if the training
    is being stopped, and at the end.
    """

    def __init__(
        self, checkpoint: Checkpoint, training: Training, data: "EpochBatches", stop: StopOnSignal
    ):
        super().__init__()
        self._checkpoint, self._training = checkpoint, training
        self._data, self._stop = data, stop
        settings = checkpoint.run.settings
        self._iteration = math.inf if settings["minutes"] else schedule(settings, training.stage)[0]

    def on_train_begin(self, logs=None):
        """Start the clock; save a new training, so that it can be resumed from its start."""
        history = self._checkpoint.state.history.setdefault(self._training.key, [])
        self._trained = history[-1][0] if history else 0.0
        self._started = self._saved = time.monotonic()
        if self._checkpoint.is_new:
            self._save()

    def on_epoch_end(self, epoch, logs=None):
        """Record the epoch; save if it is time."""
        state, now = self._checkpoint.state, time.monotonic()
        progress = state.of(self._training.key)
        progress.epochs, progress.steps = self._data.position(epoch + 1)
        row = [self._trained + now - self._started, (epoch + 1) / self._data.parts, logs["loss"]]
        state.history[self._training.key].append(row)
        iteration_ended = not progress.steps and progress.epochs % self._iteration == 0
        training_ended = not progress.steps and progress.epochs == progress.goal
        overdue = now - self._saved > _SECONDS_BETWEEN_SAVES
        if iteration_ended or training_ended or overdue or self._stop.signal:
            self._save()

    def _save(self):
        variables = self.model.optimizer.variables
        self._checkpoint.save(self._training.key, [variable.numpy() for variable in variables])
        self._saved = time.monotonic()


class ShowProgress(keras.callbacks.Callback):
    """Shows epoch, loss and the time left. A context manager: the display ends with it."""

    def __init__(
        self, checkpoint: Checkpoint, training: Training, data: "EpochBatches", budget: TimeBudget
    ):
        super().__init__()
        self._state, self._training = checkpoint.state, training
        self._data, self._budget = data, budget

    def __enter__(self):
        progress = self._state.of(self._training.key)
        losses = [row[2] for row in self._state.history.get(self._training.key, [])]

        def run_left(seconds, seconds_per_epoch):
            return self._budget.run_left(self._training, seconds, seconds_per_epoch)

        start = progress.epochs + progress.steps / (len(self._data) * self._data.parts)
        best = min(losses, default=math.inf)
        self._resources = contextlib.ExitStack()
        display = Progress(self._training.label, start, progress.goal, best, run_left)
        self._display = self._resources.enter_context(display)
        return self

    def __exit__(self, *error):
        self._resources.__exit__(*error)

    def on_epoch_end(self, epoch, logs=None):
        """Update the display and the time budget."""
        self._budget.epoch_finished(self._training)
        goal = self._state.of(self._training.key).goal
        self._display.update((epoch + 1) / self._data.parts, logs["loss"], goal)


class EpochTimer(keras.callbacks.Callback):
    """Measures epochs.

    Attributes:
        seconds: of each epoch.
    """

    def on_train_begin(self, logs=None):
        """Start."""
        self.seconds = []

    def on_epoch_begin(self, epoch, logs=None):
        """Start the clock."""
        self._started = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        """Stop the clock."""
        self.seconds.append(time.monotonic() - self._started)
