"""What a run takes: memory, and time within `minutes`. No TensorFlow."""

import contextlib
import math
import os
import sys
import time
from collections.abc import Callable
from itertools import pairwise, product
from pathlib import Path

from joanna.errors import UserError
from joanna.phase import generated_components, selected_methods
from joanna.run import TRAININGS, Training
from joanna.settings import bottleneck, clip_blocks, methods

# Memory
_BASE_BYTES = 0.6e9  # Python, TensorFlow and its thread pools
_WEIGHT_COPIES = 6  # weights, gradients, moments, copies to save, the other component's
_LSTM_ARRAYS = 12  # arrays as wide as an LSTM layer that its gradient needs
_SONG_COPIES = {"training": 6, "generating": 7}  # float32 arrays of the size of the song's frames
_CLIP_ARRAYS = 6  # float64 arrays of the size of a clip's frames that its sound and its scores take
# a container's limits: controller in /proc/self/cgroup, folder, limit, usage, prefix of its statistics
_CONTROL_GROUPS = (
    ("", "sys/fs/cgroup", "memory.max", "memory.current", ""),
    ("memory", "sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
)
_ADVICE = {
    "training": "lower frame-length, window-batch or batch-size, raise dim-decrease or set it to auto",
    "generating": "lower generate-seconds, takes or the number of sequence-lengths",
}

# Time: the share of each training, and the time of an epoch relative to the others, in the demo, whose
# networks have so many weights; with others they are proportional
_DEMO_WEIGHTS = {"autoencoder": 19_670_432, "spliced": 27_408_080, "generator": 35_145_728}
_SHARES = {"autoencoder": 0.3, "spliced": 0.3, "generator": 0.4}
_UNUSED_SHARE = 0.25  # of its share that the phase generator gets if the phase method does not use it
_EPOCH_COST = {"autoencoder": 1.0, "spliced": 1.2, "generator": 1.6}
# Seconds outside of training on two slow cores: to import TensorFlow, start of a stage, its end, until its
# first training, before a training, to score a clip, to write the report
_IMPORT, _STAGE_START, _STAGE_END = 4.0, 2.0, 4.0
_FIRST = {0: 2.0, 2: 6.0}  # index in TRAININGS -> seconds
_BEFORE = {"autoencoder": 7.0, "spliced": 12.0, "generator": 16.0}
_CLIP, _REPORT = 3.0, 6.0
# Seconds to generate a frame, and more per frame of its window; windows of part share a product
_FRAME, _WINDOW_FRAME = 0.0065, {"part": 0.0012, "whole": 0.0019}
_MEASURED_WEIGHTS = 55e6  # of the network that took them
_FASTEST, _SLOWEST = 0.25, 4.0  # bounds of a machine's overhead relative to these figures
_OVERTIME = 1.25  # times its share, after which a training is stopped


def memory_needed(settings: dict, work: str, frames: int) -> float:
    """Estimate the peak memory in bytes of 'training' or 'generating' with a song of `frames`.

    Measured at the default widths: training 20 s of song takes 1.8 GB, with `hifi` 3.9, and is estimated
    at 2.3 and 4.4. All stages of `evening` in one process took 2.8. Generating from an hour took 3.9 at a
    narrow width, and is estimated at 4.0.
    """
    width, latent, widths = settings["frame-length"], bottleneck(settings), _widths(settings)
    trained, lstms = _trained_weights(settings), 2 + settings["lstm-layers"]
    weights = 4 * (trained["autoencoder"] + trained["generator"])
    base = _BASE_BYTES + _SONG_COPIES[work] * 4 * width * frames
    if work == "training":
        rows = max(settings["batch-size"], settings["window-batch"] * settings["window-length"])
        activations = 4 * rows * (2 * sum(widths) + lstms * _LSTM_ARRAYS * latent)
        return base + _WEIGHT_COPIES * weights + 2 * activations
    generated = clip_blocks(settings) + 4 * settings["overlap"]
    phase_methods = selected_methods(settings["phase-method"])
    clips = len(methods(settings)) * len(settings["sequence-lengths"]) * settings["takes"]
    path = generated * frames  # of phase.follow
    arrays = clips * (1 + 2 * len(phase_methods)) + _CLIP_ARRAYS
    return base + 4 * weights + 8 * generated * width * arrays + path


def _widths(settings):
    """Units of the input of the encoder and of each of its steps."""
    return [
        settings["frame-length"] - step * settings["dim-decrease"]
        for step in range(settings["layer-count"] + 1)
    ]


def _trained_weights(settings):
    """Weights that an epoch of each kind of training goes through."""
    dense, lstm = sum(a * b for a, b in pairwise(_widths(settings))), 8 * bottleneck(settings) ** 2
    generator = (2 + settings["lstm-layers"]) * lstm
    return {"autoencoder": 2 * dense, "spliced": dense + 2 * lstm, "generator": generator}


def memory_available(root: Path = Path("/")) -> float:
    """Bytes this process may use of the machine's memory or within its container's limit.

    What it has taken counts, because it was freed by the stage before. `root` holds proc and sys.
    """
    found = []
    try:
        found.append(1024 * int(_fields(root / "proc/meminfo")["MemAvailable"].split()[0]))
    except (OSError, KeyError, ValueError):
        if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
            found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # not Linux
        lines = []
    for _, controllers, group in (line.split(":", 2) for line in lines):
        for controller, folder, *names in _CONTROL_GROUPS:
            if controller in controllers.split(","):
                found += _free_in_groups(root / folder, group, *names)
    own = 0
    with contextlib.suppress(OSError, KeyError, ValueError):
        own = 1024 * int(_fields(root / "proc/self/status")["RssAnon"].split()[0])
    return min(found, default=math.inf) + own


def _fields(path):
    """Fields of a file of /proc."""
    return dict(line.split(":", 1) for line in path.read_text().splitlines())


def _free_in_groups(folder, group, limit, usage, prefix):
    """Free bytes of a control group and of those around it, where they have a limit."""
    inner = folder / group.strip("/")
    for place in (inner, *inner.parents):
        try:
            free = int((place / limit).read_text()) - int((place / usage).read_text())
        except (OSError, ValueError):  # no such group, or 'max'
            continue
        with contextlib.suppress(OSError, ValueError, KeyError):
            fields = dict(line.split() for line in (place / "memory.stat").read_text().splitlines())
            # the file cache counts as used, but is freed when needed
            free += sum(int(fields[f"{prefix}{kind}_file"]) for kind in ("inactive", "active"))
        yield free


def check_memory(settings: dict, work: str, frames: int) -> None:
    """Raise UserError if this work, or the one that follows it, needs more memory than is free."""
    available, works = memory_available(), list(_ADVICE)
    for each in works[works.index(work) :]:
        need = memory_needed(settings, each, frames)
        if need > available:
            raise UserError(
                f"{each} with these settings takes about {need / 1e9:.1f} GB of memory; "
                f"{available / 1e9:.1f} GB are free: {_ADVICE[each]}, learn from fewer seconds, or "
                "close other programs"
            )


def generation_seconds(settings: dict) -> float:
    """Estimate the seconds that generate.py takes on two cores, without its start."""
    trained = _trained_weights(settings)
    weights = trained["autoencoder"] + trained["generator"]
    frames = clip_blocks(settings)
    networks = len(generated_components(settings["phase-method"]))
    scoring = _CLIP * len(selected_methods(settings["phase-method"]))
    seconds = _REPORT
    for method, length in product(methods(settings), settings["sequence-lengths"]):
        steps = (frames + length) * (_FRAME + _WINDOW_FRAME[method] * length)
        seconds += settings["takes"] * (networks * steps * weights / _MEASURED_WEIGHTS + scoring)
    return seconds


class TimeBudget:
    """Shares the minutes of a run among its trainings.

    The time starts with the run, at JOANNA_BEGAN, which pipeline.py sets. A stage that runs alone takes
    its own share of the minutes. `time.monotonic` never jumps, and pauses while the machine sleeps.
    """

    def __init__(self, settings: dict, clock: Callable[[], float] = time.monotonic):
        """A stage starts; `clock` returns the time in seconds."""
        self._settings, self._clock, self._started = settings, clock, clock()
        self._run_started = float(os.environ.get("JOANNA_BEGAN", 0))
        self._total, self._deadline = 60 * settings["minutes"], math.inf
        self._import = 0.0 if "tensorflow" in sys.modules else _IMPORT  # the first stage that trains
        weights = _trained_weights(settings)
        self._cost = {kind: weights[kind] / _DEMO_WEIGHTS[kind] for kind in weights}  # relative to the demo
        shares = [_SHARES[training.kind] * self._cost[training.kind] for training in TRAININGS]
        if "phase" not in generated_components(settings["phase-method"]):
            shares[TRAININGS.index(Training("phase", "generator"))] *= _UNUSED_SHARE
        self._shares = [share / sum(shares) for share in shares]
        self.finished_at: dict[int, float] = {}  # index in TRAININGS -> time at the end of its last epoch
        # index in TRAININGS -> seconds outside of training before it, and seconds expected
        self.overheads: dict[int, tuple[float, float]] = {}

    def seconds_for(self, training: Training) -> float:
        """Seconds a training may take that starts now; it shares the rest with those that follow."""
        index, now = TRAININGS.index(training), self._clock()
        if index not in self.overheads:
            if index - 1 in self.finished_at:
                self.overheads[index] = now - self.finished_at[index - 1], _BEFORE[training.kind]
            elif index in _FIRST:
                expected = self._import + _STAGE_START + _FIRST[index]
                self.overheads[index] = now - self._started, expected
        trained, shares = self._total - self.overhead_seconds(), self._shares
        first = 0 if training.stage == "autoencoder" else 2
        started = self._run_started or self._started - trained * sum(shares[:first])
        left = started + self._total - now - self.overhead_seconds(index)
        # a resumed run does not spend again what it spent on the previous trainings
        left = min(left, trained * sum(shares[index:]))
        return max(0.0, left) * shares[index] / sum(shares[index:])

    def start(self, training: Training) -> None:
        """Start the time of a training."""
        seconds = _OVERTIME * self.seconds_for(training) if self._total else math.inf
        self._deadline = self._clock() + seconds

    def is_over(self) -> bool:
        """Whether the current training has taken a quarter more than its time."""
        return self._clock() > self._deadline

    def epoch_finished(self, training: Training) -> None:
        """Record that a training has just ended an epoch."""
        self.finished_at[TRAININGS.index(training)] = self._clock()

    def run_left(self, training: Training, seconds: float, seconds_per_epoch: float) -> float:
        """Estimate the seconds left for the run, or for the stage if it runs alone.

        `seconds` are left for the current training, which takes `seconds_per_epoch`.
        """
        if self._total and self._run_started:
            return max(seconds, self._run_started + self._total - self._clock())
        index, stage = TRAININGS.index(training), training.stage
        following = [other for other in TRAININGS[index + 1 :] if self._run_started or other.stage == stage]
        for other in following:
            if self._total:
                share = self._shares[TRAININGS.index(other)]
                seconds += share * max(0.0, self._total - self.overhead_seconds())
            else:
                cost, own = (_EPOCH_COST[kind] * self._cost[kind] for kind in (other.kind, training.kind))
                seconds += other.epochs(self._settings) * seconds_per_epoch * cost / own
        alone = sum(_BEFORE[other.kind] for other in following)
        return seconds + (self.overhead_seconds(index) if self._run_started else alone)

    def overhead_seconds(self, index: int = -1) -> float:
        """Seconds the run takes outside of training from a training (-1: from its start) on."""
        seconds = (1 + (index < 2) + (index < 0)) * (_STAGE_START + _STAGE_END)  # of stages to start
        seconds += self._import if index < 0 else 0.0
        seconds += sum(_FIRST.get(at, _BEFORE[TRAININGS[at].kind]) for at in range(index + 1, len(TRAININGS)))
        return self._pace() * (seconds + generation_seconds(self._settings))

    def _pace(self):
        """Overhead of this process so far, relative to the expected one."""
        if not self.overheads:
            return 1.0
        took, expected = (sum(values) for values in zip(*self.overheads.values(), strict=True))
        return min(_SLOWEST, max(_FASTEST, took / expected))
