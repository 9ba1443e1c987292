"""The only training loop, and the normalised error."""

import math
import signal
import time
from collections.abc import Callable

import numpy as np

from joanna import fast
from joanna.backend import keras
from joanna.backend import tensorflow as tf
from joanna.checkpoint import Checkpoint
from joanna.errors import Stopped, UserError
from joanna.progress import Progress, duration

_SECONDS_BETWEEN_SAVES = 45
# Largest norm of a step's gradient (Pascanu, Mikolov and Bengio 2013, arXiv:1211.5063). The first steps'
# would else keep Adam's later ones small: the spliced layers' error is 0.009 with it, 0.086 without.
_CLIP = 0.02
_OVERTIME = 1.25  # times the limit, when the machine gets slower than it was measured
_EXPLODED = 100.0  # times the scaled song's variance
_HALVINGS = 3


def train(
    model: keras.Model,
    batches: Callable[[int], list],
    checkpoint: Checkpoint,
    name: str,
    label: str,
    epochs: int,
    iterations: int,
    learning_rate: float,
    limit: Callable[[], float] | None = None,
    watch=None,
) -> None:
    """Train `model` with Adam and a cosine schedule over all iterations x epochs.

    It goes on where the checkpoint is, and all that is random follows from the seed and the place, so a
    training that was stopped ends as one that was not, bit for bit. Ctrl-C and SIGTERM end it after the
    step, saved. A loss that explodes sends it back to what was saved last, at half the rate.

    Args:
        model: maps the batches' inputs to their targets; its trainable weights change.
        batches: epoch number -> list of (inputs, targets), the same number each epoch.
        checkpoint: holds a network that shares the model's weights.
        name: which of the checkpoint's trainings this is.
        label: what the progress lines call it.
        epochs: epochs an iteration.
        iterations: iterations in all; saved after each, and every 45 s.
        learning_rate: the schedule's highest.
        limit: gives the seconds it may take; then as many epochs as fit into them are trained.
        watch: a `watch.Watch` that has begun to listen to this training.

    Raises:
        UserError: the loss explodes at an eighth of the rate, too.
        Stopped: by Ctrl-C or SIGTERM.
    """
    place = checkpoint.of(name)
    if limit and not place["goal"]:
        place["goal"] = _epochs_within(limit, model, batches)
        print(f"{label}: {place['goal']:,} epochs fit into {duration(limit())}", flush=True)
    elif not limit:
        place["goal"] = epochs * iterations
    total = place["goal"]
    epochs = total if limit else epochs
    if place["epochs"] >= total:
        print(f"{label}: all {total:,} epochs are trained already", flush=True)
        return
    if place["epochs"] or place["steps"]:
        print(f"{label}: going on at epoch {place['epochs'] + 1:,} of {total:,}", flush=True)
    end = time.monotonic() + _OVERTIME * limit() if limit else math.inf
    with _Stop() as stop:
        while True:
            rate = learning_rate * 0.5 ** place["halvings"]
            try:
                _run(model, batches, checkpoint, name, label, epochs, rate, stop, watch, end)
                return
            except FloatingPointError:
                failed, halvings = place["epochs"] + 1, place["halvings"] + 1
            if halvings > _HALVINGS:
                raise UserError(
                    f"{label}: the loss exploded at epoch {failed:,}, at a learning rate of {rate:g} "
                    f"after {_HALVINGS} halvings; lower learning-rate or generator-rate"
                )
            checkpoint.load()
            place = checkpoint.of(name)
            place.update(halvings=halvings, goal=total)
            print(
                f"{label}: the loss exploded at epoch {failed:,}; back to epoch "
                f"{place['epochs'] + 1:,}, saved last, at half the learning rate: {rate / 2:g}",
                flush=True,
            )


def _epochs_within(limit, model, batches):
    """How many epochs fit into the limit, by a few timed steps at a learning rate of 0."""
    compile_for(model, 1000, 0.0, batches)
    batches(8)  # traces what the batches are made with
    made, seconds = [], []
    for epoch in (0, 1):  # some of it is made every eighth epoch only
        began = time.monotonic()
        todo = batches(epoch)
        made.append(time.monotonic() - began)
    for batch in {len(batch[0]): batch for batch in todo}.values():
        _step(model, batch, np.random.default_rng(0))  # traces the step for each size
    for _ in range(3):
        began = time.monotonic()
        _step(model, todo[0], np.random.default_rng(0))
        seconds.append(time.monotonic() - began)
    epoch = len(todo) * float(np.median(seconds)) + made[0] / 8 + made[1]
    return max(1, int(limit() / epoch))


def _step(model, batch, draws):
    """Train on a batch, with dropout seeded by `draws`; the loss, averaged over the epoch so far."""
    for layer in model.layers:
        if getattr(layer, "seed_generator", None):
            state = layer.seed_generator.state
            state.assign(draws.integers(0, 2**31, size=state.shape))
    return float(model.train_on_batch(*_spread(model, *batch)))


def _run(model, batches, checkpoint, name, label, epochs, rate, stop, watch, end):
    """Train from the checkpoint's place to the end; FloatingPointError if the loss explodes."""
    place = checkpoint.of(name)
    start, done, total = place["epochs"], place["steps"], place["goal"]
    first = batches(start)
    steps = len(first)
    if model.compiled:
        _begin(model, total * steps, rate)
    else:
        compile_for(model, total * steps, rate, batches)
    variables = model.optimizer.variables
    for variable, value in zip(variables, checkpoint.moments.pop(name, []), strict=False):
        variable.assign(value)
    model.optimizer.iterations.assign(start * steps + done)

    def save():
        checkpoint.save(name, [variable.numpy() for variable in variables])
        return time.monotonic()

    history = checkpoint.history.setdefault(name, [])
    trained = history[-1][0] if history else 0.0
    began = saved = time.monotonic()
    if checkpoint.afresh:
        saved = save()
    best = min((row[2] for row in history), default=math.inf)
    left = watch.left if watch else lambda seconds, epoch: seconds
    with Progress(label, start + done / steps, total, best, left) as progress:
        for epoch in range(start, total):
            model.reset_metrics()
            todo = first if epoch == start else batches(epoch)
            for step in range(place["steps"], steps):
                draws = epoch_rng(checkpoint.settings["random-seed"], label, "dropout", epoch, step)
                loss = _step(model, todo[step], draws)
                if not loss <= _EXPLODED:
                    raise FloatingPointError
                whole = step + 1 == steps
                place["epochs"], place["steps"] = (epoch + 1, 0) if whole else (epoch, step + 1)
                now = time.monotonic()
                if whole and now > end and epoch + 1 < total:
                    print(f"{label}: slower than measured, ends after epoch {epoch + 1:,}", flush=True)
                    place["goal"] = total = epoch + 1
                if whole:
                    history.append([trained + now - began, epoch + 1, loss])
                due = now - saved > _SECONDS_BETWEEN_SAVES or (
                    whole and ((epoch + 1) % epochs == 0 or epoch + 1 == total)
                )
                if due or stop.asked:
                    saved = save()
                if stop.asked:
                    raise Stopped(stop.asked)
            progress.update(epoch + 1, loss, total)
            if watch:
                watch.epoch(epoch + 1, loss, model.optimizer)
            if stop.asked and epoch + 1 == total:  # after the last step, and saved
                raise Stopped(stop.asked)
            if epoch + 1 == total:
                break


class _Stop:
    """Within it Ctrl-C and SIGTERM are noted in `asked`, the signal's number; a second stops at once."""

    def __enter__(self):
        self.asked = 0
        self._before = {
            number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def _ask(self, number, frame):
        if self.asked:
            raise Stopped(number)
        self.asked = number
        print("\nstopping after this step; once more stops at once", flush=True)

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)


class _Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """A rate that rises for 2 % of the steps, then falls along a cosine (Loshchilov and Hutter 2017,
    arXiv:1608.03983), from a tenth to a tenth. `steps` and `highest` may be set after tracing."""

    def __init__(self):
        self.steps, self.highest = tf.Variable(1.0), tf.Variable(0.0)

    def __call__(self, step):
        warm_up = tf.maximum(1.0, tf.floor(self.steps / 50))
        rise = tf.cast(step, tf.float32) / warm_up
        fall = (tf.cast(step, tf.float32) - warm_up) / tf.maximum(1.0, self.steps - warm_up)
        share = tf.where(rise < 1, rise, 0.5 + 0.5 * tf.cos(math.pi * tf.clip_by_value(fall, 0.0, 1.0)))
        return self.highest * (0.1 + 0.9 * share)


def compile_for(
    model: keras.Model,
    steps: int,
    learning_rate: float,
    batches: Callable[[int], list] | None = None,
) -> None:
    """Compile with Adam; its rate warms up over 2 % of `steps`, then falls along a cosine.

    `batches`, as in `train`, is needed on several devices only.
    """
    with model.distribute_strategy.scope():
        model.compile(optimizer=fast.Adam(_Schedule(), global_clipnorm=_CLIP), loss="mse")
        model.optimizer.build(model.trainable_variables)
    _begin(model, steps, learning_rate)
    if model.distribute_strategy.num_replicas_in_sync > 1:
        model.test_on_batch(*batches(0)[0])  # Keras cannot build the loss from shares of a batch


def _begin(model, steps, learning_rate):
    """Put the optimizer of a compiled model back to its beginning, with this schedule ahead of it."""
    schedule = model.optimizer._learning_rate
    schedule.steps.assign(steps)
    schedule.highest.assign(learning_rate)
    for variable in model.optimizer.variables:
        variable.assign(np.zeros(variable.shape, variable.dtype))


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


def epoch_rng(seed: int, *place) -> np.random.Generator:
    """A generator that depends only on the seed and on words and numbers that name a place."""
    return np.random.default_rng([seed, *"/".join(map(str, place)).encode()])


def normalised_error(frames: np.ndarray, predicted: np.ndarray) -> float:
    """Mean squared error of scaled frames over their variance; 0 is perfect, 1 is the mean frame."""
    return float(np.mean(np.square(frames - predicted)) / np.mean(np.square(frames)))
