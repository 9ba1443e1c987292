"""A run within `minutes`: how long each training may take."""

import math
import os
import time
from collections.abc import Callable

from joanna.settings import bottleneck

# The trainings, their shares of a run, and what an epoch of each takes beside the others': the demo's.
_SHARES = {"autoencoder": 0.3, "spliced": 0.3, "new": 0.4}
_EPOCH = {"autoencoder": 1.0, "spliced": 1.2, "new": 1.6}
ORDER = [(component, "autoencoder") for component in ("phase", "magnitude")]
ORDER += [(component, name) for component in ("phase", "magnitude") for name in ("spliced", "new")]
_STARTED = time.time()
# Seconds, measured on two cores; the rest of the run is measured while it runs.
_STAGE, _TRAINING = 8.0, 4.0  # to start a stage; to build, encode and save around a training
_CLIP, _REPORT = 2.0, 4.0  # to score a clip; to write the report
_TICK, _ROW = 0.022, 0.00015  # a frame of a clip, and as much again a frame of its window
_WEIGHTS = 55e6  # of the network that took so long


def limit(settings: dict, component: str, name: str) -> Callable[[], float] | None:
    """What `training.train` takes as limit; none if no minutes are set."""
    if not settings["minutes"]:
        return None
    return lambda: seconds_for(settings, component, name)


def seconds_for(settings: dict, component: str, name: str) -> float:
    """Seconds a training may take that is about to begin; what is left is shared by those after it.

    The clock is run.sh's. A script that is run alone takes its own share of the minutes.
    """
    shares = [_SHARES[other] for _, other in ORDER]
    place, total = ORDER.index((component, name)), 60 * settings["minutes"]
    began = float(os.environ.get("JOANNA_BEGAN", 0))
    if not began:
        first = 0 if name == "autoencoder" else 2
        began = _STARTED - (total - _reserved(settings, 0)) * sum(shares[:first]) / sum(shares)
    left = began + total - time.time() - _reserved(settings, place)
    # a run that goes on does not spend again what it has spent on the trainings before
    left = min(left, (total - _reserved(settings, 0)) * sum(shares[place:]) / sum(shares))
    return max(0.0, left) * shares[place] / sum(shares[place:])


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
    for _, other in later:
        if settings["minutes"]:
            share = _SHARES[other] / sum(_SHARES[each] for _, each in ORDER)
            seconds += share * (60 * settings["minutes"] - _reserved(settings, 0))
        else:
            kind = "ae" if other == "autoencoder" else "lstm"
            epochs = settings[f"{kind}-epoch"] * settings[f"{kind}-iteration"]
            seconds += epochs * seconds_an_epoch * _EPOCH[other] / _EPOCH[name]
    return seconds + (_reserved(settings, place + 1) if began else _TRAINING * len(later))


def _reserved(settings, place):
    """Seconds the run takes from a training's beginning on, besides training."""
    stages = 2 if place < 2 else 1
    return _STAGE * stages + _TRAINING * (len(ORDER) - place) + generation_seconds(settings)


def generation_seconds(settings: dict) -> float:
    """Seconds that generate.py takes on two cores, about, without its start."""
    width, latent = settings["frame-length"], bottleneck(settings)
    weights = settings["layer-count"] * (width + latent) ** 2 / 2
    weights += (2 + settings["lstm-layers"]) * 8 * latent**2
    hop = width / settings["overlap"] / settings["sample-rate"]
    frames = math.ceil(settings["generate-seconds"] / hop)
    ways = {"all": 3}.get(settings["phase-method"], 1)
    networks = 1 if settings["phase-method"] == "follow" else 2
    seconds = _REPORT
    for length in settings["sequence-lengths"]:
        methods = 2 if settings["method"] == "both" else 1
        ticks = (frames + length) * (_TICK + _ROW * length) * weights / _WEIGHTS
        seconds += methods * settings["takes"] * (ticks * networks + _CLIP * ways)
    return seconds
