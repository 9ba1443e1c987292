import numpy as np
import pytest

from joanna.feedback import LoopDetector, SongFeedback, loop_limit


@pytest.mark.parametrize("variation", [0.02, 0.1, 0.5, 1.0])
@pytest.mark.parametrize(("error", "difference"), [(0.1, 0.5), (1.0, 0.5), (3.0, 0.5), (1.0, 0.01)])
def test_variation_is_the_fraction_of_frames_that_jump(variation, error, difference):
    rng = np.random.default_rng(0)
    half = rng.normal(size=(100, 64))  # the song has it twice, with a difference
    song = np.concatenate([half, half + difference * rng.normal(size=half.shape)]).astype("float32")
    feedback, places = SongFeedback(song, np.ones(200, bool), variation, rng, LoopDetector(10**6, 33)), [3]
    for _ in range(1000):  # a network that continues the song, with errors
        following = song[(places[-1] + 1) % 200]
        used = feedback.next_input((following + error * rng.normal(size=64)).astype("float32"))
        places.append(int(np.abs(song - used).max(axis=1).argmin()))
    moves = np.diff(places)
    assert np.mean(moves != 1) == pytest.approx(variation, abs=0.02)
    # no frame is used twice within a quarter of the song
    assert all(places[i] not in places[max(1, i - 50) : i] for i in range(2, 1001))
    jumps = np.abs(moves - 1)[(moves != 1) & (np.array(places[:-1]) < 199)]
    assert jumps.min() > 50
    if error < 1 and variation < 0.5:  # a good network jumps to the similar place
        assert np.mean(jumps == 100) > 0.9


def test_without_variation_frames_stay_and_loops_are_broken():
    rng = np.random.default_rng(0)
    song = rng.normal(size=(50, 64)).astype("float32")
    frames = rng.normal(size=(20, 64)).astype("float32")
    loops = []
    feedback = SongFeedback(
        song, np.ones(50, bool), 0.0, rng, LoopDetector(5, 33, lambda *loop: loops.append(loop))
    )
    np.testing.assert_array_equal([feedback.next_input(frame) for frame in frames], frames)
    assert loops == []
    feedback = SongFeedback(
        song, np.ones(50, bool), 0.0, rng, LoopDetector(5, 33, lambda *loop: loops.append(loop))
    )
    looping = np.tile(frames[:3], (4, 1))
    inputs = [feedback.next_input(frame) for frame in looping]
    # frames 3 to 7 equal the three before them
    np.testing.assert_array_equal(inputs[:7], looping[:7])
    assert (song == inputs[7]).all(axis=1).any()
    assert loops == [(8, 3)]


def test_pauses_last_as_long_as_in_the_song_and_are_no_target_of_a_jump():
    rng = np.random.default_rng(0)
    song = rng.normal(size=(200, 64)).astype("float32")
    sounding = (np.arange(200) < 80) | (np.arange(200) > 140)
    song[~sounding] = -2
    loops = []
    feedback = SongFeedback(song, sounding, 0.1, rng, LoopDetector(20, 33, lambda *loop: loops.append(loop)))
    places, following = [], 70
    for _ in range(1000):
        used = feedback.next_input(song[following] + 0.3 * rng.normal(size=64).astype("float32"))
        # all frames of the pause are equal: the one in the song's order is meant
        same = (song == used).all(axis=1)
        places.append(following if same[following] else int(same.argmax()))
        following = (places[-1] + 1) % 200
    before, after = np.array(places[:-1]), np.array(places[1:])
    assert loops == []
    in_pause = ~sounding[after]
    assert in_pause.any()
    assert (before[in_pause] == after[in_pause] - 1).all()  # entered in order
    assert before[~sounding[before] & sounding[after]].tolist() == [140] * sum(
        after == 140
    )  # left at its end
    jumps = after[(after != before + 1) & (after != 0)]
    assert not set(range(76, 141)) & set(jumps)  # nor to the 4 frames before it, 0.5 s if 20 are 3 s
    assert np.mean((after != before + 1)[~in_pause]) == pytest.approx(0.1, abs=0.03)


@pytest.mark.parametrize(("frame", "variation"), [(-2, 0.1), (-2, 0.0), (0, 0.0)])
def test_a_silent_or_constant_output_is_no_loop(frame, variation):
    rng = np.random.default_rng(0)
    song = rng.normal(size=(60, 64)).astype("float32")
    song[20:31] = -2 + 0.1 * rng.normal(size=64)
    frame = song[20] if frame else (0.1 + 1e-6 * rng.normal(size=64)).astype("float32")
    loops = []
    sounding = np.abs(np.arange(60) - 25) > 5
    feedback = SongFeedback(
        song, sounding, variation, rng, LoopDetector(5, 33, lambda *loop: loops.append(loop))
    )
    for _ in range(30):
        feedback.next_input(frame)
    assert loops == []


def test_loops_of_up_to_twenty_times_the_limit_are_found_and_longer_ones_are_not():
    frames = np.random.default_rng(0).normal(size=(120, 33))
    for period, found in ((1, 3), (20, 22), (60, 62), (61, None)):
        loops = LoopDetector(3, 33)
        lags = [loops.lag(frames[index % period]) for index in range(200)]
        first = next((index for index, lag in enumerate(lags) if lag), None)
        assert (first, lags[first or 0]) == (found, period if found else 0)


def test_a_loop_may_last_three_seconds():
    assert loop_limit({"sample-rate": 16000, "frame-length": 2048, "overlap": 2}) == 47
