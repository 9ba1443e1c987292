"""Stage 3: splice two LSTM layers into each autoencoder, then train the generator's LSTM layers.

Reads output/NAME/{frames,coded-file}.h5 and the autoencoders' weights; writes
weights/NAME/{phase,magnitude}-lstm-file.weights.h5. During training, output/NAME/previews/ and
report.html show the progress.

    python lstm.py demo                   # after autoencoder.py demo
    python lstm.py demo lstm-iteration=4  # two iterations more than the preset
    python lstm.py evening                # its share of the preset's minutes
"""

if __name__ == "__main__":
    from joanna import startup

    startup.prepare()

import numpy as np

from joanna import cli, files
from joanna.artifacts import Frames, Latents, check_lengths
from joanna.checkpoint import Checkpoint, load_weights
from joanna.errors import UserError
from joanna.resources import TimeBudget, check_memory
from joanna.run import Run, Training

RESAMPLE_EVERY = 8  # epochs between two computations of the generator's own predictions


def main(run: Run) -> None:
    """Run the stage."""
    budget, frames, latents = TimeBudget(run.settings), Frames.load(run), Latents.load(run)
    check_lengths(run, len(frames), frames.blocks)
    checkpoints = {
        component: Checkpoint(run.weights_file(component, "lstm"), run, "lstm", latents.digest)
        for component in frames.components
    }
    if run.settings["load-weights"] and all(
        checkpoint.finished(
            {
                training.key: training.epochs(run.settings)
                for training in (Training(component, "spliced"), Training(component, "generator"))
            }
        )
        for component, checkpoint in checkpoints.items()
    ):
        print(f"up to date, skipped: {run.weights}/*-{run.settings['lstm-file']}")
        return
    check_memory(run.settings, "training", len(frames))
    from joanna.fast import released_custom_gradients  # TensorFlow takes seconds to import
    from joanna.previews import Previews

    previews = Previews(run, frames)
    for component, checkpoint in checkpoints.items():
        with released_custom_gradients():
            ComponentTrainer(component, checkpoint, frames, latents).train(budget, previews)
    run.save_settings()


class ComponentTrainer:
    """The two trainings of a component: spliced autoencoder and generator.

    The encoder keeps its weights, because the coded file is its output; the decoder is trained further.

    Args:
        component: phase or magnitude.
        checkpoint: of the component's weights.
        frames: the song.
        latents: the coded file.
    """

    def __init__(self, component: str, checkpoint: Checkpoint, frames: Frames, latents: Latents):
        from joanna import fast, model

        self.component, self.checkpoint, self.run = component, checkpoint, checkpoint.run
        self.song, self.latents = frames.components[component].frames, latents.components[component]
        with fast.strategy().scope():
            self.networks = model.build(self.run.settings)
        if not checkpoint.resume(self.networks.predictor):
            path = self.run.weights_file(component, "autoencoder")
            load_weights(self.networks.autoencoder, path, self.run, "autoencoder")
            if files.digest(path) != latents.weights[component]:
                raise UserError(f"{path} did not encode the coded file", rerun="autoencoder")
            model.initialize_near_identity(self.networks, self.latents)

    def train(self, budget: TimeBudget, previews) -> None:
        """Run both trainings from the checkpoint on."""
        self._train_spliced(budget, previews)
        self._train_generator(budget, previews)
        self.checkpoint.finalize()
        print(f"wrote {self.checkpoint.path}")

    def _train_spliced(self, budget, previews):
        from joanna.training import Task, fit, normalized_error

        training, state = Training(self.component, "spliced"), self.checkpoint.state
        progress, minutes = state.of(training.key), self.run.settings["minutes"]
        goal = max(1, progress.goal) if minutes else training.epochs(self.run.settings)
        if progress.epochs < goal:  # the target of the generator is about to change
            state.forget(Training(self.component, "generator").key)
        windows = Windows(self, training, self.latents, self.song)
        rate = self.run.settings["learning-rate"]
        task = Task(training, self.networks.latent_decoder, windows.batches, rate)
        fit(
            task,
            self.checkpoint,
            budget,
            previews.callbacks(training, self.checkpoint, self.networks.spliced),
        )
        error = normalized_error(self.song, self.predict(self.networks.latent_decoder, self.latents))
        print(f"{self.component} spliced autoencoder: error {error:.3f}")

    def _train_generator(self, budget, previews):
        from joanna.training import Task, fit, normalized_error

        training = Training(self.component, "generator")
        for layer in self.networks.spliced_lstm.layers:
            layer.trainable = False
        targets = self.predict(self.networks.spliced_lstm, self.latents)[1:]
        inputs = self.latents[:-1]
        windows = Windows(self, training, inputs, targets, self.model_inputs)
        rate = self.run.settings["generator-rate"]
        task = Task(training, self.networks.generator, windows.batches, rate)
        callbacks = previews.callbacks(training, self.checkpoint, self.networks.predictor)
        fit(task, self.checkpoint, budget, callbacks)
        error = normalized_error(targets, self.predict(self.networks.generator, inputs))
        print(f"{training.label}: error {error:.3f}")

    def model_inputs(self) -> np.ndarray:
        """Latents ``(M - 1, Z)`` of predicted frames: each from the song's frames before it.

        These are the generator's inputs when it generates.
        """
        output = self.predict(self.networks.generator, self.latents[:-1])
        frames = self.networks.decoder.predict(output, batch_size=256, verbose=0)
        predicted = self.networks.encoder.predict(frames, batch_size=256, verbose=0)
        return np.concatenate([self.latents[:1], predicted[:-1]])

    def predict(self, network, inputs: np.ndarray) -> np.ndarray:
        """Output ``(M, .)`` of a network for a song ``(M, Z)``, window by window.

        Windows overlap by half and their second half is kept, so that every output but those of the first
        window depends on at least half a window of frames before it.
        """
        from joanna.training import windows_at

        length = self.run.settings["window-length"]
        step = max(1, length // 2)
        last = len(inputs) - length
        starts = np.append(np.arange(0, last, step), last)
        outputs = network.predict(windows_at(inputs, starts, length), batch_size=16, verbose=0)
        result = np.empty((len(inputs), outputs.shape[-1]), np.float32)
        result[:length] = outputs[0]
        for start, output in zip(starts[1:], outputs[1:], strict=True):
            result[start + length - step : start + length] = output[length - step :]
        return result


class Windows:
    """Training windows of a song that start anywhere; an epoch has each frame once on average.

    With `model_inputs`, a share of the windows that rises to own-share is cut from them (scheduled
    sampling: Bengio et al. 2015, arXiv:1506.03099). They are cached in the checkpoint for some epochs.

    Args:
        trainer: of the component.
        training: the training.
        inputs: ``(M, Z)``.
        targets: ``(M, .)``.
        model_inputs: returns inputs ``(M, Z)`` predicted by the network.
    """

    def __init__(
        self, trainer: ComponentTrainer, training: Training, inputs, targets, model_inputs=None
    ):
        self._run, self._checkpoint, self._training = trainer.run, trainer.checkpoint, training
        self._inputs, self._targets, self._model_inputs = inputs, targets, model_inputs

    def batches(self, epoch: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Batches of ``(N, T, Z)`` inputs and ``(N, T, .)`` targets."""
        from joanna.training import even_batches, random_windows, windows_at

        settings, inputs, training = self._run.settings, self._inputs, self._training
        length = settings["window-length"]
        total = -(-len(inputs) // length)
        rng = self._run.rng(f"{training.component} {training.key}", epoch)
        starts = random_windows(total, len(inputs), length, rng)
        windows = windows_at(inputs, starts, length)
        share = 0.0
        if self._model_inputs:
            goal = self._checkpoint.state.of(training.key).goal
            share = settings["own-share"] * min(1, 2 * (epoch + 1) / max(1, goal))
        if share:
            chosen = rng.random(total) < share
            windows[chosen] = windows_at(self._cached_inputs(epoch), starts[chosen], length)
        targets = windows_at(self._targets, starts, length)
        parts = even_batches(np.arange(total), settings["window-batch"])
        return [(windows[part], targets[part]) for part in parts]

    def _cached_inputs(self, epoch):
        """The network's predictions, computed again every RESAMPLE_EVERY epochs."""
        cached, since = self._checkpoint.state.cached, epoch // RESAMPLE_EVERY
        if cached.get("since") != since:
            cached.update(since=np.array(since), own=self._model_inputs())
        return cached["own"]


if __name__ == "__main__":
    groups = ("every stage", "the networks", "training", "training the LSTM layers")
    names = ("file names of the autoencoders", "file names of the LSTM layers")
    cli.run_stage(main, __doc__, (*groups, *names))
