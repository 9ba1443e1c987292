import numpy as np
import pytest
from helpers import tone

from joanna import spectra


@pytest.mark.parametrize("overlap", [2, 4, 8])
def test_istft_inverts_stft(overlap):
    signal = tone()
    inverse = spectra.istft(spectra.stft(signal, 64, overlap), overlap)
    inner = slice(64, len(inverse) - 64)
    np.testing.assert_allclose(inverse[inner], signal[: len(inverse)][inner], atol=1e-12)


def test_a_section_of_blocks_has_the_documented_number_of_frames():
    assert spectra.stft(np.ones(175 * 1024), 2048, 2).shape == (174, 2048)


def test_audio_shorter_than_a_frame_is_refused():
    with pytest.raises(ValueError, match="audio has 63 samples; a frame has 64"):
        spectra.stft(np.ones(63), 64, 2)


@pytest.mark.parametrize("power", [0.5, 1.0])
def test_join_inverts_split(power):
    components = spectra.split(spectra.stft(tone(), 64, 2), power)
    assert set(components) == set(spectra.COMPONENTS)
    audio = spectra.join(**components, power=power, overlap=2)
    np.testing.assert_allclose(audio[64:-64], tone()[64 : len(audio) - 64], atol=1e-12)


def test_denormalize_inverts_normalize():
    frames = np.random.default_rng(0).normal(3, 5, size=(40, 6))
    frames[:, 2] = 7.0  # a constant bin
    normalized, mean, std = spectra.normalize(frames)
    assert normalized.dtype == mean.dtype == std.dtype == np.float32
    np.testing.assert_allclose(np.delete(normalized, 2, 1).std(axis=0), 1, rtol=1e-5)
    np.testing.assert_allclose(normalized.mean(axis=0), 0, atol=1e-5)
    assert not normalized[:, 2].any()
    restored = spectra.denormalize(normalized, mean, std)
    np.testing.assert_allclose(restored, frames, rtol=1e-4, atol=1e-4)


def test_frame_distances_are_mean_squared_differences_up_to_nyquist():
    rng = np.random.default_rng(0)
    frames, reference = rng.normal(size=(3, 64)), rng.normal(size=(5, 64))
    expected = np.square(frames[:, None, :33] - reference[:, :33]).mean(axis=2)
    np.testing.assert_allclose(spectra.FrameDistances(reference)(frames), expected)
