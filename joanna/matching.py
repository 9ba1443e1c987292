"""Statistics of the song for generated frames, whose level, spread and correlations differ from it."""

import numpy as np

_MAX_GAIN = 20.0  # of a bin; magnitudes of trained networks need up to 14
_MAX_AXIS_GAIN = 4.0  # of a principal component of bins with std 1
# The loop of a phase network may come close to rest, and phases that stand still are a click in each frame
_MAX_PHASE_GAIN = 1000.0
_RANK_WIDTH = 0.1  # deviations of a bin over which ranks are averaged
_REFERENCE_FRAMES = 1024  # of a longer song so many are enough
_AXES = 8  # principal components of the song whose covariance is matched
_MIN_VARIANCE = 1e-6  # of the largest principal component; less is rounding
_BINS = 128  # processed at a time


def match_phases(frames: np.ndarray) -> np.ndarray:
    """Generated phases ``(M, F)`` with mean 0 and std 1 in each bin.

    No bin is raised more than 1000-fold, and one that needs more keeps its mean in proportion: a bin that
    stands still stays as it is.
    """
    mean, std = frames.mean(axis=0), frames.std(axis=0)
    moving = np.minimum(1, _MAX_PHASE_GAIN * std)
    return moving * (frames - mean) / np.where(std > 0, std, 1) + (1 - moving) * mean


class SongStatistics:
    """Statistics of the song's magnitudes, which `match` gives to generated ones.

    They are the distribution of the values of each bin, and the covariance of the bins along the first
    principal components. The best guesses of a network are close to the mean, loud and quiet frames too rare,
    and its bins rise and fall together more than those of the song.

    Args:
        frames: frames of the song ``(N, F)``, normalized.
        counted: frames that count ``(N,)``, at least one.
    """

    def __init__(self, frames: np.ndarray, counted: np.ndarray):
        rows = np.flatnonzero(counted)
        rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), _REFERENCE_FRAMES)).astype(int)]
        song = frames[rows].astype(float)
        self._ordered = np.sort(song, axis=0)
        song -= song.mean(axis=0)
        # the smaller matrix of products has the eigenvalues of the larger one, the covariance
        variances, vectors = np.linalg.eigh(song @ song.T / len(song))
        kept = np.flatnonzero(variances > max(0, _MIN_VARIANCE * variances[-1]))[-_AXES:]
        self._variances = variances[kept]
        self._axes = vectors[:, kept].T @ song / np.sqrt(len(song) * self._variances[:, None])  # (K, F)

    def match(self, frames: np.ndarray, counted: np.ndarray) -> np.ndarray:
        """Generated magnitudes ``(M, F)`` with the statistics of the song.

        First each bin gets mean 0 and std 1. Then the linear map that changes the frames least gives them the
        covariance of the song along its first principal components (Pitie and Kokaram 2007, CVMP). At last
        each value of a bin becomes the value of the same rank in the song: histogram matching (Gonzalez and
        Woods 2018, Digital Image Processing, 3.3). What stands still stays as it is: a bin whose std is below
        1/20 is matched in proportion, and no principal component is raised more than 4-fold.

        Args:
            frames: generated frames, normalized.
            counted: frames that are matched ``(M,)``; the others are returned unchanged.
        """
        rows, matched = np.flatnonzero(counted), frames.copy()
        if not len(rows):
            return matched
        parts = [slice(start, start + _BINS) for start in range(0, frames.shape[1], _BINS)]
        offsets = sum(_standardized(frames[rows, bins]) @ self._axes[:, bins].T for bins in parts)
        change = offsets @ (self._gain(offsets) - np.eye(len(self._axes)))
        for bins in parts:
            values = frames[rows, bins]
            moving = np.minimum(1, _MAX_GAIN * values.std(axis=0, dtype=float))
            wanted = _standardized(values) + change @ self._axes[:, bins]
            _match_ranks(wanted, self._ordered[:, bins])
            matched[rows, bins] = moving * wanted + (1 - moving) * values
        return matched

    def _gain(self, offsets):
        """Matrix ``(K, K)`` that gives offsets ``(M, K)`` along the axes the variances of the song."""
        covariance = offsets.T @ offsets / len(offsets) + np.diag(self._variances) / _MAX_AXIS_GAIN**2
        root = square_root(covariance)
        inverse = np.linalg.inv(root)
        return inverse @ square_root(root * self._variances @ root) @ inverse


def _standardized(values):
    """Values ``(M, B)`` with mean 0 and std 1 in each bin, or less where that takes too much gain."""
    values = values.astype(float)
    return (values - values.mean(axis=0)) / np.maximum(values.std(axis=0), 1 / _MAX_GAIN)


def _match_ranks(values, ordered):
    """Replace the values of each bin ``(M, B)`` by those of the same rank in `ordered` ``(N, B)``."""
    ranks = (np.arange(len(ordered)) + 0.5) / len(ordered)
    for own, wanted in zip(values.T, ordered.T, strict=True):  # views
        if std := own.std():
            own[:] = np.interp(_ranks(own, _RANK_WIDTH * std), ranks, wanted)


def square_root(matrix: np.ndarray) -> np.ndarray:
    """Square root of a symmetric matrix ``(K, K)`` without negative eigenvalues, but for rounding."""
    values, vectors = np.linalg.eigh(matrix)
    return vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T


def _ranks(values, width):
    """Ranks of values ``(N,)``, 0 to 1, averaged over `width` around each.

    Equal values have equal ranks: a sound that rests is no crescendo, and its noise is not raised to one.
    """
    ordered = np.sort(values)
    sums = np.append(0, ordered.cumsum())

    def area(ends):  # below the cumulative distribution, up to each of `ends`
        below = ordered.searchsorted(ends)
        return below * ends - sums[below]

    return (area(values + width / 2) - area(values - width / 2)) / (width * len(values))
