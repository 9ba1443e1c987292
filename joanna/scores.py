"""How a clip compares with its source. numpy and scipy only."""

import numpy as np
from scipy.signal import ShortTimeFFT
from scipy.signal.windows import hann

from joanna.audio import resample

RATE = 16000  # Hz everything is compared at
_LENGTH, _HOP, _BANDS, _LOW, _HIGH = 1024, 256, 64, 30.0, 7800.0


def mel_filters() -> np.ndarray:
    """Triangular mel filters ``(64, 513)`` from 30 to 7800 Hz.

    mel(f) = 2595 log10(1 + f / 700), O'Shaughnessy 1987, Speech Communication.
    """
    mels = np.linspace(*(2595 * np.log10(1 + np.array([_LOW, _HIGH]) / 700)), _BANDS + 2)
    edges = 700 * (10 ** (mels / 2595) - 1)
    bins = np.fft.rfftfreq(_LENGTH, 1 / RATE)
    rising = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    return np.maximum(0, np.minimum(rising, falling))


def log_mel(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """Log-mel spectrogram ``(T, 64)`` of audio ``(S,)`` scaled to unit RMS: log(power + 1e-6).

    Frames of 1024 samples (64 ms) every 256 (16 ms), Hann window, after resampling to 16 kHz.
    """
    audio = np.asarray(audio, dtype=np.float64)
    audio = resample(audio, sample_rate, RATE)
    audio = audio / max(np.sqrt(np.mean(np.square(audio))), 1e-12)
    stft = ShortTimeFFT(hann(_LENGTH, sym=False), _HOP, fs=RATE)
    power = np.abs(stft.stft(audio)) ** 2 / _LENGTH
    return np.log(mel_filters() @ power + 1e-6).T


def mel_correlation(audio: np.ndarray, source: np.ndarray, sample_rate: int) -> float:
    """Pearson correlation of two signals' log-mel spectrograms, over the shorter one's length.

    1 is the same up to loudness; 0 is no relation. Silence gives 0.
    """
    size = min(len(audio), len(source))
    pair = [log_mel(signal[:size], sample_rate).ravel() for signal in (audio, source)]
    if min(values.std() for values in pair) < 1e-9:
        return 0.0
    return float(np.corrcoef(*pair)[0, 1])


def picture(signals: list[np.ndarray], sample_rate: int) -> np.ndarray:
    """Log-mel spectrograms as one image ``(height, width, 3)`` uint8, one signal a row, low notes below.

    Four pixels a band, two a frame; as wide as the longest signal; shared colours.
    """
    spectrograms = [log_mel(signal, sample_rate) for signal in signals]
    low, high = np.percentile(np.concatenate(spectrograms), [10, 99.5])
    width = 2 * max(len(spectrogram) for spectrogram in spectrograms)
    rows = []
    for spectrogram in spectrograms:
        level = np.clip((spectrogram.T[::-1] - low) / max(high - low, 1e-9), 0, 1)
        level = level.repeat(4, axis=0).repeat(2, axis=1)
        anchors = ((0, 60, 190, 255, 252), (0, 15, 55, 150, 253), (20, 110, 110, 90, 200))
        colours = [np.interp(level, np.linspace(0, 1, 5), anchor) for anchor in anchors]
        image = np.full((level.shape[0] + 8, width, 3), 255, np.uint8)
        image[: level.shape[0], : level.shape[1]] = np.stack(colours, axis=-1)
        rows.append(image)
    return np.concatenate(rows)
