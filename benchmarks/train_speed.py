"""Seconds per epoch of the three trainings: ours, stock Keras, PyTorch, and the machine's limit.

All train on the song of the settings. After an epoch to warm up, several are measured if they are short.

ours: `training.fit` with the callbacks of a run, without saving.
steps: the same batches through train_on_batch, in a plain loop; fit/steps is the overhead of fit.
stock_batch1: stock layers, model.fit, batch 1, RMSprop (windows as long as a section), scaled to an epoch.
stock_same_batch: stock layers, model.fit, our batch, Adam.
torch_fp32, torch_bf16: the same layers, batches and optimizer (pip install -r requirements-bench.txt).
limit_fp32, limit_bf16: the epoch's matrix products, at the speed of a 2048 x 2048 product.

Only ours and steps clip gradients.
"""

import importlib.util
import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import common
import numpy as np

import autoencoder
import lstm
from joanna import fast, model
from joanna.backend import keras
from joanna.backend import tensorflow as tf
from joanna.batches import parts_of
from joanna.checkpoint import Checkpoint
from joanna.resources import TimeBudget
from joanna.training import Task, fit

MIN_STEPS = 6  # per measurement
ENDLESS = ["ae-epoch=1000000", "lstm-epoch=1000000"]  # no training reaches its goal
PRODUCT = 2048  # width of the matrices of the limit
COLUMNS = ["ours", "steps", "stock_batch1", "stock_same_batch", "torch_fp32", "torch_bf16"]
COLUMNS += ["limit_fp32", "limit_bf16"]


class Clock(keras.callbacks.Callback):
    """Ends fit after one epoch to warm up and `epochs` more, each of several Keras epochs (parts)."""

    def __init__(self, epochs: int, parts: int = 1):
        super().__init__()
        self._epochs, self._parts, self._times = epochs, parts, []

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Record the time; stop after the last epoch."""
        self._times.append(time.perf_counter())
        self.model.stop_training = len(self._times) == self._parts * (1 + self._epochs)

    def seconds_per_epoch(self) -> float:
        """Mean of the epochs after the first."""
        return (self._times[-1] - self._times[self._parts - 1]) / self._epochs


def ours(task: Task, checkpoint: Checkpoint, budget: TimeBudget, epochs: int) -> float:
    """Seconds per epoch of a run's training, which resumes after the epochs of the previous call."""
    clock = Clock(epochs, parts_of(len(task.batches(0))))
    with fast.released_custom_gradients(), mock.patch.object(checkpoint, "save"):
        fit(task, checkpoint, budget, [clock])
    return clock.seconds_per_epoch()


def steps(task: Task, first: int, epochs: int) -> float:
    """Seconds per epoch of a plain loop over the batches, from epoch `first` on."""

    def train(epoch):
        for inputs, targets in task.batches(epoch):
            task.model.train_on_batch(inputs, targets)

    train(first)
    return sum(common.seconds(train, first + epoch) for epoch in range(1, 1 + epochs)) / epochs


def stock(task: Task, settings: dict, optimizer: str) -> keras.Model:
    """The model of the task with Keras's own LSTM layers, compiled."""
    with mock.patch.object(fast, "LSTM", keras.layers.LSTM):
        networks = model.build(settings)
    network = getattr(networks, task.model.name.replace("-", "_"))
    for layer, other in zip(network.layers, task.model.layers, strict=True):
        layer.trainable = other.trainable
    network.compile(optimizer=optimizer, loss="mse")
    return network


def torch_epoch(network: keras.Model, batches: list, autocast: bool) -> Callable[[], None]:
    """A function that trains an epoch of `batches` with the layers of `network` in PyTorch."""
    import torch

    parts = torch.nn.ModuleList()
    for layer in network.layers:
        if isinstance(layer, keras.layers.LSTM):
            part = torch.nn.LSTM(layer.units, layer.units, batch_first=True)
        elif isinstance(layer, keras.layers.Dense):
            part = torch.nn.Linear(*layer.kernel.shape)
        else:
            part = torch.nn.Dropout(layer.rate) if hasattr(layer, "rate") else torch.nn.ELU()
        parts.append(part.requires_grad_(layer.trainable))
    trained = [weight for weight in parts.parameters() if weight.requires_grad]
    optimizer = torch.optim.Adam(trained, 1e-4, fused=True)
    tensors = [[torch.from_numpy(array) for array in batch] for batch in batches]

    def train():
        for values, targets in tensors:
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                for part in parts:
                    values = part(values)
                    values = values[0] if isinstance(values, tuple) else values
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(values.float(), targets).backward()
            optimizer.step()

    return train


def torch_measures(task: Task, epochs: int) -> Iterator[tuple[str, Callable[[], float]]]:
    """Names and measurements of PyTorch, as far as it is installed and the CPU suffices."""
    if not importlib.util.find_spec("torch"):
        return
    for name, autocast in (("torch_fp32", False), ("torch_bf16", True)):
        train = torch_epoch(task.model, task.batches(0), autocast)
        try:
            train()
        except RuntimeError as error:  # a CPU without bf16, or a layer without a fallback
            print(
                f"{task.training.kind}, {name}: left out: {str(error).splitlines()[0]}", file=sys.stderr
            )
        else:
            yield name, lambda train=train: sum(common.seconds(train) for _ in range(epochs)) / epochs


def flops_per_frame(network: keras.Model) -> int:
    """Floating-point operations of the matrix products of a training step, per frame.

    Forward and, of trained weights, their gradients; and those of the inputs, if weights before need them.
    """
    flops, trained_before = 0, False
    for layer in network.layers:
        for weight in (weight for weight in layer.weights if len(weight.shape) == 2):
            recurrent = weight.name == "recurrent_kernel" and layer.trainable
            products = 1 + layer.trainable + (trained_before or recurrent)
            flops += 2 * products * int(np.prod(weight.shape))
        trained_before |= bool(layer.trainable_weights)
    return flops


def limit(flops: int, dtype: str) -> Callable[[], float]:
    """A measurement of the seconds that `flops` take in products of large matrices."""
    keras.utils.set_random_seed(0)
    left, right = (tf.cast(tf.random.normal([PRODUCT, PRODUCT]), dtype) for _ in range(2))
    product = tf.function(tf.matmul)
    return lambda: common.seconds(product, left, right) * flops / (2 * PRODUCT**3)


def measures(task: Task, checkpoint: Checkpoint, budget: TimeBudget) -> dict[str, Callable[[], float]]:
    """Name -> measurement of the seconds per epoch."""
    settings, batches = checkpoint.run.settings, task.batches(0)
    epochs = -(-MIN_STEPS // len(batches))
    ours_epochs = lstm.RESAMPLE_EVERY if task.training.kind == "generator" else epochs
    starts = itertools.count(10**5, 2 * lstm.RESAMPLE_EVERY)  # epochs that ours does not reach
    x, y = (np.concatenate(arrays) for arrays in zip(*batches, strict=True))
    frames, size = int(np.prod(x.shape[:-1])), len(batches[0][0])
    shape = (16, 1) if x.ndim == 2 else (1, settings["block-count"] - settings["overlap"] + 1)
    rows = slice(min(int(np.prod(shape)), frames))
    one = [array.reshape(-1, array.shape[-1])[rows] for array in (x, y)]
    one = one if x.ndim == 2 else [array[None] for array in one]
    stock_one, stock_same = stock(task, settings, "rmsprop"), stock(task, settings, "adam")

    def stock_batch1():
        return common.seconds(lambda: stock_one.fit(*one, 1, verbose=0)) * frames / rows.stop

    def stock_same_batch():
        clock = Clock(epochs)
        stock_same.fit(x, y, size, 1 + epochs, verbose=0, callbacks=[clock])
        return clock.seconds_per_epoch()

    flops = flops_per_frame(task.model) * frames
    return {
        "ours": lambda: ours(task, checkpoint, budget, ours_epochs),
        "steps": lambda: steps(task, next(starts), ours_epochs),
        "stock_batch1": stock_batch1,
        "stock_same_batch": stock_same_batch,
        **dict(torch_measures(task, epochs)),
        "limit_fp32": limit(flops, "float32"),
        "limit_bf16": limit(flops, "bfloat16"),
    }


def table(figures: dict[str, dict]) -> list[list[str]]:
    """Rows of the seconds and their ratios."""
    rows = [["s per epoch", *COLUMNS, "fit/steps", "ours/limit", "stock/ours", "torch/ours"]]
    for kind, found in figures.items():
        seconds = [found[f"{name}_s"] for name in COLUMNS]
        fitted, plain, _, same, *torches, limit_fp32, limit_bf16 = seconds
        ratios = [fitted / plain, fitted / min(limit_fp32, limit_bf16), same / fitted]
        cells = ["-" if value is None else f"{value:.3g}" for value in seconds]
        cells += [f"{ratio:.2f}" for ratio in ratios]
        torches = [value for value in torches if value]
        rows.append([kind, *cells, f"{min(torches) / fitted:.2f}" if torches else "-"])
    return rows


def main() -> None:
    """Measure, print the table, write the figures."""
    options, figures = common.parser(__doc__).parse_args(), {}

    def compare(task, checkpoint, budget, callbacks):
        training = task.training
        if training.component == "magnitude":
            found = common.medians(measures(task, checkpoint, budget), options.repeats)
            figures[training.kind] = {f"{name}_s": found.get(name) for name in COLUMNS}
        checkpoint.save(training.key, [])  # for the next stage

    with tempfile.TemporaryDirectory() as folder:
        run = common.preprocessed([*options.settings, *ENDLESS], Path(folder))
        common.run_stages(run, compare, autoencoder, lstm)
    common.report(table(figures), options.json, figures)


if __name__ == "__main__":
    main()
