"""Spectra of audio: STFT, phase and magnitude, normalization, distances between frames."""

import numpy as np

COMPONENTS = ("phase", "magnitude")
_MIN_STD = 1e-6  # a bin with less is constant


def window_pair(frame_length: int, overlap: int) -> tuple[np.ndarray, np.ndarray]:
    """Window ``(F,)`` of the STFT, a square-root Hann window, and its dual ``(F,)`` of the inverse.

    At overlap 2 the window is its own dual (Griffin and Lim 1984, IEEE TASSP 32(2)): the inverse of
    unchanged frames is exact, changed frames join without clicks. It is invertible at any overlap
    (frame length / hop) of 2 or more.
    """
    from scipy.signal import ShortTimeFFT, windows  # takes a second to import

    window = np.sqrt(windows.hann(frame_length, sym=False))
    return window, ShortTimeFFT(window, frame_length // overlap, fs=1).dual_win.real


def stft(audio: np.ndarray, frame_length: int, overlap: int) -> np.ndarray:
    """Two-sided spectra ``(M, F)`` complex128 of all frames that lie inside audio ``(S,)``.

    F = frame_length samples, hop = F / overlap, M = (S - F) // hop + 1; ValueError if S < F.
    """
    if len(audio) < frame_length:
        raise ValueError(f"audio has {len(audio)} samples; a frame has {frame_length}")
    frames = np.lib.stride_tricks.sliding_window_view(audio, frame_length)[:: frame_length // overlap]
    return np.fft.fft(frames * window_pair(frame_length, overlap)[0])


def istft(spectra: np.ndarray, overlap: int) -> np.ndarray:
    """Inverse of `stft` by overlap-add with the dual window: audio ``((M - 1) * hop + F,)`` float64.

    The first and last F - hop samples fade, because fewer frames overlap there.
    """
    frame_count, frame_length = spectra.shape
    hop, (_, window) = frame_length // overlap, window_pair(frame_length, overlap)
    audio = np.zeros((frame_count - 1) * hop + frame_length)
    for index, frame in enumerate(np.fft.ifft(spectra).real * window):
        audio[index * hop :][:frame_length] += frame
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
    mean, std = frames.mean(axis=0), frames.std(axis=0)
    std = np.where(std > _MIN_STD, std, 1.0)
    return ((frames - mean) / std).astype(np.float32), mean.astype(np.float32), std.astype(np.float32)


def denormalize(frames: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Inverse of `normalize`: frames ``(M, F)`` with mean ``(F,)`` and standard deviation ``(F,)``."""
    return frames * std + mean


def normalized_error(frames: np.ndarray, predicted: np.ndarray) -> float:
    """Mean squared error of normalized frames over their variance; 0 is perfect, 1 is the mean frame."""
    return float(np.mean(np.square(frames - predicted)) / np.mean(np.square(frames)))


class FrameDistances:
    """Mean squared differences from two-sided reference frames ``(M, F)``, over the `bins` up to Nyquist.

    `bins` is F // 2 + 1, `squares` ``(M,)`` the sum of squares of each reference frame.
    """

    def __init__(self, reference: np.ndarray):
        self.bins = reference.shape[1] // 2 + 1
        self._reference = reference[:, : self.bins]
        self.squares = np.square(self._reference).sum(axis=1)

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """Distances ``(K, M)`` of two-sided frames ``(K, F)`` from the reference."""
        frames = frames[:, : self.bins]
        squares = np.square(frames).sum(axis=1)[:, None]
        return (squares + self.squares - 2 * frames @ self._reference.T) / self.bins
