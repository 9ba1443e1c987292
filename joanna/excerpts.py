"""Excerpts of a recording: the sections of it that together are closest to all of it."""

import math
from itertools import pairwise
from pathlib import Path

import numpy as np

from joanna.recording import Recording

_BANDS, _LOWEST = 24, 60.0  # bands whose levels are compared, and where they begin, Hz
_FLOOR = 1e-6  # power relative to the mean, or to the loudest: 60 dB below
_PARTS = 8  # a section starts at any eighth of its length
_ROUNDS = 4  # each section is chosen, and three times again beside all others
_MAX_ROUNDS = 400  # of many short sections not all are chosen again: it would take minutes
_READ = 256  # frames of the levels that are read at a time


class Excerpts(Recording):
    """Sections of a recording in a row, to be read as one; each fades into the next within 10 ms."""

    keeps_silence = True  # it lies within a section

    def __init__(self, path: Path, name: str, starts: np.ndarray, size: int):
        """Open the recording and read sections of `size` frames; `starts` are those of `closest`."""
        super().__init__(path, name)
        fade, parts, position = min(self.rate // 100, size // (2 * _PARTS)), [], 0
        for run in np.split(starts, 1 + np.flatnonzero(np.diff(starts) > size)):  # without a join
            self._drop(run[0] - position)
            length = len(run) * size + fade
            position = run[0] + length
            parts.append(super().read(length))  # shorter at the end of the recording
        self._joined = crossfade(parts, fade)[: len(starts) * size]

    def read(self, count: float) -> np.ndarray:
        """As `Recording.read`."""
        samples, self._joined = np.split(self._joined, [math.ceil(count)])
        return samples


def crossfade(parts: list[np.ndarray], fade: int) -> np.ndarray:
    """Join audio ``(S,)`` or ``(S, C)``; the last `fade` samples of a part fade into the next, in place."""
    joined = []
    for part, following in pairwise(parts):
        count = min(fade, len(part), len(following))
        rise = np.linspace(0, 1, count, dtype=np.float32)
        end, beginning = part[len(part) - count :].T, following[:count].T
        beginning[:] = beginning * rise + end * rise[::-1]
        joined.append(part[: len(part) - count])
    return np.concatenate([*joined, *parts[-1:]])


def closest(recording: Recording, count: int, size: int, highest: float) -> tuple[np.ndarray, int]:
    """First frames ``(count,)`` of the sections that together are closest to all of a recording.

    Returned are also the frames of the sound, without silence at both ends. Compared are mean and standard
    deviation of the level of the sound in each band, up to `highest` Hz. All of the recording is read. A
    section has `size` frames. There is none if the sound has fewer than the sections.
    """
    frame = max(16, min(recording.rate // 16, size // 2))
    power = _band_power(recording, frame, highest)
    total = power.sum(axis=1)
    heard = np.flatnonzero(total > _FLOOR * total.max(initial=0))
    sound = int(np.ptp(heard) + 1) * frame if len(heard) else 0
    if sound < count * size:
        return heard[:0], sound
    levels = np.log(power + _FLOOR * total[heard].mean())
    mean, std = levels[heard].mean(axis=0), levels[heard].std(axis=0)
    levels = levels[heard[0] : heard[-1] + 1] - mean
    bounds = np.arange(_PARTS * len(levels) * frame // size + 1) * size / (_PARTS * frame)
    bounds = np.rint(bounds).astype(int)
    places = _choose(levels, std, bounds, count)
    if len(places) < count:  # what is left between them is too short: side by side they have room
        places = _choose(levels, std, bounds, count, _PARTS)
    return heard[0] * frame + places * size // _PARTS, sound


def _choose(levels, std, bounds, count, step=1):
    """Sections whose levels have the mean and std that are closest to 0 and `std` ``(B,)``.

    `levels` are ``(T, B)``, `bounds` ``(N,)`` indices into them. A section reaches from one of the bounds,
    every `step`-th, to the eighth after it. Returned are the indices of the first ones, at most `count`.
    """
    sums = np.cumsum(np.pad([levels, levels**2], ((0, 0), (1, 0), (0, 0))), axis=1)[:, bounds]
    places = np.arange(0, len(bounds) - _PARTS, step)
    sums, frames = sums[:, places + _PARTS] - sums[:, places], bounds[places + _PARTS] - bounds[places]
    near = np.arange(1 - -(-_PARTS // step), -(-_PARTS // step))  # places that overlap with one
    chosen = places[:0]  # indices into places
    for _ in range(min(_ROUNDS * count, max(count, _MAX_ROUNDS))):
        others = chosen[int(len(chosen) == count) :]  # in place of the one chosen longest ago
        together = sums[:, others].sum(axis=1, keepdims=True) + sums
        means, squares = together / (frames[others].sum() + frames)[:, None]
        deviations = np.sqrt(np.maximum(0, squares - means**2))
        distances = np.square(means).sum(axis=1) + np.square(deviations - std).sum(axis=1)
        distances[np.clip(others[:, None] + near, 0, len(places) - 1)] = np.inf
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
