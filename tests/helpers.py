"""Helpers of the tests and benchmarks: tiny settings, songs, runs, scripts, contents of files."""

import gc
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
from scipy.io import wavfile

from joanna.run import PROJECT, Run, Training
from joanna.settings import load

TINY = [
    "frame-length=64",
    "layer-count=2",
    "dim-decrease=8",
    "sample-rate=4000",
    "section-count=2",
    "block-count=60",
    "ae-epoch=2",
    "ae-iteration=2",
    "lstm-epoch=1",
    "lstm-iteration=2",
    "window-length=8",
    "generate-seconds=0.5",
    "sequence-lengths=[4,8]",
    "preview-minutes=0",
]


def tone(seconds: float = 1.2, rate: int = 4000, pitch: float = 440.0) -> np.ndarray:
    """A swelling two-tone signal, float64 in -0.5 to 0.5."""
    t = np.arange(int(seconds * rate)) / rate
    return 0.25 * (np.sin(2 * np.pi * pitch * t) + np.sin(2 * np.pi * 1.5 * pitch * t) * t / seconds)


def write_wav(path: Path, signal: np.ndarray, rate: int = 4000) -> Path:
    """Write a signal as 16-bit wav."""
    wavfile.write(path, rate, np.round(signal * 32767).astype(np.int16))
    return path


def tiny_run(root: Path, *words: str) -> Run:
    """A run at tiny width in `root`."""
    return Run(load([*TINY, *words]), root)


def page_data(path: Path) -> dict:
    """What a report holds."""
    return json.loads(re.search(r'type="application/json" id="data">(.*)</script>', path.read_text())[1])


def copy_project(folder: Path) -> Path:
    """A copy of the scripts in `folder`, to run them there."""
    (folder / "sources").mkdir(parents=True)
    for script in PROJECT.glob("*.py"):
        shutil.copy(script, folder)
    shutil.copytree(PROJECT / "joanna", folder / "joanna")
    return folder


def run_script(folder: Path, script: str, *words: object) -> subprocess.CompletedProcess:
    """Run a stage script of a copied project to its end."""
    command = [sys.executable, f"{script}.py", *map(str, words)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)


def contents(path: Path) -> dict[str, bytes]:
    """Every array of a weights file, moments and dropout seeds included, and its progress; no times."""
    found = {}
    with h5py.File(path) as file:
        found["progress"] = file.attrs.get("progress")
        file.visititems(
            lambda name, item: (
                found.update({name: item[()].tobytes()})
                if isinstance(item, h5py.Dataset) and "history" not in name
                else None
            )
        )
    return found


def wait_for(condition, seconds=20):
    """The first true value of `condition()`."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "timed out"
        time.sleep(0.05)
    return value


def resource_handles() -> int:
    """Number of TensorFlow's handles of variables that are alive."""
    from joanna.backend import tensorflow as tf  # takes seconds to import

    gc.collect()
    tensors = [thing for thing in gc.get_objects() if type(thing).__name__ == "EagerTensor"]
    return sum(tensor.dtype == tf.resource for tensor in tensors)


class SmallTraining:
    """A training of a small network with dropout: two iterations of three epochs by default.

    Its batches depend on the epoch only. It resumes from `root`, where it saves.
    """

    training = Training("phase", "generator")

    def __init__(self, root: Path, *words: str, steps: int = 3):
        """Load what is trained so far with the settings `words`; an epoch has `steps` steps."""
        from joanna.backend import keras  # TensorFlow takes seconds to import
        from joanna.checkpoint import Checkpoint

        root.mkdir(exist_ok=True)
        source = write_wav(root / "song.wav", tone(0.1))
        self.run = tiny_run(root, f"source={source}", "lstm-epoch=3", *words)
        self.checkpoint = Checkpoint(self.run, "phase", "lstm", "song")
        self.path, self.epoch_steps = self.checkpoint.path, steps
        keras.utils.set_random_seed(0)
        layers = [keras.layers.Dense(5), keras.layers.Dropout(0.5), keras.layers.Dense(5)]
        self.network, self.model = (keras.Sequential([keras.Input((5,)), *layers]) for _ in range(2))
        self.first = self.network.get_weights()
        self.resumed = self.checkpoint.resume(self.network)
        self.steps = self.signal_at = 0  # steps trained; the step before which Ctrl-C is pressed
        self.scale = lambda epoch: 2.0  # of the targets

    def batches(self, epoch: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Inputs and targets of an epoch."""
        inputs = np.random.default_rng(epoch).normal(size=(self.epoch_steps, 8, 5)).astype(np.float32)
        scale = np.float32(self.scale(epoch))
        return [(batch, scale * batch) for batch in inputs]

    def _count_step(self, batch, logs):
        self.steps += 1
        if self.steps == self.signal_at:
            os.kill(os.getpid(), signal.SIGINT)

    def train(self, rate: float = 0.01, clock=lambda: 0.0, **events) -> dict[str, bytes]:
        """Train to the end and return the contents of the file; `events` are methods of a callback."""
        from joanna.backend import keras
        from joanna.resources import TimeBudget
        from joanna.training import Task, fit

        callback = keras.callbacks.LambdaCallback(on_train_batch_begin=self._count_step, **events)
        task = Task(
            self.training, self.model, self.batches, rate, lambda: self.network.set_weights(self.first)
        )
        fit(task, self.checkpoint, TimeBudget(self.run.settings, clock), [callback])
        return contents(self.path)


def run_as_script(main, script: str, *words: str) -> int:
    """Run main(run) in this process as the stage `script` does, without its lock; the exit code."""
    from joanna import cli

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    arguments, sys.argv = sys.argv, [script, *words]
    try:
        cli.run_stage(main, "about", writes=False)
    except SystemExit as exit:
        return exit.code
    finally:
        sys.argv = arguments
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return 0
