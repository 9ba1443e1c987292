"""What the benchmarks share: the path to the project, timing in turns, the machine's limit."""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


def parser(about: str) -> argparse.ArgumentParser:
    """--json FILE, --repeats N and words for the settings."""
    result = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument("--json", type=Path, help="write the figures there too")
    result.add_argument("--repeats", type=int, default=5, help="runs of each; their median counts")
    result.add_argument(
        "settings", nargs="*", default=["seed"], help="preset, key=value (default: seed)"
    )
    return result


def build(settings: dict, stock: bool) -> dict:
    """The networks of `model.build`, with Keras's own LSTM layers if `stock`."""
    from joanna import fast, model
    from joanna.backend import keras

    ours = fast.LSTM
    try:
        fast.LSTM = keras.layers.LSTM if stock else ours
        return model.build(settings)
    finally:
        fast.LSTM = ours


def medians(runs: dict, repeats: int) -> dict[str, float]:
    """Median seconds of each function, called in turns after one call to warm up."""
    times = {name: [] for name in runs}
    for turn in range(repeats + 1):
        for name, run in runs.items():
            began = time.perf_counter()
            run()
            if turn:
                times[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in times.items()}


def matmul(dtype: str):
    """A function that multiplies two 2048 x 2048 matrices, and its floating-point operations."""
    from joanna.backend import keras
    from joanna.backend import tensorflow as tf

    keras.utils.set_random_seed(0)
    left, right = (tf.cast(tf.random.normal([2048, 2048]), dtype) for _ in range(2))
    product = tf.function(tf.matmul)
    return lambda: product(left, right), 2 * 2048**3


def report(rows: list[list], path: Path | None, figures) -> None:
    """Print rows as a table and write the figures as JSON."""
    widths = [max(len(str(row[i])) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(str(cell).rjust(width) for cell, width in zip(row, widths, strict=True)))
    if path:
        path.write_text(json.dumps(figures, indent=2) + "\n")
