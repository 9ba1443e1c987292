"""The two ways to generate frames, part and whole, and what the network hears meanwhile."""

import math
from collections.abc import Callable

import numpy as np

from joanna.fast import Windows
from joanna.settings import hop

_LOOP_SECONDS = 3.0  # a loop this long is broken
_ALIKE = 0.9  # correlation from which on two frames count as the same
_LEAST = 0.25  # of the frames' mean square
_CHANCE = 0.05  # how far two frames may differ in distance and chance still decide, in units of below


def loop_limit(settings: dict) -> int:
    """Frames a loop may last: 3 s."""
    return math.ceil(_LOOP_SECONDS * settings["sample-rate"] / hop(settings))


def hearing(
    song: np.ndarray, variation: float, rng: np.random.Generator, limit: int, title: str
) -> Callable[[np.ndarray], np.ndarray]:
    """What the network hears of each frame it has put out: a frame of the song that is like it.

    The nearest of those elsewhere in the song, or the one that follows the frame heard last, which has
    a lead. Each departure from the song's course raises the lead and each frame on it lowers it, so that
    a share `variation` of the frames depart, of any song and however well it was learned, there where
    another place is likest (stochastic approximation: Robbins and Monro 1951, Annals of Mathematical
    Statistics 22). Among places about as near chance decides, by the Gumbel-max trick (Maddison,
    Tarlow and Minka 2014, arXiv:1411.0030). So errors do not add up; and it rests on no frame, for none
    is heard twice within `limit` frames. Without variation it hears its own frames. When the last
    `limit` frames repeat earlier ones, it hears one from anywhere, and that is said.

    Args:
        song: frames ``(M, F)``, scaled; two-sided, so half of the bins are looked at.
        variation: share of the frames at which the clip leaves the song's course, 0 to 1.
        rng: draws.
        limit: frames a loop may last; a quarter of the song's, at most, before a frame is heard again,
            and from one place to what counts as another.
        title: the clip's name in the message.

    Returns:
        A function of a generated frame ``(F,)``, to be called with each in turn -> ``(F,)`` float32.
    """
    runs, heard, count, lead = np.zeros(0, int), [], 0, 0.0
    rest = min(limit, len(song) // 4)
    half = song[:, : song.shape[1] // 2 + 1]
    past = np.zeros((20 * limit, half.shape[1]), np.float32)  # the clip's last frames, written in a ring
    squares, places = np.square(half).sum(axis=1), np.arange(len(song))

    def distances(frames):
        """Mean squared differences of frames ``(K, F)`` from the song's -> ``(K, M)``."""
        frames = frames[:, : half.shape[1]]
        own = np.square(frames).sum(axis=1)[:, None]
        return (own + squares - 2 * frames @ half.T) / half.shape[1]

    def unit():
        """How far the nearest frame elsewhere is, on average."""
        some = np.linspace(0, len(song) - 1, min(len(song), 500)).astype(int)
        found = np.where(np.abs(some[:, None] - places) > rest, distances(song[some]), np.inf)
        # where all comes again it is next to nothing, and the lead would be as long in growing
        return max(float(found.min(axis=1).mean()), _LEAST * float(squares.mean()) / half.shape[1])

    step = unit() if variation else 0.0

    def hear(frame):
        nonlocal runs, count, lead
        count += 1
        shape = frame[: half.shape[1]] - frame[: half.shape[1]].mean()
        shape = shape / max(np.linalg.norm(shape), 1e-9)
        # runs[k]: for how many frames the clip has been as it was k + 1 frames before
        known = past[: count - 1]
        before = (count - 2 - np.arange(len(known))) % len(past)  # from the last frame back
        alike = (known @ shape)[before] > _ALIKE
        runs = np.where(alike, np.append(runs, 0)[: len(alike)] + 1, 0)
        past[(count - 1) % len(past)] = shape
        if runs.max(initial=0) >= limit:
            lag = runs.argmax() + 1
            print(f"{title}: frame {count} repeats what came {lag} frames before: perturbed", flush=True)
            runs = np.zeros(len(runs), int)
            heard.append(rng.integers(len(song)))
            return song[heard[-1]]
        if not variation:
            return frame
        distance = distances(frame[None])[0]
        distance[heard[max(0, len(heard) - rest) :]] = np.inf
        course = heard[-1] + 1 if heard else len(song)
        if course < len(song):
            follow = distance[course] - lead
            distance[np.abs(places - course) <= rest] = np.inf
            distance[course] = follow
        heard.append(np.argmin(distance - _CHANCE * step * rng.gumbel(size=len(song))))
        lead += step * ((heard[-1] != course) - variation)
        return song[heard[-1]]

    return hear


def part(
    network, seed: np.ndarray, length: int, count: int, hear: Callable = lambda frame: frame
) -> np.ndarray:
    """Frames ``(count, F)``: append the last frame of each prediction, slide the window.

    Args:
        network: frames ``(1, T, F)`` -> the next frames ``(1, T, F)``.
        seed: seed frames ``(T, F)``, scaled, `length` or more; they are not part of the result. The
            first prediction is made from all of them.
        length: frames in the window.
        count: frames wanted.
        hear: a predicted frame ``(F,)`` -> what stands for it in the window.
    """
    windows = Windows(network, length)
    frames = [windows.push(frame[None])[0] for frame in seed[-length:]][-1:]
    if len(seed) > length:
        frames = [network.predict_on_batch(seed[None])[0, -1]]
    while len(frames) < count:
        frames.append(windows.push(hear(frames[-1])[None])[0])
    return np.array(frames)


def whole(
    network, seed: np.ndarray, length: int, count: int, hear: Callable = lambda frame: frame
) -> np.ndarray:
    """Frames ``(count, F)``: the whole of each output is the next input, its last frame is kept.

    An output is its input moved on by one frame: what comes before its last has been heard already.
    Arguments as in `part`.
    """
    first = network.predict_on_batch(seed[None])[0, -length:]
    windows, frames = Windows(network, length), [first[-1]]
    # each window hears what the one before it put out a step ago; the first one hears `first`
    outputs = np.empty((0, seed.shape[1]), np.float32)
    for frame in first[:-1]:
        outputs = windows.push(np.concatenate([frame[None], outputs]))
    while len(frames) < count:
        outputs = windows.push(np.concatenate([hear(frames[-1])[None], outputs]))
        frames.append(outputs[0])
        outputs = outputs[1:]
    return np.array(frames)


def match(frames: np.ndarray) -> np.ndarray:
    """Bring scaled frames ``(M, F)`` back to the source's mean 0 and deviation 1 in every bin."""
    deviation = frames.std(axis=0)
    return (frames - frames.mean(axis=0)) / np.where(deviation > 1e-6, deviation, 1.0)
