"""Seconds of audio generated a second, part and whole, each length: ours, and model.predict a block.

Random weights: the speed does not depend on them. Both are timed over the same frames, in turns.
"""

import common
import numpy as np

import generate
from joanna import model, settings

FRAMES = 24


class Predict:
    """The network as a user would call it: model.predict for each block."""

    def __init__(self, network):
        self.network = network

    def predict_on_batch(self, window):
        """Frames ``(1, T, F)`` -> the next frames."""
        return self.network.predict(window, verbose=0)


def main() -> None:
    """Measure, print the table, write the figures."""
    options = common.parser(__doc__).parse_args()
    chosen = settings.load(options.settings)
    network = model.build(chosen)["network"]
    seconds = FRAMES * chosen["frame-length"] / chosen["overlap"] / chosen["sample-rate"]
    rng, figures = np.random.default_rng(0), []
    for length in chosen["sequence-lengths"]:
        seed = rng.normal(size=(length, chosen["frame-length"])).astype("float32")
        for method, run in (("part", generate.part), ("whole", generate.whole)):
            took = common.medians(
                {
                    "ours": lambda run=run, seed=seed: run(network, seed, FRAMES),
                    "loop": lambda run=run, seed=seed: run(Predict(network), seed, FRAMES),
                },
                options.repeats,
            )
            # a wav needs both components
            factor, loop = (seconds / (2 * took[name]) for name in ("ours", "loop"))
            figures.append(
                {
                    "method": method,
                    "length": length,
                    "realtime_factor": factor,
                    "predict_loop_factor": loop,
                }
            )
    rows = [["method", "length", "x real time", "predict loop", "ours/loop"]]
    for found in figures:
        speeds = found["realtime_factor"], found["predict_loop_factor"]
        cells = (f"{value:.2f}" for value in (*speeds, speeds[0] / speeds[1]))
        rows.append([found["method"], found["length"], *cells])
    common.report(rows, options.json, figures)


if __name__ == "__main__":
    main()
