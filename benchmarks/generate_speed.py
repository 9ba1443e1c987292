"""Seconds of audio generated per second by each method and length: ours, and model.predict per block.

ours: as generate.py, two clips together. limit: the matrix products of the frames alone, at the speed of a
2048 x 2048 product; a frame of part at length L is L rows through the LSTM layers and one through the
others, of whole L rows through all. loop: stock Keras layers, the first blocks of one clip. The last row is
all methods and lengths together, as in a run. All generate phases only if phase-method needs them. The
weights are random, which does not change the speed.
"""

import contextlib
import io
from itertools import product

import common
import numpy as np

from joanna import model
from joanna.artifacts import Frames
from joanna.backend import keras
from joanna.generation import FrameGenerator, Job
from joanna.phase import generated_components
from joanna.run import Run
from joanna.settings import hop, methods

CLIPS, LOOP_BLOCKS = 2, 12


def loop(predictor: keras.Model, frames: np.ndarray, method: str) -> None:
    """Generate the blocks that follow frames ``(T, F)`` with model.predict."""
    for _ in range(LOOP_BLOCKS):
        output = predictor.predict(frames[None], verbose=0)[0]
        frames = output if method == "whole" else np.concatenate([frames[1:], output[-1:]])


def compare(run: Run, jobs: list[Job], repeats: int) -> dict[str, object]:
    """A row of the table."""
    settings, song = run.settings, Frames.load(run)
    predictor = model.build(settings).predictor
    stock = common.stock_networks(settings).predictor
    names = generated_components(settings["phase-method"])
    generators = [FrameGenerator(run, name, predictor, song, song.components[name].frames) for name in names]
    clip_seconds = len(jobs) * settings["generate-seconds"]
    blocks = settings["generate-seconds"] * settings["sample-rate"] / hop(settings)
    loop_seconds = LOOP_BLOCKS * hop(settings) / settings["sample-rate"] / len(names)
    seed = song.components["magnitude"].frames[: jobs[0].length]

    def ours():
        with contextlib.redirect_stdout(io.StringIO()):
            return common.seconds(lambda: [generator.generate(jobs) for generator in generators])

    measures = {
        "ours": lambda: clip_seconds / ours(),
        "limit": lambda: (
            clip_seconds
            / (len(names) * blocks * common.product_seconds(common.generation_flops(predictor, jobs)))
        ),
        "loop": lambda: loop_seconds / common.seconds(loop, stock, seed, jobs[0].method),
    }
    found = common.medians(measures, repeats)
    return {**found, "ours / limit": found["ours"] / found["limit"]}


def main() -> None:
    """Measure and print the table."""
    options, figures = common.arguments(__doc__), []
    with common.temporary_run(options.settings) as run:
        pairs = [*product(methods(run.settings), run.settings["sequence-lengths"])]
        for method, length in pairs:
            jobs = [Job(method, length, take) for take in range(CLIPS)]
            figures.append({"clips": f"{method}-{length}", **compare(run, jobs, options.repeats)})
        jobs = [Job(*pair, 0) for pair in pairs]
        figures.append({"clips": "all", **compare(run, jobs, options.repeats)})
    common.report(figures)


if __name__ == "__main__":
    main()
