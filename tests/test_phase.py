import numpy as np
from conftest import tone

from joanna import audio, phase


def test_follow_finds_the_places_and_goes_straight_on():
    song = np.random.default_rng(0).normal(size=(60, 64))
    path = [*range(10, 25), *range(40, 52), *range(3, 9)]
    noise = np.random.default_rng(1).normal(0, 0.5, size=(len(path), 64))
    assert phase.follow(song[path] + noise, song).tolist() == path
    # a frame that is only a little more like another place is no reason to go there
    straight = song[5:15].copy()
    straight[4] = 0.45 * song[9] + 0.55 * song[30]
    assert phase.follow(straight, song).tolist() == list(range(5, 15))


def test_griffin_lim_makes_phases_fit_at_overlap_4():
    spectra = audio.stft(tone(), 64, 4)
    magnitude = np.abs(spectra)
    rng = np.random.default_rng(0)

    def misfit(angles):
        signal = audio.istft(magnitude * np.exp(1j * angles), 4)
        return np.mean(np.square(np.abs(audio.stft(signal, 64, 4)) - magnitude))

    guess = rng.uniform(-np.pi, np.pi, magnitude.shape)
    assert misfit(phase.griffin_lim(magnitude, guess, 4)) < 0.2 * misfit(guess)
