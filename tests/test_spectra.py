import numpy as np
import pytest
from helpers import tone

from joanna import audio, spectra


@pytest.mark.parametrize("overlap", [2, 4, 8])
def test_istft_inverts_stft(overlap):
    signal = tone()
    inverse = spectra.istft(spectra.stft(signal, 64, overlap), overlap)
    inner = slice(64, len(inverse) - 64)
    np.testing.assert_allclose(inverse[inner], signal[: len(inverse)][inner], atol=1e-12)


@pytest.mark.parametrize(("frame_length", "overlap"), [(64, 2), (64, 4), (63, 3)])
def test_a_stereo_frame_is_as_wide_as_a_mono_one_and_loses_nothing(frame_length, overlap):
    noise = np.random.default_rng(0).normal(size=1000)
    signal = np.stack([noise + tone()[:1000], 0.3 - 0.1 * noise], axis=1)
    mono, stereo = (spectra.stft(part, frame_length, overlap) for part in (audio.mid(signal), signal))
    assert stereo.shape == mono.shape
    bins = slice(1, (frame_length + 1) // 2)  # the first one, and Nyquist, hold mid and side
    np.testing.assert_allclose(stereo[:, bins], mono[:, bins], atol=1e-12)
    components = {name: spectra.component(stereo, name, 0.5) for name in spectra.COMPONENTS}
    inverse = spectra.join(**components, power=0.5, overlap=overlap, stereo=True)
    inner = slice(frame_length, len(inverse) - frame_length)
    np.testing.assert_allclose(inverse[inner], signal[: len(inverse)][inner], atol=1e-12)


def test_a_section_of_blocks_has_the_documented_number_of_frames():
    assert spectra.stft(np.ones(175 * 1024), 2048, 2).shape == (174, 2048)


def test_audio_shorter_than_a_frame_is_refused():
    with pytest.raises(ValueError, match="audio has 63 samples; a frame has 64"):
        spectra.stft(np.ones(63), 64, 2)


@pytest.mark.parametrize("power", [0.5, 1.0])
def test_join_inverts_component_frames(power):
    components = {name: spectra.component_frames(tone(), name, 64, 2, power) for name in spectra.COMPONENTS}
    audio = spectra.join(**components, power=power, overlap=2)
    np.testing.assert_allclose(audio[64:-64], tone()[64 : len(audio) - 64], atol=1e-12)


EVERY = np.ones(40, bool)


def test_denormalize_inverts_normalize():
    frames = np.random.default_rng(0).normal(3, 5, size=(40, 6))
    frames[:, 2] = 7.0  # a constant bin
    mean, std = spectra.statistics(frames, EVERY)
    normalized = spectra.normalize(frames, mean, std)
    assert normalized.dtype == np.float32
    np.testing.assert_allclose(np.delete(normalized, 2, 1).std(axis=0), 1, rtol=1e-5)
    np.testing.assert_allclose(normalized.mean(axis=0), 0, atol=1e-5)
    assert not normalized[:, 2].any()
    restored = spectra.denormalize(normalized, mean, std)
    np.testing.assert_allclose(restored, frames, rtol=1e-4, atol=1e-4)


def test_frames_60_db_below_the_loudest_have_no_sound():
    noise = np.random.default_rng(0).normal(0, 0.1, size=4000)
    levels = {"loud": 1.0, "noise of an old recording": 0.01, "dither": 1e-4, "digital silence": 0.0}
    signal = np.concatenate([level * noise for level in levels.values()])
    sounding = spectra.sounding(signal.astype(np.float32), 64, 2)
    assert len(sounding) == len(spectra.stft(signal, 64, 2))
    assert (sounding[:249].all(), sounding[251:].any()) == (True, False)
    assert spectra.sounding(np.zeros(640), 64, 2).all()  # refused elsewhere; no frame is the quieter one


def test_silence_counts_neither_in_the_statistics_nor_in_the_loudness():
    rng = np.random.default_rng(0)
    frames = rng.normal(3, 5, size=(40, 6))
    assert spectra.normalized_error(frames, frames) == 0
    assert spectra.normalized_error(frames, 0 * frames) == 1
    frames[10:30] = 0
    for counted, expected in ((EVERY, frames), (frames.any(axis=1), np.delete(frames, slice(10, 30), 0))):
        mean, std = spectra.statistics(frames, counted)
        np.testing.assert_allclose((mean, std), (expected.mean(axis=0), expected.std(axis=0)))
    sound, silence = rng.normal(0, 0.1, size=8192).astype(np.float32), np.zeros(50000, np.float32)
    assert audio.loudness(sound) == audio.rms(sound)
    assert audio.loudness(np.concatenate([sound, silence])) == pytest.approx(audio.rms(sound), rel=0.02)
    left = np.outer(np.concatenate([sound, silence]), [1, 0])
    assert audio.loudness(left) == pytest.approx(audio.rms(sound) / np.sqrt(2), rel=0.02)
    matched = audio.match_loudness(0.1 * sound, np.concatenate([sound, silence]))
    np.testing.assert_allclose(matched, sound, rtol=0.02)


def test_frames_without_sound_stay_within_three_deviations():
    frames = np.full((40, 4), 5.0)
    frames[::2] += [1, 0.1, 0.01, 0]
    frames[30:] = 0
    sounding = frames.any(axis=1)
    normalized = spectra.normalize(frames, *spectra.statistics(frames, sounding), sounding)
    np.testing.assert_allclose(np.abs(normalized[:30]), np.tile([1, 1, 1, 0], (30, 1)), rtol=1e-3)
    np.testing.assert_array_equal(normalized[30:], np.tile([-3, -3, -3, 0], (10, 1)))


@pytest.mark.parametrize(
    ("sound", "start", "expected"),
    [
        ("xxxxxxxxxxxx", 3, 3),
        ("....xxxxxxxx", 0, 4),
        ("x.......xxxx", 0, 8),  # a click
        ("xxxx....xxxx", 1, 8),
        ("xxxxxxx.....", 7, 0),  # no sound from there on
        ("x..x..x..x..", 1, 3),
    ],
)
def test_seeds_begin_and_end_with_sound(sound, start, expected):
    sounding = np.array([letter == "x" for letter in sound])
    assert spectra.seed_start(sounding, start, [4]) == expected


def test_frame_distances_are_mean_squared_differences_up_to_nyquist():
    rng = np.random.default_rng(0)
    frames, reference = rng.normal(size=(3, 64)), rng.normal(size=(5, 64))
    expected = np.square(frames[:, None, :33] - reference[:, :33]).mean(axis=2)
    np.testing.assert_allclose(spectra.FrameDistances(reference)(frames), expected)
