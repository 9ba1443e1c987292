import numpy as np
import pytest
from conftest import TINY

import generate
from joanna import model, settings


@pytest.fixture(scope="module")
def network():
    """A network whose output neither dies away nor stands still when fed back."""
    network = model.build(settings.load(TINY))["network"]
    rng = np.random.default_rng(0)
    network.set_weights([w * 3 + rng.normal(0, 0.3, w.shape) for w in network.get_weights()])
    return network


def test_part_generation_equals_the_plain_loop(network):
    rng = np.random.default_rng(0)
    for length in (1, 2, 8):
        seed = rng.normal(size=(length, 64)).astype("float32")
        frames = generate.part(network, seed, 30)
        song = np.concatenate([seed, frames])
        windows = np.stack([song[first : first + length] for first in range(30)])
        # Every frame is the plain loop's next step from the frames before it. Sums in another order
        # round differently, by some 1e-7 of values near 10; fed back, such differences grow, so the
        # two are compared a step at a time.
        plain = network.predict(windows, verbose=0)[:, -1]
        np.testing.assert_allclose(frames, plain, atol=1e-4)
        assert np.std(plain[-1] - plain[-4]) > 0.01 * np.std(plain)


def test_whole_generation_feeds_all_of_it_back(network):
    seed = np.random.default_rng(0).normal(size=(5, 64)).astype("float32")
    once = network.predict(seed[None], verbose=0)
    twice = network.predict(once, verbose=0)
    frames = generate.whole(network, seed, 8)
    np.testing.assert_allclose(frames, np.concatenate([once[0], twice[0]])[:8], atol=1e-6)


def test_matching_brings_back_mean_and_deviation():
    frames = np.random.default_rng(0).normal(3, 5, size=(40, 6))
    frames[:, 2] = 1.5
    matched = generate.match(frames)
    np.testing.assert_allclose(matched.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(np.delete(matched.std(axis=0), 2), 1)
    assert not matched[:, 2].any()
