"""Seconds of audio generated a second, part and whole, each length: ours, and model.predict a block.

ours: generate.py's own functions, both components side by side, as a wav needs both. loop: stock Keras
layers, model.predict for each block, one component after the other. The weights are random: the speed
does not depend on them. Timed in turns: ours over generate-seconds, the loop over its first blocks.
"""

from concurrent.futures import ThreadPoolExecutor

import common
import numpy as np

import generate
from joanna import settings

LOOP_BLOCKS = 12


def part_loop(network, seed, count):
    """`generate.part`, with model.predict for each block."""
    frames = list(seed)
    while len(frames) < len(seed) + count:
        frames.append(network.predict(np.array(frames[-len(seed) :])[None], verbose=0)[0, -1])
    return np.array(frames[len(seed) :])


def whole_loop(network, seed, count):
    """`generate.whole`, with model.predict for each block."""
    windows = [seed[None]]
    while len(seed) * (len(windows) - 1) < count:
        windows.append(network.predict(windows[-1], verbose=0))
    return np.concatenate(windows[1:], axis=1)[0, :count]


def main() -> None:
    """Measure, print the table, write the figures."""
    options = common.parser(__doc__).parse_args()
    chosen = settings.load(options.settings)
    ours = [common.build(chosen, stock=False)["network"] for _ in range(2)]
    stock = [common.build(chosen, stock=True)["network"] for _ in range(2)]
    hop_seconds = chosen["frame-length"] / chosen["overlap"] / chosen["sample-rate"]
    count = round(chosen["generate-seconds"] / hop_seconds)
    rng, figures = np.random.default_rng(0), []
    for length in chosen["sequence-lengths"]:
        seed = rng.normal(size=(length, chosen["frame-length"])).astype("float32")
        for method, fast, loop in (
            ("part", generate.part, part_loop),
            ("whole", generate.whole, whole_loop),
        ):

            def side_by_side(run=fast, seed=seed):
                with ThreadPoolExecutor() as pool:
                    list(pool.map(lambda network: run(network, seed, count), ours))

            loop_count = LOOP_BLOCKS * (length if method == "whole" else 1)

            def in_turn(run=loop, seed=seed, loop_count=loop_count):
                for network in stock:
                    run(network, seed, loop_count)

            took = common.medians({"ours": side_by_side, "loop": in_turn}, options.repeats)
            factor = count * hop_seconds / took["ours"]
            slow = loop_count * hop_seconds / took["loop"]
            figures.append(
                {
                    "method": method,
                    "length": length,
                    "realtime_factor": factor,
                    "predict_loop_factor": slow,
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
