"""A run within `minutes`: how long each training may take."""

import math
import os
import time
from collections.abc import Callable
from itertools import product

from joanna.settings import bottleneck, hop

# The trainings, their shares of a run, and what an epoch of each takes beside the others': the demo's.
_SHARES = {"autoencoder": 0.3, "spliced": 0.3, "new": 0.4}
_UNHEARD = 0.1  # share of the phase generator when phases follow the song
_EPOCH = {"autoencoder": 1.0, "spliced": 1.2, "new": 1.6}
ORDER = [(component, "autoencoder") for component in ("phase", "magnitude")]
ORDER += [(component, name) for component in ("phase", "magnitude") for name in ("spliced", "new")]
_STARTED = time.time()
# Seconds that pass besides training, measured on two slow cores: to start a stage, to come to its first
# training, from one training into the next, and after the last; to score a clip, to write the report.
_STAGE, _AFTER = 6.0, 4.0
_FIRST = {0: 2.0, 2: 6.0}  # place in ORDER of a stage's first
_INTO = {"autoencoder": 7.0, "spliced": 12.0, "new": 16.0}
_CLIP, _REPORT = 3.0, 6.0
# A frame of a clip, and more for each frame of its window, of which part shares a product.
_TICK, _ROW = 0.0065, {"part": 0.0012, "whole": 0.0019}
_WEIGHTS = 55e6  # of the network that took so long
_QUICKEST, _SLOWEST = 0.25, 4.0  # times as long as measured that any machine is taken to need
_ends = {}  # place in ORDER -> when that training's last epoch so far ended
_besides = {}  # place in ORDER -> seconds that passed before it besides training, and seconds foreseen


def limit(settings: dict, component: str, name: str) -> Callable[[], float] | None:
    """What `training.train` takes as limit; none if no minutes are set."""
    if not settings["minutes"]:
        return None
    return lambda: seconds_for(settings, component, name)


def seconds_for(settings: dict, component: str, name: str) -> float:
    """Seconds a training may take that is about to begin; what is left is shared by those after it.

    The clock is run.sh's. A script that is run alone takes its own share of the minutes.
    """
    place, total, now = ORDER.index((component, name)), 60 * settings["minutes"], time.time()
    if place not in _besides:
        if place - 1 in _ends:
            _besides[place] = now - _ends[place - 1], _INTO[name]
        elif place in _FIRST:
            _besides[place] = now - _STARTED, _STAGE + _FIRST[place]
    shares = [_share(settings, *other) for other in ORDER]
    began = float(os.environ.get("JOANNA_BEGAN", 0))
    if not began:
        first = 0 if name == "autoencoder" else 2
        began = _STARTED - (total - _reserved(settings, -1)) * sum(shares[:first]) / sum(shares)
    left = began + total - now - _reserved(settings, place)
    # a run that goes on does not spend again what it has spent on the trainings before
    left = min(left, (total - _reserved(settings, -1)) * sum(shares[place:]) / sum(shares))
    return max(0.0, left) * shares[place] / sum(shares[place:])


def least(settings: dict) -> float:
    """Seconds that a whole run takes besides training on two slow cores, about."""
    return _reserved(settings, -1)


def note_epoch(component: str, name: str) -> None:
    """Take note that a training has just ended an epoch."""
    _ends[ORDER.index((component, name))] = time.time()


def _share(settings, component, name):
    unheard = name == "new" and component == "phase" and settings["phase-method"] == "follow"
    return _UNHEARD if unheard else _SHARES[name]


def _pace():
    """How slow this machine is besides training, as seen in this process so far."""
    if not _besides:
        return 1.0
    took, foreseen = (sum(values) for values in zip(*_besides.values(), strict=True))
    return min(_SLOWEST, max(_QUICKEST, took / foreseen))


def run_left(
    settings: dict, component: str, name: str, seconds: float, seconds_an_epoch: float
) -> float:
    """Seconds left for the run, or for the script that is run alone, about.

    Args:
        component: whose training is under way.
        name: of that training.
        seconds: it has left.
        seconds_an_epoch: it takes.
    """
    place, began = ORDER.index((component, name)), float(os.environ.get("JOANNA_BEGAN", 0))
    if settings["minutes"] and began:
        return max(seconds, began + 60 * settings["minutes"] - time.time())
    later = ORDER[place + 1 :] if began or place >= 2 else ORDER[place + 1 : 2]
    for other in later:
        if settings["minutes"]:
            share = _share(settings, *other) / sum(_share(settings, *each) for each in ORDER)
            seconds += share * (60 * settings["minutes"] - _reserved(settings, -1))
        else:
            kind = "ae" if other[1] == "autoencoder" else "lstm"
            epochs = settings[f"{kind}-epoch"] * settings[f"{kind}-iteration"]
            seconds += epochs * seconds_an_epoch * _EPOCH[other[1]] / _EPOCH[name]
    return seconds + (_reserved(settings, place) if began else sum(_INTO[other[1]] for other in later))


def _reserved(settings, place):
    """Seconds the run takes from a training's beginning on besides training; place -1: all of it."""
    stages = 1 + (place < 2) + (place < 0)  # that are yet to start
    seconds = stages * (_STAGE + _AFTER)
    seconds += sum(_FIRST.get(at, _INTO[ORDER[at][1]]) for at in range(place + 1, len(ORDER)))
    return _pace() * (seconds + generation_seconds(settings))


def generation_seconds(settings: dict) -> float:
    """Seconds that generate.py takes on two cores, about, without its start."""
    width, latent = settings["frame-length"], bottleneck(settings)
    weights = settings["layer-count"] * (width + latent) ** 2 / 2
    weights += (2 + settings["lstm-layers"]) * 8 * latent**2
    frames = math.ceil(settings["generate-seconds"] * settings["sample-rate"] / hop(settings))
    ways = {"all": 3}.get(settings["phase-method"], 1)
    networks = 1 if settings["phase-method"] == "follow" else 2
    seconds = _REPORT
    methods = ["part", "whole"] if settings["method"] == "both" else [settings["method"]]
    for method, length in product(methods, settings["sequence-lengths"]):
        ticks = (frames + length) * (_TICK + _ROW[method] * length) * weights / _WEIGHTS
        seconds += settings["takes"] * (ticks * networks + _CLIP * ways)
    return seconds
