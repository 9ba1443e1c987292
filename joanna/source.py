"""The source: its recordings, the audio used of each, and the sections it is cut into."""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from joanna.audio import SILENCE, load_audio
from joanna.errors import UserError
from joanna.settings import hop

# suffixes of the recordings in a folder
_SUFFIXES = set(".wav .flac .ogg .oga .opus .mp3 .aif .aiff .aifc .au .caf .w64".split())


class Sections(NamedTuple):
    """Audio cut into sections of equal length."""

    audio: np.ndarray  # the sections in a row (section_count * blocks * hop,)
    section_count: int
    blocks: int  # per section, each a hop long
    notes: list[str]  # sentences on settings that could not be met


def source_path(root: Path, settings: dict, key: str = "source") -> Path:
    """Path in a setting; a relative one starts at `root`, ``~`` is the home folder."""
    try:
        return root / Path(settings[key]).expanduser()
    except RuntimeError:  # ~user of an unknown user
        raise UserError(f"{key} is {settings[key]}: no such home folder") from None


def source_files(root: Path, settings: dict) -> list[Path]:
    """The source, or the recordings of a folder sorted by name; UserError if there are none."""
    path = source_path(root, settings)
    if path.is_file():
        return [path]
    files = path.glob("[!.]*") if path.is_dir() else []  # macOS writes a ._ file per file
    recordings = sorted(file for file in files if file.suffix.lower() in _SUFFIXES)
    if not recordings:
        reason = "no recordings in it" if path.is_dir() else "no such file"
        raise UserError(f"source {path}: {reason}; put a recording there or set 'source'")
    return recordings


def load_source(root: Path, settings: dict) -> tuple[np.ndarray, list[str]]:
    """Load the source from `start` on, or equal shares of the recordings of a folder.

    Returns:
        Audio ``(S,)`` float32 at sample-rate, at most `seconds` long and, of a folder, at most as long
        as the sections; and sentences on the conversions made.

    Raises:
        UserError: see `load_audio`; or all recordings end before `start`.
    """
    rate, files = settings["sample-rate"], source_files(root, settings)
    start, limit = (round(settings[key] * rate) for key in ("start", "seconds"))
    parts, notes, too_short = [], [], []
    for path in files:
        samples, changes = load_audio(path, rate)
        if start >= len(samples):
            too_short.append(f"{path.name} lasts {len(samples) / rate:.1f} s")
            continue
        label = "source" if len(files) == 1 else path.name
        notes += [f"{label}: {change}" for change in changes]
        parts.append(samples[start:])
    if not parts:
        raise UserError(f"start is {settings['start']:g}; {', '.join(too_short[:3])}: lower it")
    notes += [f"{duration}, ends before start {settings['start']:g}: skipped" for duration in too_short]
    total = min(sum(map(len, parts)), limit or math.inf)
    if len(parts) > 1:
        if settings["section-count"] != "auto":
            total = min(total, settings["section-count"] * settings["block-count"] * hop(settings))
        shares = _equal_shares([len(part) for part in parts], total)
        parts = [part[:share] for part, share in zip(parts, shares, strict=True)]
        notes.append(f"{len(parts)} recordings, at most {max(shares) / rate:.1f} s of each")
    return np.concatenate(parts)[:total], notes


def _equal_shares(lengths, total):
    """Samples to use of each recording, `total` in sum: equal, unless a recording is shorter."""
    shares = [0] * len(lengths)
    for shared, index in enumerate(np.argsort(lengths, kind="stable")):
        shares[index] = min(lengths[index], -(-total // (len(lengths) - shared)))
        total -= shares[index]
    return shares


def choose_sections(sample_count: int, settings: dict) -> tuple[int, int]:
    """Sections that `sample_count` samples make, and blocks per section, at most block-count.

    With section-count auto, as many as use the most audio.
    """
    available = sample_count // hop(settings)
    section_count, block_count = settings["section-count"], settings["block-count"]
    if section_count != "auto":
        return section_count, min(block_count, available // section_count)
    counts = max(1, available // block_count), available // block_count + 1
    candidates = [(count, min(block_count, available // count)) for count in counts]
    # the layout that uses more of the audio, unless its sections have fewer than two frames
    return max(candidates, key=lambda layout: (layout[1] > settings["overlap"], math.prod(layout)))


def cut_sections(samples: np.ndarray, settings: dict) -> Sections:
    """Cut the audio ``(S,)`` of `load_source`; UserError if it is silent or too short for two frames."""
    rate, overlap = settings["sample-rate"], settings["overlap"]
    section_count, blocks = choose_sections(len(samples), settings)
    limits = [f"{key} {settings[key]:g}" for key in ("start", "seconds") if settings[key]]
    name = f"source {settings['source']}" + (f" with {' and '.join(limits)}" if limits else "")
    notes = []
    if blocks < settings["block-count"]:
        if settings["section-count"] != "auto":
            notes.append(
                f"{len(samples) / rate:.1f} s make {section_count} sections of {blocks} blocks "
                f"(block-count is {settings['block-count']})"
            )
        if blocks < overlap + 1:
            remedies = {"choose a longer one": True, "lower section-count": section_count > 1}
            remedies |= {"lower start": settings["start"], "raise seconds": settings["seconds"]}
            raise UserError(
                f"{name} lasts {len(samples) / rate:.2f} s; two frames in each section need "
                f"{section_count * (overlap + 1) * hop(settings) / rate:.2f} s: "
                f"{', or '.join(filter(remedies.get, remedies))}"
            )
    used = samples[: section_count * blocks * hop(settings)]
    if not np.abs(used).max() > SILENCE:
        raise UserError(
            f"{name}: the {len(used) / rate:.1f} s used are silent; "
            "choose another recording, raise section-count, or change start"
        )
    return Sections(used, section_count, blocks, notes)
