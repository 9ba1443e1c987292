import numpy as np
import pytest
from conftest import TINY

from joanna import generation, model, settings


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
        frames = generation.part(network, seed, length, 30)
        song = np.concatenate([seed, frames])
        windows = np.stack([song[first : first + length] for first in range(30)])
        # Every frame is the plain loop's next step from the frames before it. Sums in another order
        # round differently, by some 1e-7 of values near 10; fed back, such differences grow, so the
        # two are compared a step at a time. Within a window they grow, too: to 7e-6 on one CPU, 2e-4 on
        # another.
        plain = network.predict(windows, verbose=0)[:, -1]
        np.testing.assert_allclose(frames, plain, atol=1e-3)
        assert np.std(plain[-1] - plain[-4]) > 0.01 * np.std(plain)


def test_whole_generation_feeds_all_of_it_back(network):
    seed = np.random.default_rng(0).normal(size=(5, 64)).astype("float32")
    outputs = [network.predict(seed[None], verbose=0)]
    for _ in range(7):
        outputs.append(network.predict(outputs[-1], verbose=0))
    frames = generation.whole(network, seed, 5, 8)
    # sums in another order round differently, by some 1e-6 of values near 10, and fed back it grows
    np.testing.assert_allclose(frames, [output[0, -1] for output in outputs], atol=1e-3)


@pytest.mark.parametrize("method", [generation.part, generation.whole])
def test_all_of_a_long_seed_counts_and_what_is_heard_matters(network, method):
    rng = np.random.default_rng(0)
    seed = rng.normal(size=(9, 64)).astype("float32")
    frames = method(network, seed, 4, 6)
    other = seed.copy()
    other[0] = 0
    assert not np.array_equal(method(network, other, 4, 6), frames)
    np.testing.assert_allclose(frames[0], network.predict(seed[None], verbose=0)[0, -1], atol=1e-5)
    heard = method(network, seed, 4, 6, hear=lambda frame: frame + 1)
    np.testing.assert_array_equal(heard[0], frames[0])
    assert not np.allclose(heard[1], frames[1])


@pytest.mark.parametrize("variation", [0.02, 0.1, 0.5, 1.0])
@pytest.mark.parametrize(("error", "unlike"), [(0.1, 0.5), (1.0, 0.5), (3.0, 0.5), (1.0, 0.01)])
def test_variation_is_the_share_of_frames_that_leave_the_songs_course(variation, error, unlike):
    rng = np.random.default_rng(0)
    half = rng.normal(size=(100, 64))
    song = np.concatenate([half, half + unlike * rng.normal(size=half.shape)]).astype("float32")
    hear, places = generation.hearing(song, variation, rng, 10**6, "clip"), [3]
    for _ in range(1000):  # a network that goes on with the song, more or less well
        after = song[(places[-1] + 1) % 200]
        heard = hear((after + error * rng.normal(size=64)).astype("float32"))
        places.append(int(np.abs(song - heard).max(axis=1).argmin()))
    moves = np.diff(places)
    assert np.mean(moves != 1) == pytest.approx(variation, abs=0.02)
    # none is heard again within a quarter of the song
    assert all(places[i] not in places[max(1, i - 50) : i] for i in range(2, 1001))
    left = np.abs(moves - 1)[(moves != 1) & (np.array(places[:-1]) < 199)]
    assert left.min() > 50
    if error < 1 and variation < 0.5:  # where the network is sure, it goes to the like place
        assert np.mean(left == 100) > 0.9


def test_without_variation_it_hears_itself_and_loops_are_broken(capsys):
    rng = np.random.default_rng(0)
    song = rng.normal(size=(50, 64)).astype("float32")
    still = generation.hearing(song, 0.0, rng, 5, "clip")
    frames = rng.normal(size=(20, 64)).astype("float32")
    np.testing.assert_array_equal([still(frame) for frame in frames], frames)
    assert capsys.readouterr().out == ""
    looping = generation.hearing(song, 0.0, rng, 5, "clip")
    heard = [looping(frame) for frame in np.tile(frames[:3], (4, 1))]
    # frames 3 to 7 are as those three before them were
    np.testing.assert_array_equal(heard[:7], np.tile(frames[:3], (3, 1))[:7])
    assert (song == heard[7]).all(axis=1).any()
    assert "frame 8 repeats what came 3 frames before: perturbed" in capsys.readouterr().out


def test_matching_brings_back_mean_and_deviation():
    frames = np.random.default_rng(0).normal(3, 5, size=(40, 6))
    frames[:, 2] = 1.5
    matched = generation.match(frames)
    np.testing.assert_allclose(matched.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(np.delete(matched.std(axis=0), 2), 1)
    assert not matched[:, 2].any()
