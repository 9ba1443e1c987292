"""Phases for generated magnitudes. numpy and scipy only."""

import numpy as np

from joanna import audio

_JUMP = 6.0  # what leaving the song's order costs, in mean squared deviations of a frame


def follow(magnitude: np.ndarray, song: np.ndarray) -> np.ndarray:
    """Where in the song each generated frame is: the path with the least distance and fewest jumps.

    Viterbi's algorithm (Forney 1973, Proc. IEEE 61(3)), as in unit selection (Hunt and Black 1996,
    ICASSP): going on in the song's order is free, leaving it costs.

    Args:
        magnitude: generated frames ``(M, F)``, scaled; two-sided, so half of the bins are looked at.
        song: the song's frames ``(N, F)``, scaled alike.

    Returns:
        Indices ``(M,)`` of the song's frames.
    """
    bins = magnitude.shape[1] // 2 + 1
    left, right = magnitude[:, :bins], song[:, :bins]
    squares = np.square(right).sum(axis=1)
    order = np.arange(len(song), dtype=np.int32)
    before = np.zeros((len(left), len(song)), np.int32)

    def distance(frame):
        """Mean squared deviation of a frame ``(B,)`` from each of the song's."""
        return (np.square(frame).sum() + squares - 2 * right @ frame) / bins

    cost = distance(left[0])
    for t in range(1, len(left)):
        straight = np.append(np.inf, cost[:-1])
        jump = cost.argmin()
        goes_on = straight <= cost[jump] + _JUMP
        before[t] = np.where(goes_on, order - 1, jump)
        cost = np.where(goes_on, straight, cost[jump] + _JUMP) + distance(left[t])
    path = [cost.argmin()]
    for t in range(len(left) - 1, 0, -1):
        path.append(before[t, path[-1]])
    return np.array(path[::-1])


def griffin_lim(magnitude: np.ndarray, phase: np.ndarray, overlap: int, rounds: int = 50) -> np.ndarray:
    """Phases ``(M, F)`` in radians that fit each other better than those given.

    Griffin and Lim 1984, IEEE TASSP 32(2): to audio and back, keeping the magnitudes. At overlap 2
    frames share too little for it to help.

    Args:
        magnitude: linear magnitudes ``(M, F)``, 0 or more.
        phase: phases to start from ``(M, F)``, radians.
        overlap: frame length / hop.
        rounds: times to audio and back.
    """
    for _ in range(rounds):
        signal = audio.istft(magnitude * np.exp(1j * phase), overlap)
        phase = np.angle(audio.stft(signal, magnitude.shape[1], overlap))
    return phase
