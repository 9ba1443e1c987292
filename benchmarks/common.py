"""Shared by the benchmarks: arguments, runs in a temporary folder, timing in turns, tables."""

import argparse
import contextlib
import io
import math
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import preprocess
from joanna.run import PROJECT, Run
from joanna.settings import load
from joanna.source import source_path

if TYPE_CHECKING:
    import keras

    from joanna.model import Networks


def arguments(about: str, **options: float | str) -> argparse.Namespace:
    """Words for the settings, --repeats N and further options with their defaults."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("settings", nargs="*", default=["seed"], help="preset, key=value [seed]")
    for name, default in {"repeats": 5, **options}.items():
        parser.add_argument(f"--{name}", type=type(default), default=default, help=f"[{default}]")
    return parser.parse_intermixed_args()


def stock_networks(settings: dict) -> "Networks":
    """The networks with Keras's own LSTM layers."""
    from joanna import fast, model
    from joanna.backend import keras

    with mock.patch.object(fast, "LSTM", keras.layers.LSTM):
        return model.build(settings)


@contextlib.contextmanager
def temporary_run(words: list[str]) -> Iterator[Run]:
    """A run with the preprocessed song of the settings, without previews, time limit and output."""
    words = [*words, "load-weights=False", "minutes=0", "preview-minutes=0", "tensorboard=False"]
    source = source_path(PROJECT, load(words)).resolve()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        run = Run(load([*words, f"source={source}"]), Path(folder))
        preprocess.main(run)
        yield run


def run_stages(words: list[str], measure: Callable, component: str, *stages: ModuleType) -> None:
    """Run stages with measure(task, checkpoint, budget) as the training of a component; no other."""

    def fit(task, checkpoint, budget, callbacks):
        if task.training.component == component:
            measure(task, checkpoint, budget)
        checkpoint.save(task.training.key, [])  # the stages read it

    with temporary_run(words) as run, mock.patch("joanna.training.fit", fit):
        for stage in stages:
            stage.main(run)


def seconds(function: Callable, *arguments: object) -> float:
    """Seconds that a call takes."""
    started = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - started


def run_in_process(function: Callable, *arguments: object) -> None:
    """Call a function in a process of its own, whose memory counts alone and is freed; exit if it fails."""
    process = multiprocessing.get_context("spawn").Process(target=function, args=arguments)
    process.start()
    process.join()
    if process.exitcode:
        sys.exit(process.exitcode)


def run_all_stages(words: list[str], root: Path) -> None:
    """Run the stages that are not up to date, in `root`."""
    import autoencoder
    import generate
    import lstm

    run = Run(load(words), root)
    for stage in (preprocess, autoencoder, lstm, generate):
        stage.main(run)


def training_flops(network: "keras.Model") -> int:
    """Floating-point operations of a training step's matrix products per frame."""
    flops, trained_before = 0, False
    for layer in network.layers:
        for weight in (weight for weight in layer.weights if len(weight.shape) == 2):
            input_gradient = trained_before or (layer.trainable and weight.name == "recurrent_kernel")
            flops += 2 * (1 + layer.trainable + input_gradient) * math.prod(weight.shape)
        trained_before |= bool(layer.trainable_weights)
    return flops


def forward_flops(network: "keras.Model") -> tuple[int, int]:
    """Floating-point operations of the matrix products of LSTM layers and of Dense layers per frame."""
    flops = {"LSTM": 0, "Dense": 0}
    for layer in network.layers:
        for weight in (weight for weight in layer.weights if len(weight.shape) == 2):
            flops[type(layer).__name__] += 2 * math.prod(weight.shape)
    return flops["LSTM"], flops["Dense"]


def generation_flops(predictor: "keras.Model", jobs: list) -> int:
    """Floating-point operations of the matrix products of a frame of each job.

    A frame of part at length L is L rows through the LSTM layers and one through the others, of whole L
    rows through all.
    """
    lstm, dense = forward_flops(predictor)
    return sum(job.length * lstm + (job.length if job.method == "whole" else 1) * dense for job in jobs)


def product_seconds(flops: float) -> float:
    """Seconds that matrix products of so many operations take at the speed of a 2048 x 2048 product now."""
    from joanna.backend import tensorflow as tf

    matrix = tf.ones([2048, 2048])
    times = [seconds(lambda: tf.matmul(matrix, matrix).numpy()) for _ in range(5)]
    return min(times) * flops / (2 * 2048**3)


def medians(measures: dict[str, Callable[[], float]], repeats: int) -> dict[str, float]:
    """Median result of each function, called in turns after one call to warm up."""
    turns = [{name: measure() for name, measure in measures.items()} for _ in range(repeats + 1)]
    return {name: statistics.median(turn[name] for turn in turns[1:]) for name in measures}


def report(figures: list[dict]) -> None:
    """Print rows of figures, each as a column."""
    for name in dict.fromkeys(name for row in figures for name in row):
        cells = (row.get(name, "-") for row in figures)
        texts = (f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in cells)
        print(f"{name:<20}", *(f"{text:>12}" for text in texts))
