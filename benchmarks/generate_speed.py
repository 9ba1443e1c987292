"""Seconds of audio generated per second by each method and length: ours, and model.predict per block.

ours: as generate.py, two clips at a time. loop: stock Keras layers, the first blocks of one clip. Both
generate phases only if phase-method needs them. The weights are random, which does not change the speed.
Measured in turns, ours in its own process, because it gives each clip half of the cores.
"""

import contextlib
import functools
import io
import multiprocessing
import os
from itertools import product
from pathlib import Path
from unittest import mock

import common
import numpy as np

import generate
from joanna import fast, model
from joanna.artifacts import Frames
from joanna.backend import keras
from joanna.generation import FrameGenerator, Job
from joanna.phase import generated_components
from joanna.run import Run
from joanna.settings import hop, load, methods

CLIPS, LOOP_BLOCKS = 2, 12


@functools.cache
def generators(settings_file: Path) -> list[FrameGenerator]:
    """A generator of each component."""
    run = Run(load([str(settings_file)]), settings_file.parents[2])
    predictor, song = model.build(run.settings).predictor, Frames.load(run)
    names = generated_components(run.settings["phase-method"])
    return [FrameGenerator(run, name, predictor, song, song.components[name].frames) for name in names]


def ours(settings_file: Path, method: str, length: int) -> None:
    """Generate two clips as generate.py does."""
    with contextlib.redirect_stdout(io.StringIO()):
        for generator in generators(settings_file):
            generator.generate([Job(method, length, take) for take in range(CLIPS)])


def loop(predictor: keras.Model, frames: np.ndarray, method: str) -> None:
    """Generate the blocks that follow frames ``(T, F)`` with model.predict."""
    for _ in range(LOOP_BLOCKS):
        output = predictor.predict(frames[None], verbose=0)[0]
        frames = output if method == "whole" else np.concatenate([frames[1:], output[-1:]])


def main() -> None:
    """Measure and print the table."""
    options = common.arguments(__doc__)
    with mock.patch.dict(os.environ, TF_NUM_INTRAOP_THREADS=generate.CORES_PER_CLIP):
        process = multiprocessing.get_context("spawn").Pool(1)
    with process, common.temporary_run(options.settings) as run:
        settings, song = run.settings, Frames.load(run).components["magnitude"].frames
        with mock.patch.object(fast, "LSTM", keras.layers.LSTM):
            predictor = model.build(settings).predictor
        components = len(generated_components(settings["phase-method"]))
        clip_seconds = CLIPS * settings["generate-seconds"]
        loop_seconds = LOOP_BLOCKS * hop(settings) / settings["sample-rate"] / components

        def compare(method, length):
            job = run.settings_file, method, length
            measures = {
                "ours": lambda: clip_seconds / common.seconds(process.apply, ours, job),
                "loop": lambda: loop_seconds / common.seconds(loop, predictor, song[:length], method),
            }
            return {"method": method, "length": length, **common.medians(measures, options.repeats)}

        figures = [compare(*job) for job in product(methods(settings), settings["sequence-lengths"])]
    common.report(figures)


if __name__ == "__main__":
    main()
