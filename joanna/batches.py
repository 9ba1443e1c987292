"""Batches of frames and windows of a song."""

from collections.abc import Callable, Sequence
from itertools import chain

import numpy as np

PART_STEPS = 32  # most steps between two chances to save


def parts_of(steps: int) -> int:
    """Parts that an epoch of so many steps is cut into."""
    return -(-steps // PART_STEPS)


def even_batches(items: np.ndarray, size: int) -> list[np.ndarray]:
    """Cut ``(N,)`` into even batches of at most `size` (or 2), equally many in each part of an epoch."""
    fewest = -(-len(items) // size)
    # more and smaller batches if there are enough items
    counts = chain(range(fewest, len(items) + 1), range(fewest, 0, -1))
    return np.array_split(items, next(count for count in counts if count % parts_of(count) == 0))


class Batches(Sequence):
    """The batches of an epoch, each made when it is read: all at once would double the song's memory."""

    def __init__(self, parts: Sequence[np.ndarray], make: Callable[[np.ndarray], tuple]):
        """`make` maps the items of a part ``(N,)`` to their batch of inputs and targets."""
        self._parts, self._make = parts, make

    def __len__(self) -> int:
        return len(self._parts)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self._make(part) for part in self._parts[index]]
        return self._make(self._parts[index])


def random_windows(count: int, frames: int, length: int, rng: np.random.Generator) -> np.ndarray:
    """First-frame indices ``(count,)`` of windows of `length` that start anywhere in `frames`."""
    return rng.integers(0, frames - length + 1, size=count)


def windows_at(array: np.ndarray, starts: np.ndarray, length: int) -> np.ndarray:
    """Windows ``(N, length, F)`` of ``(M, F)`` at first-frame indices ``(N,)``."""
    return array[starts[:, None] + np.arange(length)]
