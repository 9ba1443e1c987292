"""Excerpts of a recording: the sections of it that together are closest to all of it."""

import math
from pathlib import Path

import numpy as np

from joanna.recording import Recording

_BANDS, _LOWEST = 24, 60.0  # bands whose levels are compared, and where they begin, Hz
_FLOOR = 1e-6  # power relative to the mean, or to the loudest: 60 dB below
_PARTS = 8  # a section starts at any eighth of its length
_ROUNDS = 4  # each section is chosen, and three times again beside all others
_READ = 256  # frames of the levels that are read at a time


class Excerpts(Recording):
    """Sections of a recording in a row, to be read as one; each fades into the next within 10 ms."""

    def __init__(self, path: Path, name: str, starts: np.ndarray, size: int):
        """Open the recording and read sections of `size` frames; `starts` are those of `closest`."""
        super().__init__(path, name)
        fade = min(self.rate // 100, size // (2 * _PARTS))
        rise = np.linspace(0, 1, fade, dtype=np.float32)[:, None]
        self._joined = np.zeros((len(starts) * size + fade, self.channels), np.float32)
        position = written = 0
        for run in np.split(starts, 1 + np.flatnonzero(np.diff(starts) > size)):  # without a join
            self._drop(run[0] - position)
            length = len(run) * size
            samples, position = super().read(length + fade), run[0] + length + fade
            if written:
                samples[:fade] *= rise
            tail = samples[length:]  # shorter at the end of the recording
            tail *= rise[::-1][: len(tail)]
            self._joined[written:][: len(samples)] += samples
            written += length
        self._joined = self._joined[:written]

    def read(self, count: float) -> np.ndarray:
        """As `Recording.read`."""
        samples, self._joined = np.split(self._joined, [math.ceil(count)])
        return samples


def closest(recording: Recording, count: int, size: int, highest: float) -> np.ndarray:
    """First frames ``(count,)`` of the sections that together are closest to the rest of a recording.

    Compared are mean and standard deviation of the level in each band, up to `highest` Hz; silence around
    the sound is left out. All of the recording is read. A section has `size` frames. The result is empty
    if the recording has fewer than the sections.
    """
    frame = max(16, min(recording.rate // 16, size // 2))
    power = _band_power(recording, frame, highest)
    total = power.sum(axis=1)
    heard = np.flatnonzero(total > _FLOOR * total.max(initial=0))
    if not len(heard) or (heard[-1] + 1 - heard[0]) * frame < count * size:
        return heard[:0]
    levels = np.log(power + _FLOOR * total[heard].mean())
    mean, std = levels[heard].mean(axis=0), levels[heard].std(axis=0)
    levels = levels[heard[0] : heard[-1] + 1] - mean
    bounds = np.arange(_PARTS * len(levels) * frame // size + 1) * size / (_PARTS * frame)
    bounds = np.rint(bounds).astype(int)
    places = _choose(levels, std, bounds, count)
    if len(places) < count:  # what is left between them is too short: side by side they have room
        places = _choose(levels, std, bounds, count, _PARTS)
    return heard[0] * frame + places * size // _PARTS


def _choose(levels, std, bounds, count, step=1):
    """Sections whose levels have the mean and std that are closest to 0 and `std` ``(B,)``.

    `levels` are ``(T, B)``, `bounds` ``(N,)`` indices into them. A section reaches from one of the bounds,
    every `step`-th, to the eighth after it. Returned are the indices of the first ones, at most `count`.
    """
    sums = np.cumsum(np.pad([levels, levels**2], ((0, 0), (1, 0), (0, 0))), axis=1)[:, bounds]
    places = np.arange(0, len(bounds) - _PARTS, step)
    sums, frames = sums[:, places + _PARTS] - sums[:, places], bounds[places + _PARTS] - bounds[places]
    chosen = places[:0]  # indices into places
    for _ in range(_ROUNDS * count):
        others = chosen[int(len(chosen) == count) :]  # in place of the one chosen longest ago
        together = sums[:, others].sum(axis=1, keepdims=True) + sums
        means, squares = together / (frames[others].sum() + frames)[:, None]
        deviations = np.sqrt(np.maximum(0, squares - means**2))
        distances = np.square(means).sum(axis=1) + np.square(deviations - std).sum(axis=1)
        distances[(np.abs(places[:, None] - places[others]) < _PARTS).any(axis=1)] = np.inf
        if distances.min() == np.inf:
            return places[others]
        chosen = np.append(others, distances.argmin())
    return np.sort(places[chosen])


def _band_power(recording, frame, highest):
    """Power ``(T, B)`` in bands, of all channels, in windows of `frame` frames of a recording."""
    edges = np.geomspace(_LOWEST, highest, _BANDS + 1) * frame / recording.rate
    edges, window = np.unique(edges.astype(int)), np.hanning(frame)[:, None]
    powers = [np.zeros((0, len(edges) - 1))]
    while len(samples := recording.read(_READ * frame)) >= frame:
        frames = samples[: len(samples) // frame * frame].reshape(-1, frame, recording.channels)
        with np.errstate(invalid="ignore", over="ignore"):  # NaN and Inf count as silence
            power = np.square(np.abs(np.fft.rfft(frames * window, axis=1))).sum(axis=2)
            power = np.add.reduceat(power, edges, axis=1)[:, :-1]
        powers.append(np.where(np.isfinite(power), power, 0))
    return np.concatenate(powers)
