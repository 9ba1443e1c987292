"""Memory over a long training: megabytes after each tenth of 1,000 epochs at tiny width; the growth."""

import tempfile
from pathlib import Path

import common
import numpy as np

from joanna import model
from joanna.backend import keras
from joanna.checkpoint import Checkpoint
from joanna.resources import TimeBudget
from joanna.run import Run, Training
from joanna.settings import load
from joanna.training import Task, fit

TINY = ["seed", "frame-length=64", "dim-decrease=8", "load-weights=False", "ae-iteration=10"]


def megabytes() -> float:
    """Memory that the process uses now (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise OSError("no VmRSS in /proc/self/status")


class MemoryUse(keras.callbacks.Callback):
    """Measures the memory every `interval` epochs."""

    def __init__(self, interval: int):
        super().__init__()
        self._interval, self.figures = interval, [{"epoch": 0, "megabytes": megabytes()}]

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Measure after each interval."""
        if (epoch + 1) % self._interval == 0:
            self.figures.append({"epoch": epoch + 1, "megabytes": megabytes()})


def main() -> None:
    """Train, print the table, write the figures."""
    parser = common.parser(__doc__)
    parser.add_argument("--epochs", type=int, default=1000)
    options = parser.parse_args()
    interval = max(1, options.epochs // 10)
    run = Run(load([*TINY, f"ae-epoch={interval}"]))
    frames = np.random.default_rng(0).normal(size=(320, 64)).astype("float32")
    memory = MemoryUse(interval)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Checkpoint(Path(folder) / "growth.weights.h5", run, "autoencoder", "noise")
        network = model.build(run.settings).autoencoder
        checkpoint.resume(model.sequential((64,), network.layers, "saved"))
        batches = [(part, part) for part in np.array_split(frames, 10)]
        task = Task(Training("magnitude", "autoencoder"), network, lambda epoch: batches, 0.001)
        fit(task, checkpoint, TimeBudget(run.settings), [memory])
    figures = memory.figures
    rows = [["epoch", "MB"], *([found["epoch"], f"{found['megabytes']:.1f}"] for found in figures)]
    common.report(rows, options.json, figures)
    # the first tenth builds the graph
    print(f"growth after the first tenth: {figures[-1]['megabytes'] - figures[1]['megabytes']:.1f} MB")


if __name__ == "__main__":
    main()
