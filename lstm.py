"""Stage 3: splice two LSTM layers into each autoencoder, then train the generator's LSTM layers.

Reads output/NAME/{frames,coded-file}.h5 and the autoencoders' weights; writes
weights/NAME/{phase,magnitude}-lstm-file.weights.h5. During training, output/NAME/previews/ and
report.html show the progress.

    python lstm.py demo                   # after autoencoder.py demo
    python lstm.py demo lstm-epoch=128    # twice the epochs of the preset
    python lstm.py evening                # its share of the preset's minutes
"""

if __name__ == "__main__":
    from joanna import startup

    startup.prepare()

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from joanna import cli, files
from joanna.artifacts import Frames, Latents, check_lengths
from joanna.batches import Batches, even_batches, random_windows, windows_at
from joanna.checkpoint import Checkpoint, load_weights
from joanna.errors import UserError
from joanna.resources import TimeBudget, check_memory
from joanna.run import Run, Training
from joanna.spectra import normalized_error

if TYPE_CHECKING:
    from joanna.previews import Previews

RESAMPLE_EVERY = 8  # epochs between two computations of the generator's own predictions
ROWS = 256  # frames decoded at a time
MAX_DEPTH = 8  # predictions in a row, after which they start from the song again


def main(run: Run) -> None:
    """Run the stage."""
    budget, frames, latents = TimeBudget(run.settings), Frames.load(run), Latents.load(run)
    check_lengths(run, len(frames), frames.blocks)
    checkpoints = [Checkpoint(run, component, "lstm", latents.digest) for component in frames.components]
    if run.settings["load-weights"] and all(checkpoint.finished() for checkpoint in checkpoints):
        print(f"up to date, skipped: the LSTM weights in {run.weights}")
        return
    check_memory(run.settings, "training", len(frames))
    from joanna.fast import released_custom_gradients  # TensorFlow takes seconds to import
    from joanna.previews import Previews

    previews = Previews(run, frames, budget)
    for checkpoint in checkpoints:
        with released_custom_gradients():
            Trainer(checkpoint, frames, latents).train(budget, previews)
        print(f"wrote {checkpoint.path}")
    run.save_settings()


class Trainer:
    """The two trainings of a component: its spliced autoencoder and its generator.

    The encoder keeps its weights, because the coded file is its output; the decoder is trained further.
    """

    def __init__(self, checkpoint: Checkpoint, frames: Frames, latents: Latents):
        """Build the networks and load what is trained so far."""
        from joanna import fast, model

        self.component = component = checkpoint.component
        self.checkpoint, self.run = checkpoint, checkpoint.run
        self.length = self.run.settings["window-length"]
        self._functions: dict[str, Callable] = {}  # of the networks, by name
        self.song, self.latents = frames.components[component].frames, latents.components[component]
        with fast.strategy().scope():
            self.networks = model.build(self.run.settings)
        if not checkpoint.resume(self.networks.predictor):
            path = self.run.weights_file(component, "autoencoder")
            if files.digest(path) != latents.weights[component]:
                raise UserError(
                    f"the coded file was made with other weights than {path}", rerun="autoencoder"
                )
            self._splice()

    def _splice(self):
        """Set the first weights: those of the autoencoder, and LSTM layers that change little."""
        from joanna import model

        path = self.run.weights_file(self.component, "autoencoder")
        load_weights(self.networks.autoencoder, path, self.run, "autoencoder")
        model.initialize_near_identity(self.networks, self.latents)

    def _initialize(self):
        """Set the first weights again."""
        from joanna import model

        self.networks.predictor.set_weights(model.build(self.run.settings).predictor.get_weights())
        self._splice()

    def train(self, budget: TimeBudget, previews: "Previews") -> None:
        """Run both trainings from the checkpoint on."""
        self.train_spliced(budget, previews)
        self.train_generator(budget, previews)
        self.checkpoint.finalize()

    def train_spliced(self, budget: TimeBudget, previews: "Previews") -> None:
        """Train the two LSTM layers and the decoder to reconstruct the song."""
        training, state = Training(self.component, "spliced"), self.checkpoint.state
        if not state.is_trained(training, self.run.settings):  # the generator's targets are about to change
            state.forget(Training(self.component, "generator").key)

        def batches(epoch):
            starts, _ = self._starts(training, epoch, len(self.latents))
            return self._batches(starts, lambda part: self._windows(self.latents, starts[part]), self.song)

        self._fit(training, batches, budget, previews)
        error = normalized_error(self.song, self._predict(self.networks.latent_decoder, self.latents))
        print(f"{training.label}: error {error:.3f}")

    def train_generator(self, budget: TimeBudget, previews: "Previews") -> None:
        """Train the generator to predict the next output of the frozen spliced layers.

        A share of its inputs that rises to own-share are its own predictions (scheduled sampling: Bengio
        et al. 2015, arXiv:1506.03099).
        """
        training, settings = Training(self.component, "generator"), self.run.settings
        for layer in self.networks.spliced_lstm.layers:
            layer.trainable = False
        from joanna.fast import DropoutEncoder

        encode = DropoutEncoder(self.networks.encoder, settings["dropout"])
        targets = self._predict(self.networks.spliced_lstm, self.latents)[1:]
        inputs = self.latents[:-1]

        def batches(epoch):
            starts, rng = self._starts(training, epoch, len(inputs))
            codes = encode(self.song, self.run.rng(f"{self.component} new", "codes", epoch))[:-1]
            goal = max(1, self.checkpoint.state.of(training.key).goal)
            share = settings["own-share"] * min(1, 2 * (epoch + 1) / goal)
            chosen = rng.random(len(starts)) < share
            own = self._model_inputs(encode, codes, epoch) if share else codes

            def windows(part):
                own_windows = self._windows(own, starts[part])
                return np.where(chosen[part, None, None], own_windows, self._windows(codes, starts[part]))

            return self._batches(starts, windows, targets)

        self._fit(training, batches, budget, previews)
        error = normalized_error(targets, self._predict(self.networks.generator, inputs))
        print(f"{training.label}: error {error:.3f}")

    def _fit(self, training, batches, budget, previews):
        from joanna.training import Task, fit

        network, previewed, rate = {
            "spliced": (self.networks.latent_decoder, self.networks.spliced, "learning-rate"),
            "generator": (self.networks.generator, self.networks.predictor, "generator-rate"),
        }[training.kind]
        task = Task(training, network, batches, self.run.settings[rate], self._initialize)
        fit(task, self.checkpoint, budget, previews.callbacks(training, self.checkpoint, previewed))

    def _starts(self, training, epoch, frames):
        """First frames of an epoch's random windows, each frame once on average; its random numbers."""
        rng = self.run.rng(f"{self.component} {training.key}", epoch)
        return random_windows(-(-frames // self.length), frames, self.length, rng), rng

    def _windows(self, array, starts):
        return windows_at(array, starts, self.length)

    def _batches(self, starts, inputs, targets):
        """Batches of input windows ``(N, T, Z)``, which `inputs` makes, and those of the targets."""
        parts = even_batches(np.arange(len(starts)), self.run.settings["window-batch"])
        return Batches(parts, lambda part: (inputs(part), self._windows(targets, starts[part])))

    def _model_inputs(self, encode, codes, epoch):
        """The generator's inputs ``(M - 1, Z)`` when it generates: latents of predicted frames.

        They are predicted again every RESAMPLE_EVERY epochs, from those before, so that errors add up as
        they do then; every MAX_DEPTH times from the song's `codes` ``(M - 1, Z)``. In between they are
        kept in the checkpoint.
        """
        cached, since = self.checkpoint.state.cached, epoch // RESAMPLE_EVERY
        if cached.get("since") != since:
            deeper = since % MAX_DEPTH and "own" in cached
            output = self._predict(self.networks.generator, cached["own"] if deeper else codes)
            rng = self.run.rng(f"{self.component} new", "own", epoch)
            parts = [output[start : start + ROWS] for start in range(0, len(output), ROWS)]
            predicted = np.concatenate(
                [encode(self._output(self.networks.decoder, part), rng) for part in parts]
            )
            cached.update(since=np.array(since), own=np.concatenate([self.latents[:1], predicted[:-1]]))
        return cached["own"]

    def _output(self, network, inputs):
        """`network.predict` of a batch, which takes a tenth of a second to start, each time."""
        from joanna.backend import tensorflow as tf

        if network.name not in self._functions:
            self._functions[network.name] = tf.function(
                functools.partial(network, training=False), reduce_retracing=True
            )
        return self._functions[network.name](tf.constant(inputs)).numpy()

    def _predict(self, network, inputs):
        """Output ``(M, .)`` of a network for a song ``(M, Z)``, window by window.

        Windows overlap by half and their second half is kept, so that every output after the first
        window depends on at least half a window of frames before it.
        """
        step, last = max(1, self.length // 2), len(inputs) - self.length
        starts = np.append(np.arange(0, last, step), last)
        result = np.empty((len(inputs), network.output_shape[-1]), np.float32)
        for first in range(0, len(starts), 16):
            part = starts[first : first + 16]
            for start, output in zip(part, self._output(network, self._windows(inputs, part)), strict=True):
                new = self.length - step if start else 0
                result[start + new : start + self.length] = output[new:]
        return result


if __name__ == "__main__":
    groups = ("every stage", "the networks", "training", "training the LSTM layers")
    names = ("file names of the autoencoders", "file names of the LSTM layers")
    cli.run_stage(main, __doc__, (*groups, *names))
