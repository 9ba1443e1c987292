import dataclasses
import tracemalloc

import numpy as np
import pytest
from helpers import tone

from joanna import phase
from joanna.spectra import istft, stft


def test_follow_finds_the_frames_and_continues_without_a_jump():
    song = np.random.default_rng(0).normal(size=(60, 64))
    path = [*range(10, 25), *range(40, 52), *range(3, 9)]
    noise = np.random.default_rng(1).normal(0, 0.5, size=(len(path), 64))
    assert phase.follow(song[path] + noise, song).tolist() == path
    # a single frame slightly closer to another one does not justify a jump
    straight = song[5:15].copy()
    straight[4] = 0.45 * song[9] + 0.55 * song[30]
    assert phase.follow(straight, song).tolist() == list(range(5, 15))


def test_a_long_clip_takes_a_byte_for_each_pair_of_its_frames_and_the_songs():
    song = np.random.default_rng(0).normal(size=(2000, 8)).astype("float32")
    tracemalloc.start()
    path = phase.follow(song[:1500], song)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert path.tolist() == list(range(1500))
    assert peak < 2 * 1500 * 2000


def test_griffin_lim_makes_phases_consistent_at_overlap_4():
    magnitude = np.abs(stft(tone(), 64, 4))
    initial = np.random.default_rng(0).uniform(-np.pi, np.pi, magnitude.shape)

    def inconsistency(phases):
        audio = istft(magnitude * np.exp(1j * phases), 4)
        return np.mean(np.square(np.abs(stft(audio, 64, 4)) - magnitude))

    assert inconsistency(phase.griffin_lim(magnitude, initial, 4)) < 0.2 * inconsistency(initial)


def test_one_iteration_brings_spectra_closer_to_the_generated_magnitudes_and_keeps_most_of_the_phases():
    magnitude = np.abs(stft(tone(), 64, 2))
    initial = np.angle(stft(np.random.default_rng(0).normal(size=4800), 64, 2))

    def error(phases):
        return np.square(np.abs(stft(istft(magnitude * np.exp(1j * phases), 2), 64, 2)) - magnitude).mean()

    once = phase.griffin_lim(magnitude, initial, 2, iterations=1)
    assert error(once) < 0.8 * error(initial)
    assert np.average(np.cos(once - initial), weights=magnitude**2) > 0.6


def test_griffin_lim_of_a_long_clip_takes_little_more_than_its_result():
    magnitude = np.ones((40000, 64))
    phase.griffin_lim(magnitude[:9], magnitude[:9], 2)  # imports SciPy
    tracemalloc.start()
    phase.griffin_lim(magnitude, np.zeros_like(magnitude), 2, iterations=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * magnitude.nbytes


def test_griffin_lim_leaves_sounds_in_their_place():
    rng = np.random.default_rng(0)
    magnitude, initial = rng.random((20, 64)), rng.uniform(-np.pi, np.pi, (20, 64))
    phases = phase.griffin_lim(magnitude, initial, 4, stereo=True)
    np.testing.assert_array_equal(phases[:, 33:], initial[:, 33:])  # of side, relative to mid
    assert (phases[:, :33] != initial[:, :33]).all()


def test_follow_tells_frames_apart_by_their_side():
    song = np.random.default_rng(0).normal(size=(60, 64))
    song[30:, :33] = song[:30, :33]
    assert phase.follow(song[35:50], song, stereo=True).tolist() == [*range(35, 50)]


@pytest.mark.parametrize("name", phase.PHASE_METHODS)
def test_every_phase_method_gives_phases_from_the_inputs_it_asks_for(name):
    rng, method = np.random.default_rng(0), phase.PHASE_METHODS[name]
    frames, phases = rng.normal(size=(20, 64)), rng.uniform(-np.pi, np.pi, size=(20, 64))
    generated = phases[:8] if method.generates_phase else None
    linear = np.abs(frames[:8])
    inputs = phase.PhaseInputs(frames[4:12], generated, linear, frames, phases.__getitem__, 4)
    expected = {
        "follow": phases[4:12],
        "network": phases[:8],
        "griffin-lim": phase.griffin_lim(linear, phases[:8], 4),
    }
    np.testing.assert_array_equal(method.phases(inputs), expected[name])
    if name == "network":
        result = method.phases(dataclasses.replace(inputs, iterations=2))
        np.testing.assert_array_equal(result, phase.griffin_lim(linear, phases[:8], 4, iterations=2))
    assert method.minimum_overlap == (4 if name == "griffin-lim" else 2)
