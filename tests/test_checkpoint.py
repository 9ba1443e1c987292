"""Weights files that are torn, crafted, of other settings, or on a full disk; which ones are kept."""

import contextlib
import io
import random
import signal

import h5py
import numpy as np
import pytest
from helpers import SmallTraining, contents, tiny_run

import preprocess
from joanna import files
from joanna.checkpoint import load_weights
from joanna.errors import Stopped, UserError
from joanna.run import Run

KEY = SmallTraining.training.key
OTHER = "dropout=0.2"
OLD = "weights/song/phase-lstm-file.old.weights.h5"


def stop_at(training, step):
    """Train up to a signal before `step`, without which the test shows nothing; contents of the file."""
    training.signal_at = step
    with pytest.raises(Stopped):
        training.train()
    return contents(training.path)


def test_a_torn_or_altered_file_is_named_and_the_previous_one_used(tmp_path, capsys):
    uninterrupted, rng = SmallTraining(tmp_path).train(), random.Random(0)
    path = tmp_path / "weights/song/phase-lstm-file.weights.h5"
    previous = path.with_name("phase-lstm-file.previous.weights.h5")
    data, previous_data = path.read_bytes(), previous.read_bytes()
    for trial in range(8):
        place = rng.randrange(len(data))
        end = data[place + 1 :] if trial % 2 else b""
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + end)
        previous.write_bytes(previous_data)
        capsys.readouterr()
        training = SmallTraining(tmp_path)
        messages = capsys.readouterr().out
        assert f"{path} is damaged" in messages
        assert f"resuming from {previous}" in messages
    assert training.train() == uninterrupted
    assert training.steps == 9  # one iteration


def test_changed_settings_start_a_new_training_and_print_the_reason(tmp_path, capsys):
    first = SmallTraining(tmp_path).train()
    capsys.readouterr()
    other = SmallTraining(tmp_path, OTHER)
    assert not other.resumed
    assert "was made with dropout 0.4, the settings say 0.2" in capsys.readouterr().out
    assert other.train().keys() == first.keys()
    assert other.steps == 18
    assert SmallTraining(tmp_path, OTHER).resumed
    # other settings of the training may generate, but not those of another network
    changed = {**other.run.settings, "random-seed": 5, "dropout": 0.0}
    load_weights(other.network, other.path, Run(changed, tmp_path), "lstm")
    with pytest.raises(UserError, match="made with layer-count 2, the settings say 1") as refused:
        load_weights(other.network, other.path, Run({**changed, "layer-count": 1}, tmp_path), "lstm")
    assert refused.value.rerun == "lstm"


@pytest.mark.parametrize("iterations", [2, 3])
def test_a_setting_that_is_set_back_brings_the_previous_weights_back(tmp_path, iterations):
    old = SmallTraining(tmp_path).train()
    stopped = stop_at(SmallTraining(tmp_path, OTHER), 13)  # saved twice by then
    back = SmallTraining(tmp_path, f"lstm-iteration={iterations}")
    assert back.resumed
    back.scale = lambda epoch: np.nan if back.steps == 0 else 2.0  # explodes before the first save
    ended = back.train()
    assert back.checkpoint.state.is_trained(back.training, back.run.settings)
    assert contents(tmp_path / OLD) == stopped
    if iterations == 2:
        assert back.steps == 0
        assert ended == old
        back.checkpoint.finalize()
        stop_at(SmallTraining(tmp_path, OTHER), 13)
        assert SmallTraining(tmp_path).train() == old


def test_a_file_torn_while_another_setting_is_trained_costs_no_weights(tmp_path):
    old = SmallTraining(tmp_path).train()
    other = SmallTraining(tmp_path, OTHER)
    stop_at(other, 13)
    other.path.write_bytes(other.path.read_bytes()[:-1])
    assert SmallTraining(tmp_path, OTHER).resumed  # from the previous one
    assert contents(tmp_path / OLD) == old
    assert SmallTraining(tmp_path).train() == old


def test_a_new_training_keeps_the_old_weights_until_it_is_finished(tmp_path):
    old, kept = SmallTraining(tmp_path).train(), tmp_path / OLD
    stop_at(SmallTraining(tmp_path, "load-weights=False"), 5)
    assert contents(kept) == old
    SmallTraining(tmp_path).checkpoint.finalize()  # its minutes are over
    assert contents(kept) == old
    resumed = SmallTraining(tmp_path)
    assert resumed.resumed
    resumed.train()
    assert contents(kept) == old
    resumed.checkpoint.finalize()
    assert not kept.exists()


@pytest.mark.parametrize(("epoch_steps", "step", "trained"), [(3, 2, 15), (40, 25, 180)])
def test_weights_of_an_earlier_version_resume_inside_an_epoch(tmp_path, epoch_steps, step, trained):
    training = SmallTraining(tmp_path, steps=epoch_steps)
    stop_at(training, epoch_steps)
    training.checkpoint.state.of(KEY).epochs, training.checkpoint.state.of(KEY).steps = 1, step
    training.checkpoint.save(KEY, [variable.numpy() for variable in training.model.optimizer.variables])
    resumed = SmallTraining(tmp_path, steps=epoch_steps)
    assert '"epochs": 6, "steps": 0' in resumed.train()["progress"]
    assert resumed.steps == trained  # from the start of the epoch, or of the part of it


def test_weights_of_another_shape_are_refused_whole(tmp_path):
    from joanna.backend import keras

    training = SmallTraining(tmp_path)
    training.train()
    other = keras.Sequential([keras.Input((5,)), keras.layers.Dense(5), keras.layers.Dense(3)])
    before = [weight.copy() for weight in other.get_weights()]
    with pytest.raises(UserError, match="does not fit the network"):
        load_weights(other, training.path, training.run, "lstm")
    assert all(map(np.array_equal, before, other.get_weights()))


CRAFTED = {
    "external link": lambda file: file.__setitem__("link", h5py.ExternalLink("/etc/hostname", "/")),
    "soft link": lambda file: file.__setitem__("link", h5py.SoftLink("/else")),
    "huge": lambda file: file.create_dataset("huge", (10**6, 10**6), "f4", chunks=(1000, 1000)),
    "bomb": lambda file: file.create_dataset("bomb", data=np.zeros(10**7), compression="gzip"),
    "external": lambda file: file.create_dataset("data", (4,), "f4", external=[("/etc/hostname", 0, 16)]),
}


@pytest.mark.parametrize("kind", CRAFTED)
def test_files_that_reach_outside_or_lie_about_their_size_are_refused(tmp_path, kind):
    def fill(path):
        with h5py.File(path, "w") as file:
            CRAFTED[kind](file)

    files.write(tmp_path / "crafted.h5", fill)
    with pytest.raises(files.DamagedError):
        files.open_h5(tmp_path / "crafted.h5")


def test_a_full_disk_leaves_files_as_they_were(tmp_path, song):
    resource = pytest.importorskip("resource")
    run = tiny_run(tmp_path, f"source={song}")
    preprocess.main(run)
    SmallTraining(tmp_path).train()

    def existing():
        return {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    before, other = existing(), SmallTraining(tmp_path, OTHER)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    shorter = Run({**run.settings, "block-count": 40}, tmp_path)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        for fails in (lambda: preprocess.main(shorter), other.train):
            # pytest keeps the output in a file, which must not grow either
            with (
                contextlib.redirect_stdout(io.StringIO()),
                pytest.raises(UserError, match=r"could not be written .* make room"),
            ):
                fails()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert existing() == before
