"""The learning rate, batches, saves, explosions, random numbers and devices of a training."""

import gc
import json
import os
import shutil
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest
from helpers import SmallTraining, contents, copy_project, tiny_run

from joanna.backend import keras
from joanna.batches import PART_STEPS, even_batches, parts_of
from joanna.checkpoint import read_history
from joanna.errors import Stopped, UserError
from joanna.resources import TimeBudget
from joanna.run import PROJECT, Training
from joanna.spectra import normalized_error
from joanna.training import Task, WarmupCosine, compile_model, epochs_within, restart

KEY = SmallTraining.training.key


def test_saves_after_each_iteration_and_learns(tmp_path):
    training, saved = SmallTraining(tmp_path, "lstm-epoch=20", "lstm-iteration=3"), set()

    def read_progress(epoch, logs):
        if training.path.exists():
            saved.add(json.loads(contents(training.path)["progress"])[KEY]["epochs"])

    training.train(0.05, on_epoch_end=read_progress)
    assert saved == {20, 40, 60}
    seconds, epochs, losses = zip(*read_history(training.path)[KEY], strict=True)
    assert list(epochs) == [*range(1, 61)]
    assert list(seconds) == sorted(seconds)
    assert losses[-1] < 0.8 * losses[0]
    inputs, targets = training.batches(0)[0]
    assert normalized_error(targets, training.network.predict(inputs, verbose=0)) < 0.5


@pytest.mark.parametrize(("cost", "pause"), [(0, 45), (4, 200), (60, 480)])
def test_saves_every_45_s_or_less_often_if_they_take_long(tmp_path, monkeypatch, cost, pause):
    training, now, saved = SmallTraining(tmp_path, "lstm-epoch=200", "lstm-iteration=1"), [0.0], []
    monkeypatch.setattr("joanna.callbacks.time.monotonic", lambda: now[0])
    save = training.checkpoint.save

    def timed_save(*arguments):
        save(*arguments)
        now[0] += cost
        saved.append(now[0])

    def pass_time(epoch, logs):
        now[0] += 10

    monkeypatch.setattr(training.checkpoint, "save", timed_save)
    training.train(on_epoch_begin=pass_time)
    pauses = np.diff([0, *saved[:-1]]) - cost
    assert pauses[0] == 50  # the cost is not known yet
    assert all(pause < each <= pause + 10 for each in pauses[1:])


def test_a_new_training_that_is_killed_at_once_leaves_no_old_weights_to_resume(tmp_path):
    old = SmallTraining(tmp_path).train()
    new = SmallTraining(tmp_path, "load-weights=False")

    def die(batch, logs):
        raise RuntimeError

    with pytest.raises(RuntimeError):
        new.train(on_train_batch_end=die)
    again = SmallTraining(tmp_path)
    assert again.resumed
    assert again.checkpoint.state.of(KEY).epochs == 0
    assert again.train().keys() == old.keys()
    assert again.steps == 18


@pytest.mark.parametrize("steps", [1, 30, 1000])
def test_the_rate_warms_up_and_falls_as_keras_cosine_decay(steps):
    rates, warm_up = WarmupCosine(), max(1, steps // 50)
    rates.steps.assign(steps)
    rates.peak.assign(0.5)
    stock = keras.optimizers.schedules.CosineDecay(
        0.05, max(1, steps - warm_up), alpha=0.1, warmup_target=0.5, warmup_steps=warm_up
    )
    sample = range(0, steps + 1, max(1, steps // 100))
    found = [float(rates(step)) for step in sample]
    assert found == pytest.approx([float(stock(step)) for step in sample], rel=1e-4)
    assert max(found) == pytest.approx(0.5)


@pytest.mark.parametrize("size", [1, 2, 7, 32])
def test_batches_are_even_lose_nothing_and_fill_equal_parts(size):
    for count in (1, 31, 33, 37, 65, 129, 195, 260, 1000):
        batches = even_batches(np.arange(count), size)
        sizes, parts = [len(batch) for batch in batches], parts_of(len(batches))
        np.testing.assert_array_equal(np.concatenate(batches), np.arange(count))
        assert min(sizes) >= max(1, max(sizes) - 1)
        assert max(sizes) <= max(2, size)
        assert len(batches) % parts == 0
        assert len(batches) / parts <= PART_STEPS


def test_an_epoch_in_parts_trains_each_batch_once_and_in_order(tmp_path):
    cut, by_hand = (SmallTraining(tmp_path / name, "lstm-epoch=1", steps=66) for name in ("cut", "hand"))
    cut.train()
    model, seed = by_hand.model, by_hand.model.layers[1].seed_generator.state
    rates = compile_model(model)
    restart(model, rates, 2 * 66)
    rates.peak.assign(0.01)
    for epoch in range(2):
        for step, batch in enumerate(by_hand.batches(epoch)):
            rng = by_hand.run.rng("phase new", "dropout", epoch, step)
            seed.assign(rng.integers(0, 2**31, size=seed.shape))
            model.train_on_batch(*batch)
    for ours, theirs in zip(cut.model.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert [epochs for _, epochs, _ in read_history(cut.path)[KEY]] == pytest.approx(
        [1 / 3, 2 / 3, 1, 4 / 3, 5 / 3, 2]
    )


def test_an_exploding_loss_returns_to_the_last_save_at_half_the_rate_and_gives_up_after_three_times(
    tmp_path, capsys
):
    training = SmallTraining(tmp_path / "explodes twice")
    scales = iter([np.nan, 1e4])
    training.scale = lambda epoch: next(scales, 2.0) if epoch == 4 else 2.0
    training.train()
    messages = capsys.readouterr().out
    for rate in ("0.005", "0.0025"):
        assert f"exploded at epoch 5; resuming from epoch 4 at half the learning rate: {rate}\n" in messages
    assert all(np.isfinite(weights).all() for weights in training.network.get_weights())
    hopeless = SmallTraining(tmp_path / "hopeless")
    hopeless.scale = lambda epoch: np.nan if epoch == 4 else 2.0
    message = "epoch 5, at a learning rate of 0.00125 after 3 halvings; generator-rate is 0.003: lower it"
    with pytest.raises(UserError, match=message):
        hopeless.train()
    assert '"epochs": 3' in contents(hopeless.path)["progress"]  # saved before, and whole


def test_after_an_explosion_results_equal_those_of_a_training_resumed_at_half_the_rate(tmp_path):
    training, saved = SmallTraining(tmp_path / "exploded"), tmp_path / "saved"

    def explode_once(epoch):
        if epoch != 4 or saved.exists():
            return 2.0
        shutil.copytree(training.run.weights, saved / "weights" / "song")
        return np.nan

    training.scale = explode_once
    exploded = training.train()
    resumed = SmallTraining(saved)
    resumed.checkpoint.state.of(KEY).halvings = 1
    assert resumed.train() == exploded


def test_an_explosion_before_the_first_save_of_more_iterations_does_not_end_them(tmp_path, capsys):
    SmallTraining(tmp_path, "lstm-iteration=1").train()
    training = SmallTraining(tmp_path)
    training.scale = lambda epoch: np.nan if training.steps == 0 else 2.0
    assert '"epochs": 6' in training.train()["progress"]
    assert "exploded at epoch 4; resuming from epoch 4" in capsys.readouterr().out
    assert training.steps == 9 + 1


def test_as_many_epochs_as_fit_and_the_same_number_when_resuming(tmp_path):
    training = SmallTraining(tmp_path, "minutes=30")
    task = Task(training.training, training.model, training.batches, 0.01, lambda: None)
    weights = training.model.get_weights()
    assert epochs_within(lambda: 60.0, task, compile_model(training.model)) > 10
    assert all(map(np.array_equal, weights, training.model.get_weights()))
    training.checkpoint.state.of(KEY).goal = 7
    assert '"epochs": 7' in training.train()["progress"]
    assert training.steps == 21


def test_a_training_without_time_for_an_epoch_trains_one_and_is_not_finished(tmp_path, capsys):
    late, times = SmallTraining(tmp_path, "minutes=30"), iter([0.0])
    late.train(clock=lambda: next(times, 1e6))
    assert late.steps == 3
    assert not late.checkpoint.state.is_trained(late.training, late.run.settings)
    message = "no time is left of the 30 minutes; it trains one epoch, so that there are clips. Run the same"
    assert message in capsys.readouterr().out
    again = SmallTraining(tmp_path, "minutes=30")
    again.signal_at = 2
    with pytest.raises(Stopped):
        again.train()
    assert again.checkpoint.state.of(KEY).epochs == 2
    assert again.checkpoint.state.of(KEY).goal > 10
    assert "resuming at epoch 2 of " in capsys.readouterr().out


@pytest.mark.parametrize(("slowness", "epochs", "finished"), [(2.2, 13, True), (20.0, 3, False)])
def test_a_machine_that_gets_slower_does_not_take_longer(tmp_path, capsys, slowness, epochs, finished):
    training, now = SmallTraining(tmp_path, "minutes=30"), [0.0]
    progress = training.checkpoint.state.of(KEY)
    progress.goal = 20
    share = TimeBudget(training.run.settings, lambda: 0.0).seconds_for(training.training)

    def slow_down(epoch, logs):
        now[0] += slowness * share / 20

    training.train(clock=lambda: now[0], on_epoch_end=slow_down)
    assert progress.epochs == epochs  # the epoch in which a quarter more than its share is over
    assert training.checkpoint.state.is_trained(training.training, training.run.settings) == finished
    advice = "" if finished else ". Run the same command again to train it further"
    message = f"slower than measured, ends after epoch {epochs} of 20{advice}\n"
    assert message in capsys.readouterr().out


def test_random_numbers_depend_on_the_seed_and_the_key_only(tmp_path):
    run, other = tiny_run(tmp_path), tiny_run(tmp_path, "random-seed=1")
    first = run.rng("lstm", "phase", 3).normal(size=4)
    np.testing.assert_array_equal(first, run.rng("lstm", "phase", 3).normal(size=4))
    for rng in (other.rng("lstm", "phase", 3), run.rng("lstm", "phase", 4), run.rng("lstm", 3)):
        assert not np.array_equal(first, rng.normal(size=4))


def test_random_numbers_do_not_depend_on_labels(tmp_path, monkeypatch, capsys):
    first = SmallTraining(tmp_path / "first").train()
    monkeypatch.setattr(Training, "label", "another label")
    assert SmallTraining(tmp_path / "relabelled").train() == first
    assert "another label: epoch 6 of 6" in capsys.readouterr().out


def test_memory_over_a_long_training_is_constant(tmp_path):
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("needs Linux")
    pages = {}

    def count_pages(epoch, logs):
        pages[epoch] = int(statm.read_text().split()[1])

    SmallTraining(tmp_path, "lstm-epoch=100", "lstm-iteration=6").train(on_epoch_end=count_pages)
    growth = (pages[599] - pages[199]) * os.sysconf("SC_PAGE_SIZE")  # the first epochs build the graph
    assert growth < 2_000_000


def test_a_finished_training_is_released(tmp_path):
    training = SmallTraining(tmp_path)
    training.train()
    reference = weakref.ref(training)  # its batches lead to the networks
    del training
    gc.collect()
    assert reference() is None


def test_two_devices_train_as_one_does(tmp_path):
    paths = os.pathsep.join(map(str, (PROJECT, PROJECT / "tests")))
    result = subprocess.run(
        [sys.executable, PROJECT / "tests/mirrored.py", tmp_path],
        env={**os.environ, "PYTHONPATH": paths, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout.splitlines()[-1])
    assert found["devices"] == 2
    assert found["change"] > 0.02
    assert found["difference"] < 1e-5  # sums in another order round differently


IMPORTS = """
import importlib, pkgutil, signal, sys
sys.argv = ["other.py", "--unknown", "value=1"]
before = [signal.getsignal(number) for number in signal.valid_signals()]
import joanna
names = [module.name for module in pkgutil.iter_modules(joanna.__path__, "joanna.")]
assert len(names) > 20
for name in [*names, "preprocess", "autoencoder", "lstm", "generate"]:
    importlib.import_module(name)
assert [signal.getsignal(number) for number in signal.valid_signals()] == before
assert joanna.backend.keras.config.floatx() == "float32"
"""


def test_importing_changes_no_signal_handler_writes_nothing_and_ignores_keras_json(tmp_path):
    folder = copy_project(tmp_path / "project")
    before = {*folder.rglob("*")}
    (tmp_path / "keras.json").write_text('{"floatx": "float16", "epsilon": 1}')
    result = subprocess.run(
        [sys.executable, "-B", "-c", IMPORTS],
        cwd=folder,
        env={**os.environ, "KERAS_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert {*folder.rglob("*")} == before
