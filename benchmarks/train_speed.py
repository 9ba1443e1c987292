"""Seconds per epoch of the three trainings: ours, stock Keras, PyTorch, and the machine's limit.

All train on the song of the settings. Short epochs are measured several at a time, after one to warm up.

ours: `training.fit` as in a run, without saving.
steps: the same batches through train_on_batch in a plain loop; fit/steps is the overhead of fit.
stock_batch1: stock layers, model.fit, batch 1, RMSprop, windows as long as a section; scaled.
stock_same_batch: stock layers, model.fit, our batch, Adam.
torch: the same layers, batches and optimizer, fp32 and bf16 (pip install -r requirements-bench.txt).
limit: the matrix products of an epoch at the speed of a 2048 x 2048 product, fp32 and bf16.
Only ours and steps clip gradients.
"""

import importlib.util
import itertools
import math
import sys
import time
from collections.abc import Callable
from statistics import mean
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
TORCH = {"torch_fp32": False, "torch_bf16": True} if importlib.util.find_spec("torch") else {}
ENDLESS = ["ae-epoch=1000000", "lstm-epoch=1000000"]  # no training reaches its goal


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
    with mock.patch.object(fast, "LSTM", keras.layers.LSTM):
        networks = model.build(settings)
    network = getattr(networks, task.model.name.replace("-", "_"))
    for layer, other in zip(network.layers, task.model.layers, strict=True):
        layer.trainable = other.trainable
    network.compile(optimizer=optimizer, loss="mse")
    return network


def torch_measure(network: keras.Model, batches: list, epochs: int, autocast: bool) -> Callable[[], float]:
    """Measurement of the seconds per epoch of `batches` with the layers of `network` in PyTorch."""
    import torch

    new = {
        "Dense": lambda layer: torch.nn.Linear(*layer.kernel.shape),
        "Dropout": lambda layer: torch.nn.Dropout(layer.rate),
        "ELU": lambda layer: torch.nn.ELU(),
        "LSTM": lambda layer: torch.nn.LSTM(layer.units, layer.units, batch_first=True),
    }
    parts = torch.nn.ModuleList([new[type(layer).__name__](layer) for layer in network.layers])
    for part, layer in zip(parts, network.layers, strict=True):
        part.requires_grad_(layer.trainable)
    trained = [weight for weight in parts.parameters() if weight.requires_grad]
    optimizer = torch.optim.Adam(trained, 1e-4, fused=True)

    def train():
        for values, targets in (map(torch.from_numpy, batch) for batch in batches * epochs):
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                for part in parts:
                    values = part(values)
                    values = values[0] if isinstance(values, tuple) else values
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(values.float(), targets).backward()
            optimizer.step()

    train()
    return lambda: common.seconds(train) / epochs


def flops_per_frame(network: keras.Model) -> int:
    """Floating-point operations of a training step's matrix products: forward, and for the gradients."""
    flops, trained_before = 0, False
    for layer in network.layers:
        for weight in (weight for weight in layer.weights if len(weight.shape) == 2):
            input_gradient = trained_before or (layer.trainable and weight.name == "recurrent_kernel")
            flops += 2 * (1 + layer.trainable + input_gradient) * math.prod(weight.shape)
        trained_before |= bool(layer.trainable_weights)
    return flops


def measures(task: Task, checkpoint: Checkpoint, budget: TimeBudget) -> dict[str, Callable[[], float]]:
    """Name -> measurement of the seconds per epoch."""
    settings, batches = checkpoint.run.settings, task.batches(0)
    epochs = our_epochs = math.ceil(MIN_STEPS / len(batches))
    if task.training.kind == "generator":
        our_epochs = lstm.RESAMPLE_EVERY
    starts = itertools.count(10**5, 2 * lstm.RESAMPLE_EVERY)  # epochs that ours does not reach
    x, y = (np.concatenate(arrays) for arrays in zip(*batches, strict=True))
    blocks = settings["block-count"] - settings["overlap"] + 1
    one = [a[:16] if a.ndim == 2 else a.reshape(1, -1, a.shape[-1])[:, :blocks] for a in (x, y)]
    flops = flops_per_frame(task.model) * x.size // x.shape[-1]

    def ours():
        last = our_epochs * parts_of(len(batches))
        clock = Clock(lambda clock: len(clock.epochs) > last)
        with fast.released_custom_gradients(), mock.patch.object(checkpoint, "save"):
            fit(task, checkpoint, budget, [clock])  # resumes after the previous call
        return sum(clock.epochs[1:]) / our_epochs

    def train(epoch):
        for inputs, targets in task.batches(epoch):
            task.model.train_on_batch(inputs, targets)

    def steps():
        start = next(starts)
        with fast.released_custom_gradients():
            seconds = [common.seconds(train, start + epoch) for epoch in range(1 + our_epochs)]
        return mean(seconds[1:])

    def fit_stock(optimizer, arrays, size, epochs):
        network = stock(task, settings, optimizer)

        def measure():
            clock = Clock()
            network.fit(*arrays, size, 1 + epochs, verbose=0, callbacks=[clock])
            return mean(clock.epochs[1:]) * x.size / arrays[0].size

        return measure

    def multiply(dtype):
        matrices = [tf.cast(tf.random.normal([2048, 2048]), dtype) for _ in range(2)]
        product = tf.function(tf.matmul)
        return lambda: common.seconds(product, *matrices) * flops / (2 * 2048**3)

    result = {"ours": ours, "steps": steps, "stock_batch1": fit_stock("rmsprop", one, 1, 1)}
    result["stock_same_batch"] = fit_stock("adam", (x, y), len(batches[0][0]), epochs)
    for name, autocast in TORCH.items():
        try:
            result[name] = torch_measure(task.model, batches, epochs, autocast)
        except RuntimeError as error:  # not every CPU has bf16 for every layer
            print(f"{task.training.label}, {name} left out: {error}", file=sys.stderr)
    return result | {"limit_fp32": multiply("float32"), "limit_bf16": multiply("bfloat16")}


def main() -> None:
    """Measure, print the table, write the figures."""
    options, figures = common.arguments(__doc__), []

    def compare(task, checkpoint, budget):
        found = common.medians(measures(task, checkpoint, budget), options.repeats)
        row = {"training": task.training.kind, **{f"{name}_s": found[name] for name in found}}
        row["fit/steps"] = found["ours"] / found["steps"]
        row["ours/limit"] = found["ours"] / min(found["limit_fp32"], found["limit_bf16"])
        row["stock/ours"] = found["stock_same_batch"] / found["ours"]
        if torches := [found[name] for name in found if "torch" in name]:
            row["torch/ours"] = min(torches) / found["ours"]
        figures.append(row)

    common.run_stages([*options.settings, *ENDLESS], compare, autoencoder, lstm)
    common.report(figures, options.json)


if __name__ == "__main__":
    main()
