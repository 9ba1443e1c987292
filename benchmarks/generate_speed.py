"""Seconds of audio generated per second by each method and length: ours, and model.predict per block.

ours: as generate.py, two clips at a time. loop: stock Keras layers, model.predict for each block, one clip.
Both generate phases only if phase-method needs them. The weights are random, which does not change the
speed. Measured in turns, each in its own process, because ours uses half of the cores per clip: ours over
generate-seconds, the loop over its first blocks.
"""

import contextlib
import functools
import io
import multiprocessing
import os
import tempfile
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path
from unittest import mock

import common
import numpy as np

import generate
from joanna.artifacts import ComponentFrames, Frames
from joanna.phase import selected_methods
from joanna.run import Run
from joanna.settings import hop, load, methods

CLIPS, LOOP_BLOCKS = 2, 12


@functools.cache
def components(settings_file: Path, is_stock: bool) -> tuple[Run, list]:
    """The run, and name, song and predictor of each component to generate."""
    if not is_stock:
        os.environ["TF_NUM_INTRAOP_THREADS"] = generate.CORES_PER_CLIP
    from joanna import fast, model  # TensorFlow reads the environment when it is imported
    from joanna.backend import keras

    run = Run(load([str(settings_file)]), settings_file.parents[2])
    needed = selected_methods(run.settings["phase-method"]).values()
    names = ["magnitude", "phase"] if any(way.generates_phase for way in needed) else ["magnitude"]
    songs = Frames.load(run).components
    with mock.patch.object(fast, "LSTM", keras.layers.LSTM if is_stock else fast.LSTM):
        return run, [(name, songs[name], model.build(run.settings).predictor) for name in names]


def ours(settings_file: Path, method: str, length: int) -> None:
    """Generate the frames of two clips as generate.py does."""
    run, parts = components(settings_file, is_stock=False)
    from joanna.generation import FrameGenerator, Job

    jobs = [Job(method, length, take) for take in range(CLIPS)]
    with contextlib.redirect_stdout(io.StringIO()):
        for name, song, predictor in parts:
            FrameGenerator(run, name, predictor, song, song.frames).generate(jobs)


def loop(settings_file: Path, method: str, length: int) -> None:
    """Generate the first frames of a clip with model.predict."""
    for _, song, predictor in components(settings_file, is_stock=True)[1]:
        predict_loop(predictor, song, method, length)


def predict_loop(predictor, song: ComponentFrames, method: str, length: int) -> np.ndarray:
    """`generation.part` or `whole` with model.predict per block; frames ``(LOOP_BLOCKS, F)``."""
    window, frames = song.frames[:length], []
    for _ in range(LOOP_BLOCKS):
        output = predictor.predict(window[None], verbose=0)[0]
        frames.append(output[-1])
        window = output if method == "whole" else np.concatenate([window[1:], output[-1:]])
    return np.array(frames)


def main() -> None:
    """Measure, print the table, write the figures."""
    options = common.parser(__doc__).parse_args()
    spawn, figures = multiprocessing.get_context("spawn"), []
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(1, spawn) as fast_process,
        ProcessPoolExecutor(1, spawn) as stock_process,
    ):
        run = common.preprocessed(options.settings, Path(folder))
        settings = run.settings
        loop_seconds = LOOP_BLOCKS * hop(settings) / settings["sample-rate"]

        def speed(process, function, audio_seconds, *job):
            took = common.seconds(lambda: process.submit(function, run.settings_file, *job).result())
            return audio_seconds / took

        for length, method in product(settings["sequence-lengths"], methods(settings)):
            job, clip_seconds = (method, length), CLIPS * settings["generate-seconds"]
            measures = {
                "realtime_factor": functools.partial(speed, fast_process, ours, clip_seconds, *job),
                "predict_loop_factor": functools.partial(speed, stock_process, loop, loop_seconds, *job),
            }
            found = common.medians(measures, options.repeats)
            figures.append({"method": method, "length": length, **found})
    rows = [["method", "length", "x real time", "predict loop", "ours/loop"]]
    for found in figures:
        method, length, fast, slow = found.values()
        rows.append([method, length, *(f"{value:.2f}" for value in (fast, slow, fast / slow))])
    common.report(rows, options.json, figures)


if __name__ == "__main__":
    main()
