"""Batches of frames and windows of a song."""

import numpy as np

PART_STEPS = 32  # most steps between two chances to save


def parts_of(steps: int) -> int:
    """Parts that an epoch of so many steps is cut into."""
    return -(-steps // PART_STEPS)


def even_batches(items: np.ndarray, size: int) -> list[np.ndarray]:
    """Cut ``(N,)`` into batches of at most `size`, as equal as possible, the same number in each part."""
    count = -(-len(items) // size)
    parts = parts_of(count)
    count = parts * -(-count // parts)
    return np.array_split(items, count if count <= len(items) else count - parts)


def random_windows(count: int, frames: int, length: int, rng: np.random.Generator) -> np.ndarray:
    """First-frame indices ``(count,)`` of windows of `length` that start anywhere in `frames`."""
    return rng.integers(0, frames - length + 1, size=count)


def windows_at(array: np.ndarray, starts: np.ndarray, length: int) -> np.ndarray:
    """Windows ``(N, length, F)`` of ``(M, F)`` at first-frame indices ``(N,)``."""
    return array[starts[:, None] + np.arange(length)]
