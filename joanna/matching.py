"""Statistics of the song for generated frames, whose level, spread and correlations differ from it."""

import numpy as np

# of a generated bin; magnitudes of trained networks need up to 14. The loop of a phase network may come close
# to rest, and phases that stand still are a click in each frame
_MAX_GAIN, _MAX_PHASE_GAIN = 20.0, 1000.0
_RANK_WIDTH = 0.1  # deviations of a bin over which ranks are averaged
_REFERENCE_FRAMES = 1024  # of a longer song every second, third, ... is enough
_AXES = 8  # principal components of the song whose covariance is matched
_MIN_VARIANCE = 1e-6  # of the largest principal component; less is rounding


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
        song = frames[rows[:: -(-len(rows) // _REFERENCE_FRAMES)]].astype(float)
        self._ordered = np.sort(song, axis=0)
        song -= song.mean(axis=0)
        # the smaller matrix of products has the eigenvalues of the larger one, the covariance
        variances, vectors = np.linalg.eigh(song @ song.T / len(song))
        kept = np.flatnonzero(variances > max(0, _MIN_VARIANCE * variances[-1]))[-_AXES:]
        self._variances = variances[kept]
        self._axes = vectors[:, kept].T @ song / np.sqrt(len(song) * self._variances[:, None])  # (K, F)

    def match(self, frames: np.ndarray, counted: np.ndarray) -> np.ndarray:
        """Generated magnitudes ``(M, F)`` with the statistics of the song.

        First a linear map gives them, with mean 0 and std 1 in each bin, the covariance with the least change
        (Pitie and Kokaram 2007, CVMP). Then each value of a bin becomes the value of the same rank in the
        song: histogram matching (Gonzalez and Woods 2018, Digital Image Processing, 3.3). What stands still
        stays as it is: nothing is raised more than 20-fold, and a bin whose std is below 1/20 is matched in
        proportion.

        Args:
            frames: generated frames, normalized.
            counted: frames that are matched ``(M,)``; the others are returned unchanged.
        """
        if not counted.any():
            return frames
        matched, chosen = frames.copy(), frames[counted].astype(float)
        std = chosen.std(axis=0)
        moving = np.minimum(1, _MAX_GAIN * std)
        standardized = (chosen - chosen.mean(axis=0)) / np.maximum(std, 1 / _MAX_GAIN)
        wanted = self._match_bins(self._match_covariance(standardized))
        matched[counted] = moving * wanted + (1 - moving) * chosen
        return matched

    def _match_covariance(self, frames):
        offsets = frames @ self._axes.T
        covariance = offsets.T @ offsets / len(frames) + np.diag(self._variances) / _MAX_GAIN**2
        root = _square_root(covariance)
        inverse = np.linalg.inv(root)
        gain = inverse @ _square_root(root * self._variances @ root) @ inverse
        return frames + offsets @ (gain - np.eye(len(gain))) @ self._axes

    def _match_bins(self, frames):
        ranks = (np.arange(len(self._ordered)) + 0.5) / len(self._ordered)
        for values, wanted in zip(frames.T, self._ordered.T, strict=True):  # views
            if std := values.std():
                values[:] = np.interp(_ranks(values, _RANK_WIDTH * std), ranks, wanted)
        return frames


def _square_root(matrix):
    """Square root of a symmetric matrix ``(K, K)`` without negative eigenvalues."""
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
