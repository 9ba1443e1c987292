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
from joanna.phase import selected_methods
from joanna.run import Run
from joanna.settings import hop, load, methods
from joanna.spectra import COMPONENTS

CLIPS, LOOP_BLOCKS = 2, 12


@functools.cache
def generators(settings_file: Path, components: tuple[str, ...]) -> list[FrameGenerator]:
    """A generator of each component."""
    run = Run(load([str(settings_file)]), settings_file.parents[2])
    predictor, songs = model.build(run.settings).predictor, Frames.load(run).components
    return [FrameGenerator(run, name, predictor, songs[name], songs[name].frames) for name in components]


def ours(settings_file: Path, components: tuple[str, ...], method: str, length: int) -> None:
    """Generate two clips as generate.py does."""
    with contextlib.redirect_stdout(io.StringIO()):
        for generator in generators(settings_file, components):
            generator.generate([Job(method, length, take) for take in range(CLIPS)])


def loop(predictor: keras.Model, frames: np.ndarray, method: str) -> None:
    """Generate the blocks that follow frames ``(T, F)`` with model.predict."""
    for _ in range(LOOP_BLOCKS):
        output = predictor.predict(frames[None], verbose=0)[0]
        frames = output if method == "whole" else np.concatenate([frames[1:], output[-1:]])


def main() -> None:
    """Measure, print the table, write the figures."""
    options = common.arguments(__doc__)
    with mock.patch.dict(os.environ, TF_NUM_INTRAOP_THREADS=generate.CORES_PER_CLIP):
        process = multiprocessing.get_context("spawn").Pool(1)
    with process, common.temporary_run(options.settings) as run:
        settings, song = run.settings, Frames.load(run).components["magnitude"].frames
        phase_methods = selected_methods(settings["phase-method"]).values()
        with_phase = any(method.generates_phase for method in phase_methods)
        components = COMPONENTS if with_phase else ("magnitude",)
        with mock.patch.object(fast, "LSTM", keras.layers.LSTM):
            predictor = model.build(settings).predictor
        clip_seconds = CLIPS * settings["generate-seconds"]
        loop_seconds = LOOP_BLOCKS * hop(settings) / settings["sample-rate"] / len(components)

        def compare(length, method):
            job, loop_job = (run.settings_file, components, method, length), (song[:length], method)
            measures = {
                "realtime_factor": lambda: clip_seconds / common.seconds(process.apply, ours, job),
                "predict_loop_factor": lambda: loop_seconds / common.seconds(loop, predictor, *loop_job),
            }
            found = common.medians(measures, options.repeats)
            ratio = found["realtime_factor"] / found["predict_loop_factor"]
            return {"method": method, "length": length, **found, "ours/loop": ratio}

        jobs = product(settings["sequence-lengths"], methods(settings))
        figures = [compare(*job) for job in jobs]
    common.report(figures, options.json)


if __name__ == "__main__":
    main()
