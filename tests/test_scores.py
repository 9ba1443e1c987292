import numpy as np
from conftest import tone

from joanna import scores


def test_correlation_ignores_loudness_and_hears_another_sound():
    song = tone(2, 16000)
    assert scores.mel_correlation(0.1 * song, song, 16000) > 0.9999
    noise = np.random.default_rng(0).normal(size=len(song))
    assert scores.mel_correlation(noise, song, 16000) < 0.6
    assert scores.mel_correlation(0 * song, song, 16000) == 0


def test_a_tone_is_in_its_band_at_any_rate():
    for rate in (16000, 44100):
        t = np.arange(rate) / rate
        spectrogram = scores.log_mel(np.sin(2 * np.pi * 1000 * t), rate)
        assert spectrogram.shape[1] == 64
        band = spectrogram[10:-10].mean(axis=0).argmax()
        bins = np.fft.rfftfreq(1024, 1 / 16000)
        assert abs(bins[scores.mel_filters()[band].argmax()] - 1000) < 60


def test_the_picture_shows_each_signal():
    image = scores.picture([tone(1, 16000), tone(1, 16000, 880.0)], 16000)
    assert image.dtype == np.uint8
    assert image.shape[0] == 2 * (64 * 4 + 8)
    assert not np.array_equal(image[:256], image[264:520])
