import numpy as np
import pytest

from joanna import matching, spectra
from joanna.matching import SongStatistics, match_phases

EVERY = np.ones(600, bool)


def statistics(song):
    return SongStatistics(song, EVERY[: len(song)])


def match(frames, song):
    return statistics(song).match(frames, EVERY[: len(frames)])


@pytest.mark.parametrize("power", [0.5, 1.0])
def test_a_pure_tone_is_given_back_whatever_the_network_puts_out(power):
    tone = 0.5 * np.sin(2 * np.pi * 500 / 4000 * np.arange(4000))  # a hop is four periods
    magnitude = spectra.component_frames(tone.astype(np.float32), "magnitude", 64, 2, power)
    mean, std = spectra.statistics(magnitude, EVERY[: len(magnitude)])
    normalized = spectra.normalize(magnitude, mean, std)
    noise = np.random.default_rng(0).normal(size=magnitude.shape).astype(np.float32)
    restored = spectra.denormalize(match(1e-3 * noise, normalized), mean, std)
    assert np.abs(restored - magnitude).max() < 1e-6 * magnitude.max()
    assert spectra.normalized_error(normalized, noise) < 2
    assert spectra.normalized_error(0 * normalized, noise) == 0


@pytest.mark.parametrize("most", [1024, 150])  # frames of the song that are looked at
def test_each_bin_has_the_values_of_the_song(monkeypatch, most):
    monkeypatch.setattr(matching, "_REFERENCE_FRAMES", most)
    rng = np.random.default_rng(0)
    song = rng.exponential(size=(600, 3)) * [1, 2, 0] - [1, 2, 0]
    song[:, 0].sort()  # not alike throughout
    frames = (rng.normal(size=(200, 3)) * [1, 0.1, 1] + [0, 2, 1]).astype(np.float32)
    matched = match(frames, song)
    assert matched.dtype == np.float32
    levels = np.linspace(0.1, 0.9, 17)
    expected, found = (np.quantile(values, levels, axis=0, method="hazen") for values in (song, matched))
    np.testing.assert_allclose(found, expected, atol=0.2 if most > 600 else 0.5)
    assert np.abs(match(song, song) - song).mean() < (0.02 if most > 600 else 0.15)


@pytest.mark.parametrize("shared", [0.0, 2.0])  # of the bins of the clip
def test_the_bins_rise_and_fall_together_as_in_the_song(shared):
    rng = np.random.default_rng(0)
    song, frames = rng.normal(size=(600, 6)), rng.normal(size=(500, 6))
    song[:, :3] += rng.normal(size=(600, 1))  # their correlation is 0.5, that of the others 0
    frames += shared * rng.normal(size=(500, 1))
    matched = match(frames, song)
    np.testing.assert_allclose(*(np.corrcoef(each, rowvar=False) for each in (matched, song)), atol=0.18)
    assert np.abs(np.corrcoef(frames, rowvar=False) - np.corrcoef(song, rowvar=False)).max() > 0.4
    # with the least change
    assert min(np.corrcoef(matched[:, i], frames[:, i])[0, 1] for i in range(6)) > (0.4 if shared else 0.9)


def test_a_clip_that_rests_or_repeats_itself_stays_as_it_is():
    rng = np.random.default_rng(0)
    song, clip = rng.exponential(size=(300, 8)) - 1, 0.4 * rng.normal(size=(150, 8))
    repeated = np.tile(clip[:20], (7, 1))
    matched = match(repeated, song)
    np.testing.assert_allclose(matched, np.tile(matched[:20], (7, 1)), atol=1e-12)
    np.testing.assert_allclose(matched.std(axis=0), song.std(axis=0), rtol=0.3)
    clip[50:] = clip[50] + 1e-4 * rng.normal(size=(100, 8))  # the noise of a loop that has come to rest
    matched = match(clip, song)
    assert matched[50:].std(axis=0).max() < 0.02 < 0.3 < matched[:50].std(axis=0).min()


def test_no_bin_that_stands_still_is_raised():
    rng = np.random.default_rng(0)
    song = rng.normal(size=(40, 4))
    frames = rng.normal(size=(40, 4)) * [1, 0.1, 1e-3, 0] + [0, 2, -1.5, -1.5]
    matched = match(frames, song)
    np.testing.assert_allclose(np.sort(matched[:, :2], axis=0), np.sort(song[:, :2], axis=0), atol=0.4)
    assert matched[:, 2].std() == pytest.approx(20 * frames[:, 2].std() * song[:, 2].std(), rel=0.05)
    np.testing.assert_allclose(matched[:, 2:].mean(axis=0), -1.5, rtol=0.05)  # as silent as before
    np.testing.assert_array_equal(matched[:, 3], -1.5)
    np.testing.assert_array_equal(match(np.full((40, 4), -1.5), song), -1.5)
    phases = match_phases(frames)  # at rest they would be a click in each frame
    np.testing.assert_allclose(phases[:, :3].std(axis=0), 1)
    np.testing.assert_allclose(phases.mean(axis=0), [0, 0, 0, -1.5], atol=1e-12)


def test_frames_that_do_not_count_neither_change_nor_matter():
    rng = np.random.default_rng(0)
    song, frames, counted = rng.normal(size=(60, 4)), rng.normal(size=(40, 4)), np.arange(40) < 7
    sounding = np.arange(60) < 40
    matched = SongStatistics(song, sounding).match(frames, counted)
    np.testing.assert_array_equal(matched[:7], match(frames[:7], song[:40]))
    np.testing.assert_array_equal(matched[7:], frames[7:])
    np.testing.assert_array_equal(statistics(song).match(frames, ~EVERY[:40]), frames)
