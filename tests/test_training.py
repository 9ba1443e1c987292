import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from joanna import progress, training
from joanna.backend import keras


class Memory:
    """Where a checkpoint would be written; keeps nothing but counts and the rates used."""

    def __init__(self):
        self.settings, self.moments, self.history, self.afresh = {"random-seed": 0}, {}, {}, False
        self.place, self.saved = {"epochs": 0, "steps": 0, "halvings": 0, "goal": 0}, []

    def of(self, name):
        return self.place

    def save(self, name, moments):
        self.saved.append(self.place["epochs"])


def _network():
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)])


def _batches(epoch):
    frames = np.random.default_rng(epoch).normal(size=(16, 4)).astype("float32")
    return [(frames, 2 * frames)]


def test_saves_after_each_iteration_and_learns():
    network, memory = _network(), Memory()
    before = training.normalised_error(*_pair(network))
    training.train(network, _batches, memory, "test", "test", 50, 3, 0.05)
    assert memory.saved == [50, 100, 150]
    seconds, epochs, losses = zip(*memory.history["test"], strict=True)
    assert list(epochs) == [*range(1, 151)]
    assert list(seconds) == sorted(seconds)
    assert losses[-1] < 0.1 * losses[0]
    assert training.normalised_error(*_pair(network)) < 0.1 * before


def _pair(network):
    frames, target = _batches(0)[0]
    return target, network.predict(frames, verbose=0)


@pytest.mark.parametrize("steps", [1, 30, 1000])
def test_the_rate_warms_up_and_falls_as_keras_cosine_decay(steps):
    network = _network()
    training.compile_for(network, steps, 0.5)
    warm_up = max(1, steps // 50)
    wanted = keras.optimizers.schedules.CosineDecay(
        0.05, max(1, steps - warm_up), alpha=0.1, warmup_target=0.5, warmup_steps=warm_up
    )
    found = []
    for step in range(0, steps + 1, max(1, steps // 100)):
        network.optimizer.iterations.assign(step)
        found.append(float(network.optimizer.learning_rate))
        assert found[-1] == pytest.approx(float(wanted(step)), rel=1e-4)
    assert max(found) == pytest.approx(0.5)


def test_measuring_before_it_does_not_change_a_training():
    trained = []
    for limit in (lambda: 0.0, None):
        network, memory = _network(), Memory()
        training.train(network, _batches, memory, "test", "test", 1, 1, 0.05, limit=limit)
        assert memory.place["epochs"] == 1
        trained.append([*network.get_weights(), *(v.numpy() for v in network.optimizer.variables)])
    assert all(map(np.array_equal, *trained))


def test_random_numbers_depend_on_seed_and_place_alone():
    first = training.epoch_rng(0, "lstm", "phase", 3).normal(size=4)
    np.testing.assert_array_equal(first, training.epoch_rng(0, "lstm", "phase", 3).normal(size=4))
    for other in ((1, "lstm", "phase", 3), (0, "lstm", "phase", 4), (0, "lstm", "magnitude", 3)):
        assert not np.array_equal(first, training.epoch_rng(*other).normal(size=4))


def test_normalised_error():
    frames = np.random.default_rng(0).normal(size=(50, 3))
    assert training.normalised_error(frames, frames) == 0
    assert training.normalised_error(frames, 0 * frames) == 1


@pytest.mark.parametrize(("seconds", "words"), [(45, "45 s"), (720, "12 min"), (12600, "3.5 h")])
def test_durations_in_words(seconds, words):
    assert progress.duration(seconds) == words


def test_two_devices_train_as_one_does():
    script = Path(__file__).with_name("mirrored.py")
    result = subprocess.run(
        [sys.executable, script],
        env={**os.environ, "PYTHONPATH": str(script.parent.parent)},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout.splitlines()[-1])
    assert found["devices"] == 2
    assert found["one"][-1] < 0.95 * found["one"][0]
    # halves of a batch added up round differently, by some 1e-7
    np.testing.assert_allclose(found["two"], found["one"], atol=1e-5)
    assert found["difference"] < 1e-3
