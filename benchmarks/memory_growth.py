"""Memory over a long training: megabytes after each tenth of 1,000 epochs at tiny width; the growth."""

import os
from pathlib import Path

import common

import autoencoder
from joanna.backend import keras
from joanna.training import fit

TINY = ["frame-length=64", "dim-decrease=8", "batch-size=32", "section-count=2", "block-count=160"]


def main() -> None:
    """Train, print the table, write the figures."""
    options, figures = common.arguments(__doc__, epochs=1000), []
    tenth = max(1, options.epochs // 10)

    def measure(epoch, logs=None):
        if (epoch + 1) % tenth == 0:
            pages = int(Path("/proc/self/statm").read_text().split()[1])  # Linux
            megabytes = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
            figures.append({"epoch": epoch + 1, "megabytes": megabytes})

    def train(task, checkpoint, budget):
        measure(-1)
        fit(task, checkpoint, budget, [keras.callbacks.LambdaCallback(on_epoch_end=measure)])

    words = [*options.settings, *TINY, f"ae-epoch={tenth}", "ae-iteration=10"]
    common.run_stages(words, train, autoencoder)
    common.report(figures, options.json)
    growth = figures[-1]["megabytes"] - figures[1]["megabytes"]  # the first tenth builds the graph
    print(f"growth after the first tenth: {growth:.1f} MB")


if __name__ == "__main__":
    main()
