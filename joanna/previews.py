"""Previews, interim report and TensorBoard logs of a training."""

import functools
import math
import shutil
import time

import numpy as np

from joanna import audio, files, report, scores
from joanna.artifacts import Frames
from joanna.backend import keras
from joanna.backend import tensorflow as tf
from joanna.checkpoint import Checkpoint, read_history
from joanna.fast import Windows
from joanna.generation import Job, Seed, dropout_rates, part, run_loops, to_audio
from joanna.phase import follow
from joanna.resources import TimeBudget
from joanna.run import TRAININGS, Run, Training
from joanna.settings import hop
from joanna.spectra import seed_start

_SECONDS = 5.0  # length of a preview
_MIN_SHARE = 0.1  # of the training's time so far between two previews, at least
_MAX_PREVIEWING = 0.02  # of the time is spent on them, at most


class Previews:
    """The previews of a stage."""

    def __init__(self, run: Run, frames: Frames):
        self._run, self.frames = run, frames
        self._entries: list[dict] = []  # of the report so far
        self._budget = TimeBudget(run.settings)
        self._read_history = functools.cache(read_history)  # of finished weights files

    def callbacks(self, training: Training, checkpoint: Checkpoint, network: keras.Model) -> list:
        """The callbacks of a training that the settings ask for.

        `network` maps frames to frames: ``(N, F)`` of an autoencoder, else ``(N, T, F)``.
        """
        title = f"{training.component}-{training.kind}"
        if not checkpoint.state.of(training.key).epochs:
            for path in self._run.previews.glob(f"{title}-epoch-*.wav"):
                path.unlink()
            shutil.rmtree(self._run.tensorboard / title, ignore_errors=True)
        callbacks = []
        if self._run.settings["tensorboard"]:
            callbacks.append(keras.callbacks.TensorBoard(self._run.tensorboard / title, write_graph=False))
        if self._run.settings["preview-minutes"]:
            callbacks.append(PreviewCallback(self, training, checkpoint, network))
        return callbacks

    def passage(self) -> np.ndarray:
        """Indices of the song's frames that previews play, five seconds in the middle of its sound."""
        settings, total = self._run.settings, len(self.frames)
        count = min(total, math.ceil(_SECONDS * settings["sample-rate"] / hop(settings)))
        with_sound = np.flatnonzero(self.frames.sounding)
        start = with_sound[max(0, len(with_sound) - count) // 2]
        return np.arange(count) + min(start, total - count)

    def publish(self, training: Training, checkpoint: Checkpoint, signal: np.ndarray) -> None:
        """Write a preview ``(S,)`` and the report so far, with the newest preview of each training."""
        run, rate, progress = self._run, self._run.settings["sample-rate"], checkpoint.state.of(training.key)
        title = f"{training.component}-{training.kind}"
        path = run.previews / f"{title}-epoch-{progress.epochs:05}.wav"
        files.write_bytes(path, audio.wav_bytes(signal, rate))
        if run.settings["tensorboard"]:
            log(run, title, progress.epochs, {"preview": signal}, {})
        if not self._entries:
            source = self.frames.audio[self.passage()[0] * hop(run.settings) :][: len(signal)]
            self._entries.append(report.clip("source", source, rate))
        kept = [entry for entry in self._entries if not entry["name"].startswith(title)]
        self._entries = [*kept, report.clip(path.stem, signal, rate)]
        facts = {"so far": f"{title}, epoch {progress.epochs:,} of {max(progress.goal, progress.epochs):,}"}
        losses = self._losses(training, checkpoint)
        ends = time.time() + self._seconds_left(training, progress, losses[training.label])
        report.write(run.report_file, self._entries, losses, run.settings, facts, ends)

    def _seconds_left(self, training, progress, history):
        """Estimate for the run, or for the stage if it runs alone; `history` is of the training."""
        seconds, epochs, _ = history[-1]
        each = seconds / epochs
        return self._budget.run_left(training, each * (progress.last - progress.epochs), each)

    def _losses(self, training, checkpoint):
        """Label of each training up to this one -> rows of seconds, epochs, loss."""
        losses = {}
        for other in TRAININGS[: TRAININGS.index(training) + 1]:
            path = self._run.weights_file(other.component, other.stage)
            history = checkpoint.state.history if path == checkpoint.path else self._read_history(path)
            losses[other.label] = history.get(other.key, [])
        return losses


class PreviewCallback(keras.callbacks.Callback):
    """Makes a preview every `preview-minutes` or less often, and at the end of a longer training.

    A preview is the network's version of its component with the song's own other component: the
    reconstruction of the middle of the song or, of the generator, frames generated by the part method.
    """

    def __init__(self, previews: Previews, training: Training, checkpoint: Checkpoint, network: keras.Model):
        super().__init__()
        self._previews, self._training, self._checkpoint = previews, training, checkpoint
        self._network, self._run = network, checkpoint.run
        self._interval = 60 * self._run.settings["preview-minutes"]

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._started = time.monotonic()
        self._due = self._started + self._interval

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        progress, now = self._checkpoint.state.of(self._training.key), time.monotonic()
        too_short = now - self._started < self._interval
        if progress.steps or (now < self._due and (progress.epochs < progress.goal or too_short)):
            return
        self._previews.publish(self._training, self._checkpoint, self._signal())
        ended = time.monotonic()
        pause = max(self._interval, _MIN_SHARE * (ended - self._started), (ended - now) / _MAX_PREVIEWING)
        self._due = ended + pause

    def _signal(self):
        """Audio ``(S,)`` of the network as it is now."""
        song, places = self._previews.frames, self._previews.passage()
        own = song.components[self._training.component].frames
        if self._training.kind == "autoencoder":
            # several devices return as many copies
            output = self._network.predict_on_batch(own[places])[: len(places)]
        elif self._training.kind == "spliced":
            output = self._network.predict_on_batch(own[None, places])[0]
        else:
            output, places = self._generate(own, len(places))
        frames = {name: component.frames[places] for name, component in song.components.items()}
        signal = to_audio(self._run, song, {**frames, self._training.component: output})
        return audio.match_loudness(signal, song.audio)

    def _generate(self, song, count):
        """Generated frames, and the indices of the song's frames that supply the other component."""
        settings, component = self._run.settings, self._training.component
        length = min(settings["sequence-lengths"][0], len(song) - 1)
        start = seed_start(self._previews.frames.sounding, 0, [length])
        rng = self._run.rng("preview", component)
        rates = dropout_rates(settings, [Job("part", length, 0)])
        windows = Windows(self._network, [length], rates, [rng])
        [frames] = run_loops(windows, [part(Seed(song[start : start + length], song[:0]), count)])
        if component == "magnitude":
            return frames, follow(frames, song, settings["stereo"])
        return frames, (start + length + np.arange(count)) % len(song)


def log(run: Run, folder: str, step: int, signals: dict[str, np.ndarray], values: dict[str, float]) -> None:
    """Write signals ``(S,)`` with their spectrograms, and numbers, to tensorboard/`folder`."""
    rate = run.settings["sample-rate"]
    with tf.summary.create_file_writer(str(run.tensorboard / folder)).as_default(step):
        for name, signal in signals.items():
            tf.summary.audio(name, signal.reshape(1, len(signal), -1).astype(np.float32), rate)
            tf.summary.image(name, scores.picture([signal], rate)[None])
        for name, value in values.items():
            tf.summary.scalar(name, value)
