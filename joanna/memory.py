"""Whether the settings fit into memory, estimated before the work begins. No TensorFlow."""

import contextlib
import math
import os
from itertools import pairwise
from pathlib import Path

from joanna.errors import UserError
from joanna.settings import bottleneck, hop

_BASE = 0.6e9  # bytes of Python, TensorFlow and its thread pools
_COPIES = 8  # of all weights: themselves, gradients, moments, copies to save, the other component's
_GATES = 12  # arrays as wide as an LSTM layer that its gradient needs
# a container's: folder, limit, what it uses, how its statistics' names begin
_GROUPS = (
    ("/sys/fs/cgroup", "memory.max", "memory.current", ""),
    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
)
_SONG = {"training": 6, "generating": 24}  # float32 arrays as large as the song's frames


def needed(settings: dict, stage: str, frames: int) -> float:
    """Bytes a stage will take at its peak, about: 'training' or 'generating'.

    Measured at the default widths: training takes 2.2 GB, for 20 s of song as for 90, and is estimated
    at 2.8 and 2.9. Two hours of it took 3.6.

    Args:
        frames: of the song.
    """
    width, latent, steps = settings["frame-length"], bottleneck(settings), settings["layer-count"]
    widths = [width - step * settings["dim-decrease"] for step in range(steps + 1)]
    dense = 2 * sum(a * b for a, b in pairwise(widths))
    lstms = 2 + settings["lstm-layers"]
    weights = 4 * (dense + lstms * 8 * latent * latent)
    base = _BASE + _SONG[stage] * 4 * width * frames
    if stage == "training":
        rows = max(settings["batch-size"], settings["window-batch"] * settings["window-length"])
        activations = 4 * rows * (2 * sum(widths) + lstms * _GATES * latent)
        return base + _COPIES * weights + 2 * activations
    made = math.ceil(settings["generate-seconds"] * settings["sample-rate"] / hop(settings))
    made += 4 * settings["overlap"]
    methods = 2 if settings["method"] == "both" else 1
    ways = 3 if settings["phase-method"] == "all" else 1
    clips = methods * len(settings["sequence-lengths"]) * settings["takes"]
    path = 0 if settings["phase-method"] in ("network", "griffin-lim") else 4 * made * frames
    return base + 4 * weights + 8 * made * width * clips * (1 + 2 * ways) + path


def available() -> float:
    """Bytes that may be used: what the machine has free, or the container's limit leaves."""
    found = []
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        fields = dict(line.split(":", 1) for line in lines)
        found.append(1024 * int(fields["MemAvailable"].split()[0]))
    except (OSError, KeyError, ValueError):
        if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
            found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for folder, limit, used, total in _GROUPS:
        group = Path(folder)
        try:
            left = int((group / limit).read_text()) - int((group / used).read_text())
        except (OSError, ValueError):  # no such group, or 'max'
            continue
        with contextlib.suppress(OSError, ValueError, KeyError):
            fields = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            # files that were read or written count as used, but give way
            left += sum(int(fields[f"{total}{kind}_file"]) for kind in ("inactive", "active"))
        found.append(left)
    return min(found, default=math.inf)


def check(settings: dict, stage: str, frames: int) -> None:
    """Refuse settings that need more memory than there is, for the stage or for what comes after it.

    Arguments as of `needed`.

    Raises:
        UserError: they do.
    """
    advice = {
        "training": "lower frame-length, window-batch or batch-size, raise dim-decrease",
        "generating": "lower generate-seconds, takes or the number of sequence-lengths",
    }
    there, stages = available(), list(advice)
    for each in stages[stages.index(stage) :]:
        need = needed(settings, each, frames)
        if need > there:
            raise UserError(
                f"{each} with these settings takes about {need / 1e9:.1f} GB of memory; "
                f"{there / 1e9:.1f} GB are free: {advice[each]}, learn from fewer seconds, or "
                "close other programs"
            )
