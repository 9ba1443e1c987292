"""Seconds of audio generated a second, part and whole, each length: ours, and model.predict a block.

ours: generate.py's own functions, two clips side by side as there. loop: stock Keras layers,
model.predict for each block, one clip. With phase-method follow, the default, both generate magnitudes
only; with another, phases too. The weights are random: the speed does not depend on them. Timed in
turns, each in a process of its own, since ours gives each clip half of the cores: ours over
generate-seconds, the loop over its first blocks.
"""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import common
import numpy as np
from joanna.dataset import COMPONENTS

import generate
from joanna import settings

CLIPS, LOOP_BLOCKS = 2, 12


def part_loop(network, seed, length, count):
    """`generation.part`, with model.predict for each block."""
    frames = list(seed)
    while len(frames) < length + count:
        frames.append(network.predict(np.array(frames[-length:])[None], verbose=0)[0, -1])
    return np.array(frames[length:])


def whole_loop(network, seed, length, count):
    """`generation.whole`, with model.predict for each block."""
    window, frames = seed[None], []
    for _ in range(count):
        window = network.predict(window, verbose=0)
        frames.append(window[0, -1])
    return np.array(frames)


def set_up(chosen: dict, stock: bool) -> None:
    """Build the components' networks in this process."""
    global networks, song
    if not stock:
        os.environ["TF_NUM_INTRAOP_THREADS"] = generate.CORES_EACH
    components = ["magnitude"] if chosen["phase-method"] == "follow" else COMPONENTS
    networks = [common.build(chosen, stock)["network"] for _ in components]
    frames = max(chosen["sequence-lengths"])
    song = np.random.default_rng(0).normal(size=(frames, chosen["frame-length"])).astype("float32")


def ours(method: str, length: int, count: int) -> None:
    """Generate `count` frames of two clips as generate.py does."""
    from joanna import generation  # TensorFlow, once set_up has said how many cores it may take

    run = {"part": generation.part, "whole": generation.whole}[method]
    with ThreadPoolExecutor(CLIPS) as pool:
        list(pool.map(lambda network: run(network, song[:length], length, count), networks * CLIPS))


def loop(method: str, length: int, count: int) -> None:
    """Generate `count` frames of a clip with model.predict."""
    for network in networks:
        {"part": part_loop, "whole": whole_loop}[method](network, song[:length], length, count)


def main() -> None:
    """Measure, print the table, write the figures."""
    options = common.parser(__doc__).parse_args()
    chosen = settings.load(options.settings)
    hop_seconds = chosen["frame-length"] / chosen["overlap"] / chosen["sample-rate"]
    count = round(chosen["generate-seconds"] / hop_seconds)
    spawn, figures = multiprocessing.get_context("spawn"), []
    with (
        ProcessPoolExecutor(1, spawn, set_up, (chosen, False)) as fast,
        ProcessPoolExecutor(1, spawn, set_up, (chosen, True)) as stock,
    ):
        for length in chosen["sequence-lengths"]:
            for method in ("part", "whole"):
                what = method, length
                runs = {
                    "ours": lambda what=what: fast.submit(ours, *what, count).result(),
                    "loop": lambda what=what: stock.submit(loop, *what, LOOP_BLOCKS).result(),
                }
                took = common.medians(runs, options.repeats)
                figures.append(
                    {
                        "method": method,
                        "length": length,
                        "realtime_factor": CLIPS * count * hop_seconds / took["ours"],
                        "predict_loop_factor": LOOP_BLOCKS * hop_seconds / took["loop"],
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
