"""Phase reconstruction: phases for generated magnitudes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from joanna.spectra import FrameDistances, component_frames, join

_JUMP_COST = 6.0  # cost of a jump, in units of the frames' variance
_ITERATIONS = 50  # of griffin-lim
_ROWS = 64  # frames compared with the song at a time; all of a minute with an hour would take gigabytes


def each_distance(frames: np.ndarray, song: np.ndarray, stereo: bool = False) -> Iterator[np.ndarray]:
    """Distances ``(N,)`` of each of the frames ``(M, F)`` from those of the song ``(N, F)``."""
    distances = FrameDistances(song, stereo)
    for start in range(0, len(frames), _ROWS):
        yield from distances(frames[start : start + _ROWS])


def follow(magnitude: np.ndarray, song: np.ndarray, stereo: bool = False) -> np.ndarray:
    """Align normalized magnitudes ``(M, F)`` with the song's ``(N, F)``: indices ``(M,)`` of its frames.

    The path with the least distances and jumps, found by the Viterbi algorithm (Forney 1973, Proc. IEEE
    61(3)), as in unit selection (Hunt and Black 1996, ICASSP): only the next frame of the song is free.
    """
    distances = each_distance(magnitude, song, stereo)
    # which frames a jump leads to at each step, and from where: the cheapest frame before, for all of them
    is_jump, origins = np.zeros((len(magnitude), len(song)), bool), np.zeros(len(magnitude), int)
    cost = next(distances)
    for t, distance in enumerate(distances, 1):
        continued = np.append(np.inf, cost[:-1])
        origins[t] = cost.argmin()
        jumped = cost[origins[t]] + _JUMP_COST
        is_jump[t] = continued > jumped
        cost = np.minimum(continued, jumped) + distance
    path = [cost.argmin()]
    for t in range(len(magnitude) - 1, 0, -1):
        path.append(origins[t] if is_jump[t, path[-1]] else path[-1] - 1)
    return np.array(path[::-1])


def griffin_lim(
    magnitude: np.ndarray,
    phase: np.ndarray,
    overlap: int,
    stereo: bool = False,
    iterations: int = _ITERATIONS,
) -> np.ndarray:
    """Make phases ``(M, F)`` in radians consistent with fixed linear magnitudes ``(M, F)``.

    Repeated inverse and forward STFT (Griffin and Lim 1984, IEEE TASSP 32(2)). At overlap 2 many iterations
    add a buzz, because adjacent frames share too few samples.
    """
    for _ in range(iterations):
        phase = consistent_phase(join(magnitude, phase, 1.0, overlap, stereo), phase, overlap, stereo)
    return phase


def consistent_phase(audio: np.ndarray, phase: np.ndarray, overlap: int, stereo: bool = False) -> np.ndarray:
    """Phases ``(M, F)`` in radians of audio whose frames had the phases `phase` before the overlap-add.

    In stereo, side keeps its phase relative to mid, and so each sound its place.
    """
    length = phase.shape[1]
    consistent = component_frames(audio, "phase", length, overlap, 1.0, phase.dtype)
    side = slice(length // 2 + 1 if stereo else length, None)
    consistent[:, side] = phase[:, side]
    return consistent


@dataclass(frozen=True)
class PhaseInputs:
    """Input of the phase methods; phases are in radians."""

    magnitude: np.ndarray  # generated frames (M, F), normalized
    phase: np.ndarray  # generated (M, F); empty if the phase network did not run
    linear_magnitude: np.ndarray  # linear magnitudes (M, F) of the same frames
    song_magnitude: np.ndarray  # the song's frames (N, F), normalized
    song_phase: Callable[[np.ndarray], np.ndarray]  # (K, F) of frames (K,) of the song's reconstruction
    overlap: int  # frame length / hop
    stereo: bool = False
    iterations: int = 0  # of Griffin and Lim, on the phases of the network

    def consistent(self, iterations: int) -> np.ndarray:
        """The generated phases ``(M, F)`` after `griffin_lim`."""
        return griffin_lim(self.linear_magnitude, self.phase, self.overlap, self.stereo, iterations)

    @cached_property
    def followed(self) -> np.ndarray:
        """Phases ``(M, F)`` of the song along the path closest to the magnitudes; see `follow`."""
        return self.song_phase(follow(self.magnitude, self.song_magnitude, self.stereo))


@dataclass(frozen=True)
class PhaseMethod:
    """A way to obtain the phases of generated magnitudes."""

    phases: Callable[[PhaseInputs], np.ndarray]  # returns phases (M, F) in radians
    generates_phase: bool = True  # whether it needs the phases that the phase network generates
    minimum_overlap: int = 2  # with less it adds a buzz


# value of phase-method -> the method; their order is that of phase-method=all
PHASE_METHODS = {
    "network": PhaseMethod(lambda given: given.consistent(given.iterations)),
    "follow": PhaseMethod(lambda given: given.followed, generates_phase=False),
    "griffin-lim": PhaseMethod(lambda given: given.consistent(_ITERATIONS), minimum_overlap=4),
}


def selected_methods(name: str) -> dict[str, PhaseMethod]:
    """The methods that a value of phase-method stands for, by name."""
    return PHASE_METHODS if name == "all" else {name: PHASE_METHODS[name]}


def generated_components(name: str) -> tuple[str, ...]:
    """The components that a value of phase-method takes frames of: magnitude, maybe phase."""
    generates_phase = any(method.generates_phase for method in selected_methods(name).values())
    return ("magnitude", "phase") if generates_phase else ("magnitude",)
