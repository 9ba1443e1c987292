"""Seconds per epoch of the three trainings on the song of the settings, after an epoch to warm up.

ours: `training.fit` as in a run, without saving; mean of eight epochs.
steps: the same batches through train_on_batch in a plain loop, without the overhead of fit.
stock_batch1: stock layers, model.fit, batch 1, RMSprop, windows as long as a section; scaled.
stock_same_batch: stock layers, model.fit, our batch, Adam.
torch: the same layers, batches and optimizer, fp32 and bf16 (pip install -r requirements-bench.txt).
limit: the matrix products of an epoch at the speed of a 2048 x 2048 product, fp32 and bf16.
Only ours and steps clip gradients.
"""

import importlib.util
import sys
import time
from collections.abc import Callable
from functools import partial
from unittest import mock

import common
import numpy as np

import autoencoder
import lstm
from joanna.backend import keras
from joanna.backend import tensorflow as tf
from joanna.batches import parts_of
from joanna.checkpoint import Checkpoint
from joanna.resources import TimeBudget
from joanna.training import Task, fit

TORCH = {"torch_fp32": False, "torch_bf16": True} if importlib.util.find_spec("torch") else {}


class Clock(keras.callbacks.Callback):
    """Seconds of each Keras epoch; `stop`, which is not timed, tells whether it is the last."""

    def __init__(self, stop: Callable[["Clock"], bool] = lambda clock: False):
        super().__init__()
        self._stop = stop
        self.epochs: list[float] = []

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.epochs.append(time.perf_counter() - self._started)
        self.model.stop_training = self._stop(self)
        self._started = time.perf_counter()


def stock(task: Task, settings: dict, optimizer: str) -> keras.Model:
    """The model of the task with Keras's own LSTM layers, compiled."""
    network = getattr(common.stock_networks(settings), task.model.name.replace("-", "_"))
    for layer, other in zip(network.layers, task.model.layers, strict=True):
        layer.trainable = other.trainable
    network.compile(optimizer=optimizer, loss="mse")
    return network


def torch_measure(network: keras.Model, batches: list, autocast: bool) -> Callable[[], float]:
    """Measurement of the seconds per epoch of `batches` with the layers of `network` in PyTorch."""
    import torch

    new = {
        "Dense": lambda layer: torch.nn.Linear(*layer.kernel.shape),
        "Dropout": lambda layer: torch.nn.Dropout(layer.rate),
        "ELU": lambda layer: torch.nn.ELU(),
        "LSTM": lambda layer: torch.nn.LSTM(layer.units, layer.units, batch_first=True),
    }
    layers = [new[type(layer).__name__](layer).requires_grad_(layer.trainable) for layer in network.layers]
    optimizer = torch.optim.Adam(torch.nn.ModuleList(layers).parameters(), 1e-4, fused=True)

    def train():
        for values, targets in (map(torch.from_numpy, batch) for batch in batches):
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                for layer in layers:
                    output = layer(values)
                    values = output[0] if isinstance(output, tuple) else output  # of an LSTM
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(values.float(), targets).backward()
            optimizer.step()

    train()
    return lambda: common.seconds(train)


def measures(task: Task, checkpoint: Checkpoint, budget: TimeBudget) -> dict[str, Callable[[], float]]:
    """Name -> measurement of the seconds per epoch."""
    settings, batches = checkpoint.run.settings, task.batches(0)
    epochs = lstm.RESAMPLE_EVERY  # the generator predicts its inputs in one of so many
    x, y = (np.concatenate(arrays) for arrays in zip(*batches, strict=True))
    blocks = settings["block-count"] - settings["overlap"] + 1
    one = [a[:16] if a.ndim == 2 else a.reshape(1, -1, a.shape[-1])[:, :blocks] for a in (x, y)]
    flops = common.training_flops(task.model) * x.size // x.shape[-1]

    def ours():
        last = epochs * parts_of(len(batches))
        clock = Clock(lambda clock: len(clock.epochs) > last)
        with mock.patch.object(checkpoint, "save"):
            fit(task, checkpoint, budget, [clock])  # resumes after the previous call
        return sum(clock.epochs[1:]) / epochs

    def train(epoch):
        for inputs, targets in task.batches(epoch):
            task.model.train_on_batch(inputs, targets)

    def steps():  # epochs that ours does not reach
        seconds = [common.seconds(train, 10**5 + epoch) for epoch in range(1 + epochs)]
        return sum(seconds[1:]) / epochs

    def fit_stock(network, arrays, size):
        clock = Clock()
        network.fit(*arrays, size, 2, verbose=0, callbacks=[clock])
        return clock.epochs[1] * x.size / arrays[0].size

    def multiply(dtype):
        matrix = tf.cast(tf.random.normal([2048, 2048]), dtype)
        return common.seconds(tf.matmul, matrix, matrix) * flops / (2 * 2048**3)

    result = {"ours": ours, "steps": steps}
    result["stock_batch1"] = partial(fit_stock, stock(task, settings, "rmsprop"), one, 1)
    result["stock_same_batch"] = partial(fit_stock, stock(task, settings, "adam"), (x, y), len(batches[0][0]))
    for name, autocast in TORCH.items():
        try:
            result[name] = torch_measure(task.model, batches, autocast)
        except RuntimeError as error:  # not every CPU has bf16 for every layer
            print(f"{task.training.label}, {name} left out: {error}", file=sys.stderr)
    return result | {f"limit_{dtype}": partial(multiply, dtype) for dtype in ("float32", "bfloat16")}


def main() -> None:
    """Measure and print the table."""
    options, figures = common.arguments(__doc__), []

    def compare(task, checkpoint, budget):
        found = common.medians(measures(task, checkpoint, budget), options.repeats)
        figures.append({"training": task.training.kind, **found})

    words = [*options.settings, "ae-epoch=1000000", "lstm-epoch=1000000"]  # no training reaches its goal
    common.run_stages(words, compare, "magnitude", autoencoder, lstm)
    common.report(figures)


if __name__ == "__main__":
    main()
