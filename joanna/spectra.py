"""Spectra of audio: STFT, phase and magnitude, normalization, distances between frames."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scipy.signal import ShortTimeFFT

COMPONENTS = ("phase", "magnitude")
_MIN_STD = 1e-6  # a bin with less is constant


def transform(frame_length: int, overlap: int) -> "ShortTimeFFT":
    """Two-sided STFT with a square-root Hann window.

    At overlap 2 the window is its own dual (Griffin and Lim 1984, IEEE TASSP 32(2)): the inverse of
    unchanged frames is exact, changed frames join without clicks. It is invertible at any overlap
    (frame length / hop) of 2 or more.
    """
    from scipy.signal import ShortTimeFFT  # takes a second to import
    from scipy.signal.windows import hann

    window = np.sqrt(hann(frame_length, sym=False))
    return ShortTimeFFT(window, frame_length // overlap, fs=1, fft_mode="twosided")


def stft(audio: np.ndarray, frame_length: int, overlap: int) -> np.ndarray:
    """Two-sided spectra ``(M, F)`` complex128 of all frames that lie inside audio ``(S,)``.

    F = frame_length samples, hop = F / overlap, M = (S - F) // hop + 1; ValueError if S < F.
    """
    if len(audio) < frame_length:
        raise ValueError(f"audio has {len(audio)} samples; a frame has {frame_length}")
    window = transform(frame_length, overlap).win
    frames = np.lib.stride_tricks.sliding_window_view(audio, frame_length)[:: frame_length // overlap]
    return np.fft.fft(frames * window)


def istft(spectra: np.ndarray, overlap: int) -> np.ndarray:
    """Inverse of `stft` by overlap-add with the dual window: audio ``((M - 1) * hop + F,)`` float64.

    The first and last F - hop samples fade, because fewer frames overlap there.
    """
    frame_count, frame_length = spectra.shape
    sft = transform(frame_length, overlap)
    hop = sft.hop
    frames = np.fft.ifft(spectra).real * sft.dual_win.real
    audio = np.zeros((frame_count - 1) * hop + frame_length)
    for index, frame in enumerate(frames):
        audio[index * hop : index * hop + frame_length] += frame
    return audio


def split(spectra: np.ndarray, power: float) -> dict[str, np.ndarray]:
    """Split spectra ``(M, F)`` into phase in radians and magnitude to the `power`, ``(M, F)`` each."""
    return {"phase": np.angle(spectra), "magnitude": np.abs(spectra) ** power}


def linear_magnitude(magnitude: np.ndarray, power: float) -> np.ndarray:
    """Linear magnitudes of those that `split` raised to `power`; negative ones count as 0."""
    return np.maximum(magnitude, 0) ** (1 / power)


def join(magnitude: np.ndarray, phase: np.ndarray, power: float, overlap: int) -> np.ndarray:
    """Audio ``(S,)`` of magnitude to the `power` and phase in radians, ``(M, F)`` each; see `istft`."""
    return istft(linear_magnitude(magnitude, power) * np.exp(1j * phase), overlap)


def normalize(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frames ``(M, F)`` with mean 0 and std 1 in each bin, mean ``(F,)`` and std ``(F,)``, float32.

    Constant bins become 0, with a std of 1.
    """
    mean, std = frames.mean(axis=0), _std(frames)
    return ((frames - mean) / std).astype(np.float32), mean.astype(np.float32), std.astype(np.float32)


def denormalize(frames: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Inverse of `normalize`: frames ``(M, F)`` with mean ``(F,)`` and standard deviation ``(F,)``."""
    return frames * std + mean


def match_statistics(frames: np.ndarray) -> np.ndarray:
    """Restore mean 0 and standard deviation 1 in every bin of normalized frames ``(M, F)``."""
    return (frames - frames.mean(axis=0)) / _std(frames)


def normalized_error(frames: np.ndarray, predicted: np.ndarray) -> float:
    """Mean squared error of normalized frames over their variance; 0 is perfect, 1 is the mean frame."""
    return float(np.mean(np.square(frames - predicted)) / np.mean(np.square(frames)))


def _std(frames):
    """Standard deviation of each bin ``(F,)``, 1 for constant bins."""
    std = frames.std(axis=0)
    return np.where(std > _MIN_STD, std, 1.0)


class FrameDistances:
    """Mean squared differences from two-sided reference frames ``(M, F)``, over the bins up to Nyquist.

    Attributes:
        frames: the reference up to Nyquist, ``(M, B)``.
        squares: sum of squares of each reference frame, ``(M,)``.
        bins: B = F // 2 + 1.
    """

    def __init__(self, reference: np.ndarray):
        self.bins = reference.shape[1] // 2 + 1
        self.frames = reference[:, : self.bins]
        self.squares = np.square(self.frames).sum(axis=1)

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """Distances ``(K, M)`` of two-sided frames ``(K, F)`` from the reference."""
        frames = frames[:, : self.bins]
        squares = np.square(frames).sum(axis=1)[:, None]
        return (squares + self.squares - 2 * frames @ self.frames.T) / self.bins
