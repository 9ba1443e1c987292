"""Trainings that are killed, stopped, torn or fed other settings, and what comes of them."""

import contextlib
import io
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
from conftest import PROJECT, TINY, copy_project, tone
from scipy.io import wavfile

import autoencoder
import lstm
import preprocess
from joanna import checkpoint as checkpoint_module
from joanna import settings as settings_module
from joanna import store, training
from joanna.backend import keras
from joanna.checkpoint import Checkpoint
from joanna.errors import Stopped, UserError

STEPS = 3  # a network's steps an epoch


class Run:
    """A small network with dropout, trained on batches that depend on the epoch alone."""

    def __init__(self, root, song, **changes):
        settings = settings_module.load([*TINY, f"source={song}"])
        self.checkpoint = Checkpoint(root / "x.weights.h5", {**settings, **changes}, "lstm", "song")
        keras.utils.set_random_seed(0)
        layers = [keras.layers.Dense(5), keras.layers.Dropout(0.5), keras.layers.Dense(5)]
        self.network = keras.Sequential([keras.Input((5,)), *layers])
        self.model = keras.Sequential([keras.Input((5,)), *layers])
        self.steps, self.rate, self.poison = 0, 0.01, lambda epoch: False
        self.interrupt = lambda steps: False
        self.resumed = self.checkpoint.resume(self.network)

    def batches(self, epoch):
        rng = np.random.default_rng(epoch)
        return [self.Batch(self, epoch, rng.normal(size=(8, 5)).astype("float32")) for _ in range(STEPS)]

    class Batch:
        """Inputs and targets; its being used is a step, before which a signal may come."""

        def __init__(self, run, epoch, frames):
            self.run, self.epoch, self.frames = run, epoch, frames

        def __iter__(self):
            self.run.steps += 1
            if self.run.interrupt(self.run.steps):
                os.kill(os.getpid(), signal.SIGINT)
            scale = np.float32(np.nan if self.run.poison(self.epoch) else 2)
            return iter((self.frames, scale * self.frames))

    def train(self, epochs=3, iterations=2):
        arguments = (self.model, self.batches, self.checkpoint, "test", "test network")
        training.train(*arguments, epochs, iterations, self.rate)
        return self.contents()

    def contents(self):
        return contents(self.checkpoint.path)


def contents(path):
    """Every array of the file, optimizer's and dropout's too, and the progress; without the times."""
    found = {}
    with h5py.File(path) as file:
        found["progress"] = file.attrs["progress"]
        file.visititems(
            lambda name, item: (
                found.update({name: item[()].tobytes()})
                if isinstance(item, h5py.Dataset) and "history" not in name
                else None
            )
        )
    return found


@pytest.fixture
def fresh(tmp_path, root, song):
    def make(name="run", **changes):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        return Run(folder, song, **changes)

    return make


def test_stopped_at_any_step_ends_as_one_that_was_not(fresh, capsys):
    whole = fresh("whole").train()
    for step in range(1, 6 * STEPS + 1):
        run = fresh(f"stop-{step}")
        run.interrupt = lambda steps, step=step: steps == step
        with pytest.raises(Stopped) as stopped:
            run.train()
        assert stopped.value.args == (signal.SIGINT,)
        again = fresh(f"stop-{step}")
        assert again.resumed
        capsys.readouterr()
        assert again.train() == whole, step
        assert again.steps == 6 * STEPS - step
        if step < 6 * STEPS:
            assert f"going on at epoch {step // STEPS + 1} of 6" in capsys.readouterr().out


def test_a_second_signal_stops_at_once_and_tears_nothing(fresh):
    whole = fresh("whole").train()
    run = fresh()
    run.train(iterations=1)
    more = fresh()
    more.interrupt = lambda steps: steps == 2
    save = more.checkpoint.save

    def interrupted(*arguments):
        os.kill(os.getpid(), signal.SIGINT)
        save(*arguments)

    more.checkpoint.save = interrupted
    with pytest.raises(Stopped):
        more.train()
    assert fresh().resumed
    assert fresh().train().keys() == whole.keys()


def test_a_torn_or_altered_file_is_named_and_the_one_before_it_taken(fresh, capsys):
    whole = fresh("whole").train()
    path = fresh("torn").checkpoint.path
    rng = random.Random(0)
    for trial in range(6):
        fresh("torn", **{"load-weights": False}).train()
        data = path.read_bytes()
        if trial % 2:
            path.write_bytes(data[: rng.randrange(len(data))])
        else:
            place = rng.randrange(len(data))
            path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        capsys.readouterr()
        run = fresh("torn")
        said = capsys.readouterr().out
        assert f"{path} is damaged" in said
        assert f"going on from {path.with_name('x.previous.weights.h5')}" in said
        assert run.train() == whole
        assert run.steps == 3 * STEPS  # the one before is an iteration old


def test_more_iterations_go_on(fresh):
    fresh().train()
    run = fresh()
    run.train(iterations=3)
    assert run.steps == 3 * STEPS


def test_changed_settings_train_afresh_and_say_why(fresh, capsys):
    first = fresh().train()
    capsys.readouterr()
    other = fresh(dropout=0.2)
    assert not other.resumed
    assert "was made with dropout 0.4, the settings say 0.2" in capsys.readouterr().out
    other.train()
    assert other.steps == 6 * STEPS
    assert fresh(dropout=0.2).resumed
    # generating may use other settings than training did, unless the network would be another
    chosen = {**other.checkpoint.settings, "random-seed": 5, "dropout": 0.0}
    checkpoint_module.load_weights(other.network, other.checkpoint.path, chosen, "lstm")
    with pytest.raises(UserError, match="made with layer-count 2, the settings say 1"):
        checkpoint_module.load_weights(
            other.network, other.checkpoint.path, {**chosen, "layer-count": 1}, "lstm"
        )
    assert first.keys() == other.contents().keys()


@pytest.mark.parametrize("iterations", [2, 3])
def test_a_setting_that_is_set_back_brings_the_weights_of_before_back(fresh, iterations):
    old = fresh().train()
    other = fresh(dropout=0.2)
    other.interrupt = lambda steps: steps == 5 * STEPS  # saved twice by then
    with pytest.raises(Stopped):
        other.train()
    stopped = other.contents()
    again = fresh()
    assert again.resumed
    again.poison = lambda epoch: again.steps == 1  # the loss explodes before anything is saved
    ended = again.train(iterations=iterations)
    if iterations == 2:
        assert again.steps == 0
        assert ended == old
    assert again.checkpoint.finished({"test": 3 * iterations})
    assert contents(again.checkpoint.path.with_name("x.old.weights.h5")) == stopped
    if iterations == 2:  # the other setting again, and back
        again.checkpoint.done()
        other = fresh(dropout=0.2)
        other.interrupt = lambda steps: steps == 5 * STEPS
        with pytest.raises(Stopped):
            other.train()
        back = fresh()
        assert back.train() == old
        assert back.steps == 0


def test_a_file_torn_while_another_setting_is_trained_costs_no_weights(fresh):
    old = fresh().train()
    other = fresh(dropout=0.2)
    other.interrupt = lambda steps: steps == 5 * STEPS
    with pytest.raises(Stopped):
        other.train()
    path = other.checkpoint.path
    path.write_bytes(path.read_bytes()[:-1])
    assert fresh(dropout=0.2).resumed  # from the one before it
    assert contents(path.with_name("x.old.weights.h5")) == old
    assert fresh().train() == old


def test_starting_afresh_keeps_the_old_weights_until_the_new_ones_are_whole(fresh):
    old = fresh().train()
    run = fresh(**{"load-weights": False})
    kept = run.checkpoint.path.with_name("x.old.weights.h5")
    run.interrupt = lambda steps: steps == 5
    with pytest.raises(Stopped):
        run.train()
    assert contents(kept) == old
    again = fresh()
    again.train()
    assert contents(kept) == old
    again.checkpoint.done()
    assert not kept.exists()


def test_an_exploding_loss_goes_back_at_half_the_rate_and_gives_up_after_three_times(fresh, capsys):
    run = fresh()
    times = [0]

    def poison(epoch):
        times[0] += epoch == 4
        return epoch == 4 and times[0] <= 2

    run.poison = poison
    run.train()
    said = capsys.readouterr().out
    assert "exploded at epoch 5; back to epoch 4, saved last, at half the learning rate: 0.005" in said
    assert "at half the learning rate: 0.0025" in said
    assert np.isfinite(run.network.get_weights()[0]).all()
    hopeless = fresh("hopeless")
    hopeless.poison = lambda epoch: epoch == 4
    with pytest.raises(
        UserError, match="exploded at epoch 5, at a learning rate of 0.00125 after 3 halvings"
    ):
        hopeless.train()
    # what was saved before is there and whole
    assert '"epochs": 3' in hopeless.contents()["progress"]


def test_after_an_explosion_it_ends_as_one_that_goes_on_at_half_the_rate(fresh, tmp_path):
    run, later = fresh("exploded"), tmp_path / "later"

    def poison(epoch):
        if epoch != 4 or later.exists():
            return False
        later.mkdir()
        shutil.copy(run.checkpoint.path, later)
        return True

    run.poison = poison
    exploded = run.train()
    again = fresh("later")
    again.checkpoint.of("test")["halvings"] = 1
    assert again.train() == exploded


def test_an_explosion_before_the_first_save_of_more_iterations_does_not_end_them(fresh, capsys):
    fresh().train(iterations=1)
    run, times = fresh(), [0]

    def poison(epoch):
        times[0] += epoch == 3
        return epoch == 3 and times[0] == 1

    run.poison = poison
    run.train(iterations=2)
    assert "exploded at epoch 4; back to epoch 4" in capsys.readouterr().out
    assert run.steps == 3 * STEPS + 1
    assert '"epochs": 6' in run.contents()["progress"]


def test_ctrl_c_during_the_last_preview_stops_too(fresh):
    class Watch:
        def left(self, seconds, epoch):
            return seconds

        def epoch(self, epoch, loss, optimizer):
            if epoch == 6:
                os.kill(os.getpid(), signal.SIGINT)

    run = fresh()
    with pytest.raises(Stopped):
        training.train(
            run.model, run.batches, run.checkpoint, "test", "test network", 3, 2, 0.01, watch=Watch()
        )
    assert '"epochs": 6' in run.contents()["progress"]


def test_more_lstm_iterations_stopped_between_the_trainings_end_as_ones_that_were_not(root, song):
    words = [*TINY, f"source={song}", "ae-iteration=1", "lstm-iteration=1"]
    more = settings_module.load([*words, "lstm-iteration=2"])
    path = root / "weights" / more["name"] / "phase-lstm-file.weights.h5"
    for stage in (preprocess, autoencoder, lstm):
        stage.main(settings_module.load(words))
    kept = {file: file.read_bytes() for file in path.parent.glob("*lstm-file*")}
    lstm.main(more)
    whole = contents(path)
    for file, data in kept.items():
        file.write_bytes(data)
    train, names = training.train, []

    def stopped_before_the_generator(network, batches, checkpoint, name, *rest):
        names.append(name)
        if name == "new":
            raise Stopped(signal.SIGINT)
        train(network, batches, checkpoint, name, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "train", stopped_before_the_generator)
        with pytest.raises(Stopped):
            lstm.main(more)
    assert names == ["spliced", "new"]
    lstm.main(more)
    assert contents(path) == whole


def test_weights_that_the_coded_file_was_not_made_with_are_refused(root, song):
    first, other = (
        settings_module.load([*TINY, f"source={song}", f"dropout={rate}"]) for rate in (0.1, 0.2)
    )
    coded = root / "output" / first["name"] / "coded-file.h5"
    preprocess.main(first)
    autoencoder.main(first)
    kept = coded.read_bytes()
    autoencoder.main(other)
    coded.write_bytes(kept)
    with pytest.raises(UserError, match="not what the coded file was made with; run: python autoencod"):
        lstm.main(other)


def test_weights_of_another_shape_are_refused_whole(fresh):
    run = fresh()
    run.train()
    other = keras.Sequential([keras.Input((5,)), keras.layers.Dense(5), keras.layers.Dense(3)])
    before = [weight.copy() for weight in other.get_weights()]
    with pytest.raises(UserError, match="does not fit the network"):
        checkpoint_module.load_weights(other, run.checkpoint.path, run.checkpoint.settings, "lstm")
    assert all(map(np.array_equal, before, other.get_weights()))


def test_files_that_reach_outside_or_lie_about_their_size_are_refused(tmp_path):
    def outside(file):
        file["link"] = h5py.ExternalLink("/etc/hostname", "/")

    def soft(file):
        file["link"] = h5py.SoftLink("/else")

    def huge(file):
        file.create_dataset("huge", shape=(10**6, 10**6), dtype="f4", chunks=(1000, 1000))

    def bomb(file):
        file.create_dataset("bomb", data=np.zeros(10**7), compression="gzip")

    def external(file):
        file.create_dataset("data", (4,), "f4", external=[("/etc/hostname", 0, 16)])

    for crafted in (outside, soft, huge, bomb, external):
        path = tmp_path / "crafted.h5"

        def fill(path, crafted=crafted):
            with h5py.File(path, "w") as file:
                crafted(file)

        store.write(path, fill)
        with pytest.raises(store.DamagedError):
            store.open_h5(path)


def test_a_second_run_of_a_name_is_told_who_holds_it(root, song):
    settings = settings_module.load([*TINY, f"source={song}"])
    script = f"""
import pathlib, time
from joanna import settings
settings.ROOT = pathlib.Path({str(root)!r})
with settings.locked({{"name": {settings["name"]!r}}}):
    print("held", flush=True)
    time.sleep(60)
"""
    holder = subprocess.Popen([sys.executable, "-c", script], cwd=PROJECT, stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"held\n"
    with (
        pytest.raises(UserError, match=f"process {holder.pid} is working on"),
        settings_module.locked(settings),
    ):
        pass
    with settings_module.locked({"name": "another"}):
        pass
    holder.kill()
    holder.wait()
    with settings_module.locked(settings):
        pass


def test_a_full_disk_leaves_files_as_they_were(root, song):
    resource = pytest.importorskip("resource")
    words = [*TINY, f"source={song}", "name=song"]
    preprocess.main(settings_module.load(words))
    autoencoder.main(settings_module.load(words))
    files = [*root.glob("weights/song/*"), *root.glob("output/song/*")]
    before = {path: path.read_bytes() for path in files}
    assert len(before) == 7
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        for size, stage, change in (
            (1000, preprocess, "block-count=40"),
            (1000, autoencoder, "dropout=0.1"),
            (150_000, autoencoder, "dropout=0.1"),
        ):
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
            # pytest keeps what is printed in a file, which must not grow either
            with (
                contextlib.redirect_stdout(io.StringIO()),
                pytest.raises(UserError, match="could not be written .* make room"),
            ):
                stage.main(settings_module.load([*words, change]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert {
        path: path.read_bytes() for path in [*root.glob("weights/song/*"), *root.glob("output/song/*")]
    } == before


def test_scripts_killed_at_random_moments_end_with_the_same_bytes(tmp_path):
    """`kill -9` in every stage, then the same command again, until it ends."""
    words = [*TINY, "source=./sources/song.wav", "ae-epoch=40", "ae-iteration=10", "lstm-epoch=5"]
    words += ["lstm-iteration=8"]
    rng = random.Random(time.time_ns())
    folders = {}
    for name in ("whole", "killed"):
        folders[name] = copy_project(tmp_path / name)
        samples = np.round(tone() * 32767).astype(np.int16)
        wavfile.write(folders[name] / "sources" / "song.wav", 4000, samples)
        for stage in ("preprocess", "autoencoder", "lstm", "generate"):
            command = [sys.executable, f"{stage}.py", *words]
            killed = 0
            while name == "killed" and killed < 2:
                process = subprocess.Popen(
                    command, cwd=folders[name], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                )
                try:
                    process.wait(rng.uniform(0.2, 1) if stage == "preprocess" else rng.uniform(4, 9))
                except subprocess.TimeoutExpired:
                    process.kill()
                process.wait()
                killed += 1
            result = subprocess.run(command, cwd=folders[name], capture_output=True, text=True)
            assert (result.returncode, result.stderr) == (0, "")
    for name in ("phase-encoder", "magnitude-encoder", "phase-lstm-file", "magnitude-lstm-file"):
        path = f"weights/song/{name}.weights.h5"
        assert contents(folders["killed"] / path) == contents(folders["whole"] / path), name
    clips = sorted(path.name for path in (folders["whole"] / "output/song").glob("*.wav"))
    assert len(clips) == 5
    for clip in clips:
        path = f"output/song/{clip}"
        assert (folders["killed"] / path).read_bytes() == (folders["whole"] / path).read_bytes()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_and_sigterm_save_and_say_how_to_go_on(tmp_path, song, number, code):
    folder = copy_project(tmp_path / "project")
    words = [*TINY, f"source={song}", "load-weights=False", "ae-epoch=100000"]
    subprocess.run(
        [sys.executable, "preprocess.py", *words], cwd=folder, check=True, capture_output=True
    )
    process = subprocess.Popen(
        [sys.executable, "autoencoder.py", *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    saved = folder / "weights" / "my-song" / "phase-encoder.weights.h5"
    while not saved.exists() and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(number)
    out, err = process.communicate(timeout=100)
    assert process.returncode == code
    assert "stopping after this step" in out
    assert "stopped; to go on: python autoencoder.py" in err
    assert err.endswith("load-weights=True\n")
    with h5py.File(saved) as file:
        assert '"epochs": 0, "steps": 0' not in file.attrs["progress"]


def test_folders_that_cannot_be_written_are_named(tmp_path, song):
    folder = copy_project(tmp_path / "project")
    (folder / "output").write_text("a file where a folder is to be")
    result = subprocess.run(
        [sys.executable, "preprocess.py", *TINY, f"source={song}"],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert "output" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_folder_without_permission_is_named_and_left_as_it_was(tmp_path, song):
    prefix = []
    if os.geteuid() == 0:  # root may write anywhere, but for what is taken from it
        if not shutil.which("setpriv"):
            pytest.skip("runs as root, and there is no setpriv to make it less")
        prefix = ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override"]
    folder = copy_project(tmp_path / "project")
    words = [*TINY, f"source={song}"]
    subprocess.run(
        [sys.executable, "preprocess.py", *words], cwd=folder, check=True, capture_output=True
    )
    run, before = folder / "output" / "my-song", {}
    for path in run.iterdir():
        before[path] = path.read_bytes()
    for folder_mode, lock_mode, said in (
        (0o555, 0o644, "cannot be written to"),
        (0o755, 0o444, "denied"),
    ):
        run.chmod(folder_mode)
        (run / ".lock").chmod(lock_mode)
        for stage in ("preprocess", "autoencoder"):
            result = subprocess.run(
                [*prefix, sys.executable, f"{stage}.py", *words, "block-count=50"],
                cwd=folder,
                capture_output=True,
                text=True,
            )
            assert (result.returncode, result.stdout) == (2, "")
            assert said in result.stderr
            assert str(run) in result.stderr
            assert result.stderr.count("\n") == 1
    run.chmod(0o755)
    before.pop(run / ".lock")
    assert {path: path.read_bytes() for path in run.iterdir() if path.name != ".lock"} == before
