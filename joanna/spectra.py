"""Spectra of audio: STFT, phase and magnitude, normalization, distances between frames.

The spectra of mono audio ``(S,)`` are two-sided, so the second half mirrors the first. Those of stereo audio
``(S, 2)``, left and right, are as wide: bins up to Nyquist hold mid, the mean of the channels. The others
hold side, half their difference, relative to the phase of mid: that tells left from right.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import DTypeLike

from joanna import audio

COMPONENTS = ("phase", "magnitude")
_MIN_STD = 1e-6  # of the largest value; a bin with less is constant, but for rounding to float32
_MAX_SILENT = 3.0  # deviations of a bin in a frame without sound
_BLOCK, _BINS = 1024, 128  # frames and bins processed at a time


def window_pair(frame_length: int, overlap: int) -> tuple[np.ndarray, np.ndarray]:
    """Window ``(F,)`` of the STFT, a square-root Hann window, and its dual ``(F,)`` of the inverse.

    At overlap 2 the window is its own dual (Griffin and Lim 1984, IEEE TASSP 32(2)): the inverse of
    unchanged frames is exact, changed frames join without clicks. It is invertible at any overlap
    (frame length / hop) of 2 or more.
    """
    from scipy.signal import ShortTimeFFT, windows  # takes a second to import

    window = np.sqrt(windows.hann(frame_length, sym=False))
    return window, ShortTimeFFT(window, frame_length // overlap, fs=1).dual_win.real


def stft(signal: np.ndarray, frame_length: int, overlap: int) -> np.ndarray:
    """Spectra ``(M, F)`` complex128 of all frames that lie inside audio ``(S,)`` or ``(S, 2)``.

    F = frame_length samples, hop = F / overlap, M = (S - F) // hop + 1; ValueError if S < F.
    """
    return np.concatenate([*stft_blocks(signal, frame_length, overlap)])


def stft_blocks(signal: np.ndarray, frame_length: int, overlap: int) -> Iterator[np.ndarray]:
    """Blocks ``(N, F)`` of the rows of `stft`: all of an hour would take gigabytes."""
    transform = np.fft.fft if signal.ndim == 1 else _stereo_spectra
    yield from map(transform, _windowed_frames(signal, frame_length, overlap))


def sounding(signal: np.ndarray, frame_length: int, overlap: int) -> np.ndarray:
    """Which frames of `stft` have sound ``(M,)``; see `audio.sounding`."""
    return audio.sounding(_windowed_frames(signal, frame_length, overlap))


def _windowed_frames(signal, frame_length, overlap):
    """Blocks of the frames of `stft` ``(N, F)`` or ``(N, 2, F)``, multiplied by the window."""
    if len(signal) < frame_length:
        raise ValueError(f"audio has {len(signal)} samples; a frame has {frame_length}")
    frames = np.lib.stride_tricks.sliding_window_view(signal, frame_length, 0)[:: frame_length // overlap]
    window, _ = window_pair(frame_length, overlap)
    return (frames[start : start + _BLOCK] * window for start in range(0, len(frames), _BLOCK))


def _stereo_spectra(frames):
    """Spectra ``(N, F)`` of frames ``(N, 2, F)``; see the module."""
    left, right = np.fft.rfft(frames.swapaxes(0, 1))
    mid, side, inner = (left + right) / 2, (left - right) / 2, _complex_bins(frames.shape[2])
    relative = side[:, inner] / _direction(mid[:, inner])
    side[:, inner] = 0  # the others are real, as those of mid: they share bins
    return np.concatenate([mid + 1j * side, relative], axis=1)


def _stereo_frames(spectra):
    """Frames ``(N, 2, F)`` of spectra ``(N, F)``: inverse of `_stereo_spectra`."""
    length, inner = spectra.shape[1], _complex_bins(spectra.shape[1])
    mid, relative = np.split(spectra, [length // 2 + 1], axis=1)
    side = mid.imag.astype(complex)
    side[~relative.any(axis=1)] = 0  # of a mono song
    side[:, inner] = relative * _direction(mid[:, inner])
    mid, side = np.fft.irfft(mid, length), np.fft.irfft(side, length)
    return np.stack([mid + side, mid - side], axis=1)


def _complex_bins(length):
    """Slice of the bins up to Nyquist that real frames of `length` samples have complex values in."""
    return slice(1, (length + 1) // 2)


def _direction(mid):
    """A quarter turn from the phase of mid: left is at -pi/2 of it, right at pi/2, far from pi."""
    return 1j * np.exp(1j * np.angle(mid))


def istft(spectra: np.ndarray, overlap: int, stereo: bool = False) -> np.ndarray:
    """Inverse of `stft` by overlap-add with the dual window: audio ``((M - 1) * hop + F,)`` float64.

    With `stereo` it is ``(..., 2)``. The first and last F - hop samples fade, because fewer frames overlap
    there.
    """
    return _overlap_add(spectra.shape, overlap, stereo, lambda rows: spectra[rows])


def _overlap_add(shape, overlap, stereo, spectra):
    """`istft` of the spectra that `spectra` gives for slices of rows."""
    frame_count, frame_length = shape
    hop, (_, window) = frame_length // overlap, window_pair(frame_length, overlap)
    signal = np.zeros((1 + stereo, (frame_count - 1) * hop + frame_length))
    for start in range(0, frame_count, _BLOCK):
        block = spectra(slice(start, start + _BLOCK))
        block = (_stereo_frames(block) if stereo else np.fft.ifft(block).real) * window
        for index, frame in enumerate(block, start):
            signal[:, index * hop :][:, :frame_length] += frame
    return signal.T if stereo else signal[0]


def component(spectra: np.ndarray, name: str, power: float) -> np.ndarray:
    """Phase in radians or magnitude to the `power` ``(M, F)`` of spectra ``(M, F)``."""
    return np.angle(spectra) if name == "phase" else np.abs(spectra) ** power


def component_frames(
    signal: np.ndarray, name: str, frame_length: int, overlap: int, power: float, dtype: DTypeLike = float
) -> np.ndarray:
    """`component` ``(M, F)`` of the spectra of audio, see `stft`; all of an hour's at once take gigabytes."""
    frame_count, row = (len(signal) - frame_length) // (frame_length // overlap) + 1, 0
    frames = np.empty((frame_count, frame_length), dtype)
    for block in stft_blocks(signal, frame_length, overlap):
        frames[row : row + len(block)] = component(block, name, power)
        row += len(block)
    return frames


def linear_magnitude(magnitude: np.ndarray, power: float) -> np.ndarray:
    """Linear magnitudes of magnitudes to the `power`; negative ones count as 0."""
    return np.maximum(magnitude, 0) ** (1 / power)


def join(
    magnitude: np.ndarray, phase: np.ndarray, power: float, overlap: int, stereo: bool = False
) -> np.ndarray:
    """Audio, as of `istft`, of magnitude to the `power` and phase in radians, ``(M, F)`` each."""
    return _overlap_add(
        magnitude.shape,
        overlap,
        stereo,
        lambda rows: linear_magnitude(magnitude[rows], power) * np.exp(1j * phase[rows]),
    )


def statistics(frames: np.ndarray, counted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean ``(F,)`` and std ``(F,)`` of each bin of frames ``(M, F)``, over the frames `counted` ``(M,)``.

    The std of constant bins is 0.
    """
    mean, std, largest = np.empty(frames.shape[1]), np.empty(frames.shape[1]), 0.0
    for start in range(0, frames.shape[1], _BINS):
        bins = slice(start, start + _BINS)
        values = frames[counted, bins].astype(float)
        mean[bins], std[bins] = values.mean(axis=0), values.std(axis=0)
        largest = max(largest, values.max(), -values.min())
    return mean, np.where(std > _MIN_STD * largest, std, 0)


def normalize(
    frames: np.ndarray,
    mean: np.ndarray,
    std: np.ndarray,
    sounding: np.ndarray | None = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Frames ``(M, F)`` with mean ``(F,)`` 0 and std ``(F,)`` 1 in each bin, float32; see `statistics`.

    Constant bins become 0. Frames that are not `sounding` ``(M,)`` are limited to three deviations: of a
    steady sound they are hundreds away, and no network would learn anything else. The result is written to
    `out`, which may be `frames`, or to a new array.
    """
    divisor = np.where(std > 0, std, np.inf)
    normalized = np.empty(frames.shape, np.float32) if out is None else out
    for start in range(0, len(frames), _BLOCK):
        normalized[start : start + _BLOCK] = (frames[start : start + _BLOCK] - mean) / divisor
    if sounding is not None:
        normalized[~sounding] = normalized[~sounding].clip(-_MAX_SILENT, _MAX_SILENT)
    return normalized


def denormalize(frames: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Inverse of `normalize`; constant bins become their mean, whatever the frames ``(M, F)`` hold."""
    return frames * std + mean


def normalized_error(frames: np.ndarray, predicted: np.ndarray) -> float:
    """Mean squared error of normalized frames over their variance; 0 is perfect, 1 is the mean frame.

    Only bins that move count, as `denormalize` makes the others exact: 0 if none does.
    """
    moving = frames.any(axis=0)
    if not moving.any():
        return 0.0
    error = variance = 0.0
    for start in range(0, len(frames), _BLOCK):
        block = frames[start : start + _BLOCK, moving]
        error += np.square(block - predicted[start : start + _BLOCK, moving]).sum(dtype=float)
        variance += np.square(block).sum(dtype=float)
    return error / variance


class FrameDistances:
    """Mean squared differences from reference frames ``(M, F)``, over the `bins` up to Nyquist.

    `bins` is F // 2 + 1, or F with `stereo`; `squares` ``(M,)`` the sum of squares of each reference frame.
    """

    def __init__(self, reference: np.ndarray, stereo: bool = False):
        self.bins = reference.shape[1] if stereo else reference.shape[1] // 2 + 1
        self._reference = reference[:, : self.bins]
        self.squares = np.square(self._reference).sum(axis=1)

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """Distances ``(K, M)`` of frames ``(K, F)`` from the reference."""
        frames = frames[:, : self.bins]
        squares = np.square(frames).sum(axis=1)[:, None]
        return (squares + self.squares - 2 * frames @ self._reference.T) / self.bins


def seed_start(sounding: np.ndarray, start: int, lengths: list[int]) -> int:
    """First frame from `start` on at which windows of all `lengths` begin and end with sound.

    If there is none, the one at which most do, before `start` too. `sounding` is ``(M,)``.
    """
    starts = np.roll(np.arange(len(sounding) - max(lengths) + 1), -start)
    ends = np.array([0, *(length - 1 for length in lengths)])
    return int(starts[sounding[starts[:, None] + ends].sum(axis=1).argmax()])
