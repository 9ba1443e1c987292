"""What is heard of a training while it runs: previews, the report so far, TensorBoard."""

import math
import shutil
import time

import numpy as np

from joanna import audio, budget, dataset, generation, phase, report, scores, store, training
from joanna import settings as settings_module
from joanna.backend import tensorflow as tf
from joanna.checkpoint import Checkpoint, read_history

_SECONDS = 5.0  # a preview lasts
_NAMES = {"autoencoder": "autoencoder", "spliced": "spliced", "new": "generator"}


class Watch:
    """A stage's listener: `training.train` tells it of every epoch.

    A preview is what the network makes of the component it learns, with the song's own other component:
    its reconstruction of the middle of the song, or, of the generator, what it generates part by part.
    """

    def __init__(self, settings: dict, songs: dict):
        """The listener of a stage; `songs` is of `dataset.load_frames`."""
        self._settings, self._songs = settings, songs
        self._folder = settings_module.output_folder(settings) / "previews"
        self._clips, self._histories = [], {}

    def begin(self, checkpoint: Checkpoint, component: str, name: str, network) -> "Watch":
        """Listen to the training `name` of `component` from now on.

        Args:
            checkpoint: of the training.
            network: maps frames to frames, ``(N, F)`` of an autoencoder, else ``(N, T, F)``.
        """
        self._checkpoint, self._component, self._name = checkpoint, component, name
        self._network, self._title = network, f"{component}-{_NAMES[name]}"
        self._began = time.monotonic()
        self._due = self._began + 60 * self._settings["preview-minutes"]
        if not checkpoint.of(name)["epochs"]:
            for path in self._folder.glob(f"{self._title}-epoch-*.wav"):
                path.unlink()
            shutil.rmtree(self._folder.with_name("tensorboard") / self._title, ignore_errors=True)
        self._board = board(self._settings, self._title)
        return self

    def end(self) -> None:
        """Let go of the network that was listened to."""
        self._network = None

    def left(self, seconds: float, epoch: float) -> float:
        """Seconds left for the run, when the training has `seconds` left and an epoch takes `epoch`."""
        return budget.run_left(self._settings, self._component, self._name, seconds, epoch)

    def epoch(self, epoch: int, loss: float, optimizer) -> None:
        """Take note that `epoch` epochs are done; make a preview if it is time for one."""
        budget.note_epoch(self._component, self._name)
        if self._board:
            with self._board.as_default(step=epoch):
                tf.summary.scalar("loss", loss)
                tf.summary.scalar("learning rate", optimizer.learning_rate)
        between = 60 * self._settings["preview-minutes"]
        if not between:
            return
        now, goal = time.monotonic(), self._checkpoint.of(self._name)["goal"]
        # the last epoch has one, too, unless the training took less than half of it or of a minute
        if now < self._due and (epoch < goal or now - self._began < min(between, 60) / 2):
            return
        signal, rate = self._listen(), self._settings["sample-rate"]
        self._folder.mkdir(exist_ok=True)
        path = self._folder / f"{self._title}-epoch-{epoch:05}.wav"
        store.write(path, lambda path: audio.save_audio(path, signal, rate), sealed=False)
        if self._board:
            with self._board.as_default(step=epoch):
                show(self._board, "preview", signal, rate)
        if not self._clips:
            hop = settings_module.hop(self._settings)
            source = self._songs["audio"][self._passage()[0] * hop :][: len(signal)]
            self._clips.append(report.clip("source", source, rate))
        kept = [clip for clip in self._clips if not clip["name"].startswith(self._title)]
        self._clips = [*kept, report.clip(path.stem, signal, rate)]
        facts = {"so far": f"{self._title}, epoch {epoch:,} of {goal:,}"}
        path = settings_module.output_folder(self._settings) / "report.html"
        report.write(path, self._clips, self._losses(), self._settings, facts)
        now = time.monotonic()
        self._due = now + max(between, 0.1 * (now - self._began))

    def _listen(self):
        """Audio ``(S,)`` of what the network makes now."""
        settings, song = self._settings, self._songs[self._component]
        places, count = self._passage(), len(self._passage())
        if self._name == "autoencoder":
            # several devices give as many copies
            frames = self._network.predict_on_batch(song["frames"][places])[:count]
        elif self._name == "spliced":
            frames = self._network.predict_on_batch(song["frames"][None, places])[0]
        else:
            frames, places = self._generate(count)
        made = {
            name: dataset.unscale(frames if name == self._component else other["frames"][places], other)
            for name, other in self._songs.items()
            if name in dataset.COMPONENTS
        }
        signal = dataset.join(made["magnitude"], made["phase"], settings)
        return audio.level(signal, self._songs["audio"])

    def _passage(self):
        """The song's frames that previews play, five seconds in its middle."""
        frames, settings = len(self._songs["phase"]["frames"]), self._settings
        hop = settings_module.hop(settings)
        count = min(frames, math.ceil(_SECONDS * settings["sample-rate"] / hop))
        return np.arange(count) + (frames - count) // 2

    def _generate(self, count):
        """Frames generated part by part, and where the other component's frames are in the song."""
        settings, song = self._settings, self._songs[self._component]["frames"]
        length = min(settings["sequence-lengths"][0], len(song) - 1)
        rng = training.epoch_rng(settings["random-seed"], "preview", self._component)
        limit = generation.loop_limit(settings)
        hear = generation.hearing(song, settings["variation"], rng, limit, "preview")
        frames = generation.part(self._network, song[:length], length, count, hear)
        if self._component == "magnitude":
            return frames, phase.follow(frames, song)
        return frames, (length + np.arange(count)) % len(song)

    def _losses(self):
        """Rows of each training's losses, up to those of this one."""
        losses, weights = {}, settings_module.weights_folder(self._settings)
        for component, name in budget.ORDER:
            path = weights / f"{component}-{self._settings['lstm-file']}.weights.h5"
            if name == "autoencoder":
                path = weights / (self._settings[f"{component}-encoder"] + ".weights.h5")
            if path == self._checkpoint.path:
                history = self._checkpoint.history
            else:
                if path not in self._histories:
                    self._histories[path] = read_history(path)
                history = self._histories[path]
            losses[f"{component} {name}"] = history.get(name, [])
            if (component, name) == (self._component, self._name):
                return losses


def board(settings: dict, name: str):
    """Where TensorBoard's events of `name` go, output/NAME/tensorboard; None without `tensorboard`."""
    if not settings["tensorboard"]:
        return None
    folder = settings_module.output_folder(settings) / "tensorboard" / name
    return tf.summary.create_file_writer(str(folder))


def show(writer, name: str, signal: np.ndarray, rate: int) -> None:
    """Give TensorBoard audio ``(S,)`` to play and its spectrogram to see."""
    tf.summary.audio(name, signal[None, :, None].astype(np.float32), rate)
    tf.summary.image(name, scores.picture([signal], rate)[None])
    writer.flush()
