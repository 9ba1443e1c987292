"""Guided generation: similar frames of the song as the input of the network."""

import math
from collections.abc import Callable

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from joanna.settings import hop
from joanna.spectra import FrameDistances

_LOOP_SECONDS = 3.0  # a loop of this length is broken
_SAME_FRAME = 0.9  # correlation above which two frames count as the same
_MIN_NORM = 1e-3  # of the root of the bins; a frame with less has no shape
_MIN_STEP = 0.25  # of the frames' mean square
_TEMPERATURE = 0.05  # of the Gumbel noise, in units of the step
_REFERENCE_FRAMES = 500  # frames that the step is estimated from
_TARGET_SECONDS = 0.5  # sound that a jump leads to, at least


def loop_limit(settings: dict) -> int:
    """Frames a loop may last: 3 s."""
    return math.ceil(_LOOP_SECONDS * settings["sample-rate"] / hop(settings))


class LoopDetector:
    """Detects that the last frames of a clip repeat earlier ones; `count` is the number of its frames."""

    def __init__(
        self, limit: int, bins: int, on_loop: Callable[[int, int], object] = lambda frame, lag: None
    ):
        """Start a clip of frames of `bins` bins.

        A loop may last `limit` frames; its lag is at most 20 times that. `on_loop` is called with the
        number of a frame and the lag at which it repeats earlier ones.
        """
        self.limit, self.count, self._on_loop = limit, 0, on_loop
        self._past = np.zeros((20 * limit, bins), np.float32)  # the last frames, in a ring
        self._runs = np.zeros(0, int)  # [k]: frames for which the clip equals itself k + 1 frames before

    def lag(self, frame: np.ndarray) -> int:
        """Add a frame ``(B,)``; number of frames after which the clip repeats, 0 if it does not."""
        self.count += 1
        shape = frame - frame.mean()
        norm = np.linalg.norm(shape)
        shape = shape / norm if norm > _MIN_NORM * math.sqrt(len(shape)) else 0 * shape
        known = self._past[: self.count - 1]
        newest_first = (self.count - 2 - np.arange(len(known))) % len(self._past)
        same = (known @ shape)[newest_first] > _SAME_FRAME
        self._runs = np.where(same, np.append(self._runs, 0)[: len(same)] + 1, 0)
        self._past[(self.count - 1) % len(self._past)] = shape
        if self._runs.max(initial=0) < self.limit:
            return 0
        lag = int(self._runs.argmax()) + 1
        self._on_loop(self.count, lag)
        self._runs = np.zeros(len(self._runs), int)
        return lag


def _jump_targets(sounding, limit):
    """Indices of the frames that begin enough sound to jump to, or that have sound if none does."""
    count = math.ceil(_TARGET_SECONDS / _LOOP_SECONDS * limit)
    followed = np.pad(sounding, (0, count), constant_values=True)  # a jump follows the end of the song
    targets = sliding_window_view(followed, count + 1).all(axis=1)
    return np.flatnonzero(targets if targets.any() else sounding)


class SongFeedback:
    """Replaces each generated frame by a similar frame of the song, as the next input of the network.

    The candidates are the frame that follows the last input in the song, which has a lead, and the most
    similar frames elsewhere. Each jump elsewhere raises the lead and each frame in the song's order
    lowers it, so that a fraction `jumps` of the frames jump, whatever the song and the training
    (stochastic approximation: Robbins and Monro 1951, Annals of Mathematical Statistics 22). Noise
    chooses among candidates of nearly the same distance (the Gumbel-max trick: Maddison, Tarlow and
    Minka 2014, arXiv:1411.0030). So errors do not accumulate. No frame is chosen twice within the
    limit of `loops`; the random frame that ends a loop may be.

    With jumps of 0 the network's own frames are the input. When the last frames repeat earlier ones, a
    random frame of the song is the input.

    Frames of the song without sound, and those just before them, are only used in the song's order, so
    that pauses are as frequent and as long as in the song. They do not change the lead and are no loop.
    """

    def __init__(
        self,
        song: np.ndarray,
        sounding: np.ndarray,
        jumps: float,
        rng: np.random.Generator,
        loops: LoopDetector,
    ):
        """Start a clip.

        Args:
            song: frames ``(M, F)``, normalized; two-sided, or in stereo mid and side.
            sounding: which of them have sound ``(M,)``; see `spectra.sounding`.
            jumps: fraction of frames that jump elsewhere in the song, 0 to 1.
            loops: its limit is, up to a quarter of the song, also the shortest jump.
        """
        self._song, self._jumps, self._rng, self._loops = song, jumps, rng, loops
        self._distances = FrameDistances(song)
        self._sounding, self._targets = sounding, _jump_targets(sounding, loops.limit)
        self._rest = min(loops.limit, len(self._targets) // 4)
        self._places: list[int] = []
        self._no_targets = np.setdiff1d(np.arange(len(song)), self._targets)
        self._order, self._lead = np.arange(len(song)), 0.0
        self._step = self._typical_distance() if jumps else 0.0

    def _typical_distance(self):
        """Mean distance of a frame to the most similar one elsewhere; a minimum in repetitive songs."""
        size = len(self._targets)
        sample = self._targets[np.linspace(0, size - 1, min(size, _REFERENCE_FRAMES)).astype(int)]
        elsewhere = np.abs(sample[:, None] - self._targets) > self._rest
        distances = np.where(elsewhere, self._distances(self._song[sample])[:, self._targets], np.inf)
        minimum = _MIN_STEP * float(self._distances.squares[self._targets].mean()) / self._distances.bins
        return max(float(distances.min(axis=1).mean()), minimum) if size > 1 else minimum

    def next_input(self, frame: np.ndarray) -> np.ndarray:
        """The input ``(F,)`` that follows a generated frame ``(F,)``; call it with each in turn."""
        distances = self._distances(frame[None])[0]
        has_sound = self._sounding[distances.argmin()]
        if self._loops.lag(has_sound * frame[: self._distances.bins]):
            self._places.append(int(self._targets[self._rng.integers(len(self._targets))]))
        elif self._jumps:
            self._places.append(self._choose(distances))
        else:
            return frame
        return self._song[self._places[-1]]

    def _choose(self, distances):
        """Index of the song's frame to use for a generated one, at `distances` ``(M,)`` from all of them."""
        size = len(self._song)
        distances[self._places[max(0, len(self._places) - self._rest) :]] = np.inf
        following = self._places[-1] + 1 if self._places else size
        if following < size:
            distance = distances[following] - self._lead
            distances[np.abs(self._order - following) <= self._rest] = np.inf
        distances[self._no_targets] = np.inf
        if following < size:
            distances[following] = distance
        place = int(np.argmin(distances - _TEMPERATURE * self._step * self._rng.gumbel(size=size)))
        if self._sounding[place]:
            self._lead += self._step * ((place != following) - self._jumps)
        return place
