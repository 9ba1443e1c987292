"""Memory over a long training: megabytes after each tenth of 1,000 epochs at tiny width; the growth."""

import tempfile
from pathlib import Path

import common
import numpy as np

from joanna import model, settings, training
from joanna.checkpoint import Checkpoint

TINY = ["seed", "frame-length=64", "dim-decrease=8", "batch-size=32"]


def megabytes() -> float:
    """What the process holds in memory now (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise OSError("no VmRSS in /proc/self/status")


def main() -> None:
    """Train, print the table, write the figures."""
    parser = common.parser(__doc__)
    parser.add_argument("--epochs", type=int, default=1000)
    options = parser.parse_args()
    chosen = settings.load([*TINY, "load-weights=False"])
    frames = np.random.default_rng(0).normal(size=(320, 64)).astype("float32")
    figures = []

    def batches(epoch):
        if epoch % (options.epochs // 10) == 0:
            figures.append({"epoch": epoch, "megabytes": megabytes()})
        return [(part, part) for part in np.array_split(frames, 10)]

    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Checkpoint(Path(folder) / "x.weights.h5", chosen, "autoencoder", "noise")
        network = model.build(chosen)["autoencoder"]
        checkpoint.resume(model.chain((64,), network.layers, "saved"))
        training.train(network, batches, checkpoint, "x", "growth", options.epochs // 10, 10, 0.001)
    figures.append({"epoch": options.epochs, "megabytes": megabytes()})
    rows = [["epoch", "MB"]] + [[found["epoch"], f"{found['megabytes']:.1f}"] for found in figures]
    common.report(rows, options.json, figures)
    # the first tenth builds the graph
    print(f"growth after the first tenth: {figures[-1]['megabytes'] - figures[1]['megabytes']:.1f} MB")


if __name__ == "__main__":
    main()
