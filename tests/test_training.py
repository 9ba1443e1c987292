"""The learning rate, batches, saves, explosions, random numbers and devices of a training."""

import json
import os
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from helpers import PROJECT, SmallTraining, contents, tiny_run

from joanna.backend import keras
from joanna.batches import PART_STEPS, even_batches, parts_of
from joanna.checkpoint import read_history
from joanna.errors import UserError
from joanna.run import Run, Training
from joanna.spectra import normalized_error
from joanna.training import EpochBatches, WarmupCosine

KEY = SmallTraining.training.key


def test_saves_after_each_iteration_and_learns(tmp_path):
    training, saved = SmallTraining(tmp_path, "lstm-epoch=20", "lstm-iteration=3"), []

    def note_save(epoch, logs):
        progress = json.loads(contents(training.path)["progress"])[KEY]
        if progress["epochs"] not in saved:
            saved.append(progress["epochs"])

    training.train(0.05, on_epoch_end=note_save)
    assert saved == [0, 20, 40, 60]
    seconds, epochs, losses = zip(*read_history(training.path)[KEY], strict=True)
    assert list(epochs) == [*range(1, 61)]
    assert list(seconds) == sorted(seconds)
    assert losses[-1] < 0.8 * losses[0]
    frames, targets = training.batches(0)[0]
    assert normalized_error(targets, training.network.predict(frames, verbose=0)) < 0.5


@pytest.mark.parametrize("steps", [1, 30, 1000])
def test_the_rate_warms_up_and_falls_as_keras_cosine_decay(steps):
    rates, warm_up = WarmupCosine(), max(1, steps // 50)
    rates.steps.assign(steps)
    rates.peak.assign(0.5)
    stock = keras.optimizers.schedules.CosineDecay(
        0.05, max(1, steps - warm_up), alpha=0.1, warmup_target=0.5, warmup_steps=warm_up
    )
    found = [float(rates(step)) for step in range(0, steps + 1, max(1, steps // 100))]
    wanted = [float(stock(step)) for step in range(0, steps + 1, max(1, steps // 100))]
    assert found == pytest.approx(wanted, rel=1e-4)
    assert max(found) == pytest.approx(0.5)


@pytest.mark.parametrize("size", [1, 2, 7, 32])
def test_batches_are_even_lose_nothing_and_fill_equal_parts(size):
    for count in (1, 31, 33, 37, 65, 129, 195, 260, 1000):
        items = np.arange(count)
        batches = even_batches(items, size)
        sizes = [len(batch) for batch in batches]
        np.testing.assert_array_equal(np.concatenate(batches), items)
        assert min(sizes) >= 1
        assert max(sizes) - min(sizes) <= 1
        # a number without a divisor makes single items pairs
        assert max(sizes) <= max(2, size)
        assert max(sizes) <= size or len(batches) % PART_STEPS in (0, PART_STEPS - 1) or size == 1
        assert len(batches) % parts_of(len(batches)) == 0
        assert len(batches) / parts_of(len(batches)) <= PART_STEPS


def test_a_long_epoch_is_cut_into_parts_that_hold_each_batch_once():
    made = []

    def batches(epoch):
        made.append(epoch)
        return [((epoch, step), None) for step in range(99)]

    data = EpochBatches(batches, epoch=2)
    assert (data.parts, len(data)) == (4, 24)
