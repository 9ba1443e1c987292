"""What the trainings of the LSTM stage read and are to put out."""

import numpy as np
import pytest
from helpers import tiny_run, write_wav

import autoencoder
import lstm
import preprocess
from joanna import artifacts
from joanna.artifacts import Frames, Latents
from joanna.checkpoint import Checkpoint
from joanna.previews import Previews
from joanna.resources import TimeBudget


def trainings(root, word):
    """The trainer of one component of noise, and its trainings by kind; none of them has run."""
    write_wav(root / "song.wav", np.random.default_rng(0).normal(0, 0.1, 4800))
    run, tasks = tiny_run(root, "source=song.wav", "ae-epoch=20", "own-share=1", word), {}

    def fit(task, checkpoint, *_):
        checkpoint.state.of(task.training.key).goal = 100
        tasks[task.training.kind] = task

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(artifacts, "COMPONENTS", ("magnitude",))
        for stage in (preprocess, autoencoder):
            stage.main(run)
        patch.setattr("joanna.training.fit", fit)
        frames, latents, budget = Frames.load(run), Latents.load(run), TimeBudget(run.settings)
        trainer = lstm.Trainer(Checkpoint(run, "magnitude", "lstm", latents.digest), frames, latents)
        trainer.train(budget, Previews(run, frames, budget))
    return trainer, tasks


@pytest.fixture(scope="module")
def exact(tmp_path_factory):
    """Trainings whose inputs are the song's latents, as there is no dropout."""
    return trainings(tmp_path_factory.mktemp("lstm"), "dropout=0")


def windows(task, epoch=0):
    """Input and target windows of an epoch."""
    return (np.concatenate(arrays) for arrays in zip(*task.batches(epoch), strict=True))


def starts_in(song, inputs):
    """First frames of windows ``(N, T, Z)`` in a song ``(M, Z)``, and their distances from it ``(N,)``."""
    every = np.lib.stride_tricks.sliding_window_view(song, inputs.shape[1], axis=0).swapaxes(1, 2)
    distances = np.abs(inputs[:, None] - every).max(axis=(2, 3))
    return distances.argmin(axis=1), distances.min(axis=1)


def test_the_generator_learns_the_next_output_of_the_spliced_layers(exact):
    trainer, tasks = exact
    inputs, targets = windows(tasks["generator"])
    assert inputs.shape == targets.shape == (len(inputs), 8, 48)
    starts, distances = starts_in(trainer.latents, inputs)
    assert distances.max() < 1e-4
    spliced = trainer.networks.spliced_lstm(trainer.latents[None]).numpy()[0]

    def error(shift):
        shifted = spliced[np.minimum(starts[:, None] + np.arange(8) + shift, len(spliced) - 1)]
        return np.square(shifted - targets).mean() / targets.var()

    assert error(1) < 0.01 < 0.3 < min(error(0), error(2))


def test_untrained_layers_are_nearly_the_identity(exact):
    trainer, _ = exact
    output = trainer.networks.generator(trainer.latents[None]).numpy()
    assert np.corrcoef(output.ravel(), trainer.latents.ravel())[0, 1] > 0.5


def test_more_and_more_inputs_are_own_predictions(exact):
    trainer, tasks = exact

    def share(epoch):
        inputs, _ = windows(tasks["generator"], epoch)
        return np.mean(starts_in(trainer.latents, inputs)[1] > 1e-4)

    shares = [share(epoch) for epoch in (0, 25, 60)]
    assert shares[0] < 0.2 < shares[1] < 0.8 < shares[2] == 1


def test_own_predictions_are_made_from_own_predictions_up_to_eight_times(exact):
    trainer, tasks = exact
    cached, before = trainer.checkpoint.state.cached, trainer.latents[:-1]

    def inputs(epoch, own):
        cached.update(since=np.array(-1), own=own)
        return next(windows(tasks["generator"], epoch))

    for epoch in (64, 72, 120, 128):  # computed every eight epochs
        same = np.array_equal(inputs(epoch, before), inputs(epoch, 0 * before))
        assert same == (epoch in (64, 128))  # from the song again


def test_the_generator_reads_codes_with_dropout(tmp_path):
    _, tasks = trainings(tmp_path, "dropout=0.4")
    (inputs, targets), (others, _) = (windows(tasks["generator"], epoch) for epoch in (0, 1))
    assert np.mean(inputs == 0) == pytest.approx(0.4, abs=0.05)
    assert not np.any(targets == 0)
    assert not np.array_equal(inputs, others)


def test_the_spliced_layers_learn_the_song(exact):
    trainer, tasks = exact
    inputs, targets = windows(tasks["spliced"])
    starts, distances = starts_in(trainer.latents, inputs)
    assert not distances.any()
    np.testing.assert_array_equal(targets, trainer.song[starts[:, None] + np.arange(8)])
