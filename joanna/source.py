"""The source: its recordings, the audio used of each, and the sections it is cut into."""

import contextlib
import functools
import math
import re
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np

from joanna.audio import FFMPEG_SUFFIXES, SILENCE, SUFFIXES, Loaded, load_audio, load_recording
from joanna.errors import UserError
from joanna.excerpts import Excerpts, closest, crossfade
from joanna.recording import Recording
from joanna.settings import hop


class Source(NamedTuple):
    """The audio of a source, or as much of it as the settings ask for."""

    samples: np.ndarray  # (S,), or with stereo (S, 2), float32 at sample-rate
    notes: list[str]  # sentences on what was changed, left out or missing
    seconds: float  # length of the recordings from `start` on, without the silence left out


class Sections(NamedTuple):
    """Audio cut into sections of equal length."""

    audio: np.ndarray  # the sections in a row (section_count * blocks * hop,), with stereo (..., 2)
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
    """The source, or the recordings of a folder and its sub-folders by name; UserError if there are none."""
    path = source_path(root, settings)
    if path.is_file():
        return [path]
    others = _files_of(path, FFMPEG_SUFFIXES)
    recordings = sorted([*_files_of(path, SUFFIXES), *(others if shutil.which("ffmpeg") else [])])
    if not recordings:
        reason = "no recordings in it" if path.is_dir() else "no such file"
        reason += f" that can be read ({_without_ffmpeg(others)})" if others else ""
        raise UserError(f"source {path}: {reason}; put a recording there or set 'source'")
    return recordings


def _files_of(folder, suffixes):
    """Files of a folder and its sub-folders, hidden ones left out: macOS writes a ._ file per file."""
    found = (path for path in folder.rglob("[!.]*") if path.suffix.lower() in suffixes)
    hidden = re.compile(r"(^|/)\.")
    return sorted(
        path for path in found if path.is_file() and not hidden.search(path.relative_to(folder).as_posix())
    )


def skipped_files(root: Path, settings: dict) -> list[str]:
    """A sentence on the files of a folder that only ffmpeg reads, if it is not there."""
    if shutil.which("ffmpeg") or not (others := _files_of(source_path(root, settings), FFMPEG_SUFFIXES)):
        return []
    return [f"skipped {_without_ffmpeg(others)}"]


def _without_ffmpeg(files):
    names = ", ".join(file.name for file in files[:3]) + (", ..." if len(files) > 3 else "")
    return f"{names}: install ffmpeg, which reads {'it' if len(files) == 1 else 'them'}, or convert to wav"


def load_source(root: Path, settings: dict) -> Source:
    """Load the source from `start` on, or equal shares of the recordings of a folder.

    The result is at most `seconds` long, and at most as long as the sections. No more is read, unless
    section-count is auto: the sections of a longer recording are chosen from all of it.

    Raises:
        UserError: see `load_audio`, of a folder if none of its recordings can be used; or all end before
            `start`.
    """
    rate, start, files = settings["sample-rate"], settings["start"], source_files(root, settings)
    total = round(settings["seconds"] * rate) or math.inf
    if settings["section-count"] != "auto":
        total = min(total, settings["section-count"] * settings["block-count"] * hop(settings))
    elif total < math.inf:  # as much as its sections take
        count, blocks = choose_sections(int(total), settings)
        total = count * blocks * hop(settings) or total
    parts, notes, too_short, found = [], [], [], 0.0
    loaded_files, refused = _load_shares(files, total, settings)
    for path, loaded in loaded_files.items():
        if not len(loaded.audio):
            too_short.append(f"{path.name} lasts {loaded.seconds:.1f} s")
            continue
        label = "source" if len(files) == 1 else path.name
        notes += [f"{label}: {note}" for note in loaded.notes]
        parts.append(loaded.audio)
        found += loaded.seconds - loaded.silence - start
    if not parts:
        raise UserError(f"start is {start:g}; {', '.join(too_short[:3])}: lower it")
    notes += [f"{duration}, ends before start {start:g}: skipped" for duration in too_short]
    notes += [f"skipped {reason}" for reason in refused]
    if len(parts) > 1:
        longest = max(map(len, parts)) / rate
        notes.append(f"{len(parts)} recordings, at most {longest:.1f} s of each")
    notes += skipped_files(root, settings)
    samples = crossfade(parts, _fade(settings))
    return Source(samples[: int(min(total, len(samples)))], notes, found)


def max_frames(settings: dict) -> float:
    """Most frames of an epoch, however long the source is; infinite for section-count auto."""
    count = settings["section-count"]
    return math.inf if count == "auto" else count * settings["block-count"]


def stated_frames(root: Path, settings: dict) -> float:
    """Frames of an epoch by the lengths that the recordings state; infinite if one that counts states none.

    UserError if there are no recordings; those that cannot be read do not count.
    """
    seconds = 0.0
    for path in source_files(root, settings):
        with contextlib.suppress(UserError), Recording(path, f"source {path}") as recording:
            seconds += max(0.0, recording.seconds - settings["start"])
    most = min(seconds, settings["seconds"] or math.inf) * settings["sample-rate"]
    return min(most / hop(settings), max_frames(settings))


def _load_shares(files, total, settings):
    """Load an equal share of `total` samples of each recording, or all of a shorter one, by name.

    They are longer by the samples that fade into the next. Also returns why recordings of a folder cannot
    be used, whose shares the others get; UserError if none can.
    """
    refused: list[str] = []
    while True:
        loaded, unusable = _try_shares(files, total, settings)
        refused += unusable.values()
        if not unusable or (loaded and math.isinf(total)):
            return dict(sorted(loaded.items())), sorted(refused)
        files = [file for file in files if file not in unusable] or files[-1:]  # whose error is raised


def _try_shares(files, total, settings):
    """Recordings of `_load_shares`, and why others cannot be used.

    Where there are shares, it ends at the first of those, as its share goes to the others.
    """
    fade, lengths = _fade(settings) * (len(files) > 1), [0] * len(files)
    if len(files) > 1 and not math.isinf(total):
        lengths = [_length(file, settings["start"], settings["sample-rate"], total) for file in files]
    loaded: dict[Path, Loaded] = {}
    unusable: dict[Path, str] = {}
    for index in np.argsort(lengths, kind="stable"):
        file, left = files[index], len(files) - len(loaded)
        share = total if math.isinf(total) else math.ceil(total / left)
        try:
            loaded[file] = _load(file, share + fade, settings)
        except UserError as error:
            if len(files) == 1:
                raise
            unusable[file] = str(error)
            if math.isinf(total):
                continue
            break
        total -= max(0, len(loaded[file].audio) - fade)
    return loaded, unusable


def _fade(settings):
    """Samples in which a recording fades into the next: 10 ms."""
    return settings["sample-rate"] // 100


def _load(path, limit, settings):
    """Load a recording, at most `limit` samples of it."""
    rate, start = settings["sample-rate"], settings["start"]
    loaded = load_audio(path, rate, start=start, limit=limit, stereo=settings["stereo"])
    seconds = loaded.seconds - loaded.silence - start
    if settings["section-count"] == "auto" and len(loaded.audio) == limit and seconds > limit / rate:
        return _load_closest(path, limit, settings) or loaded
    return loaded


def _load_closest(path, limit, settings):
    """Load the sections, in all at most `limit` samples, that together are closest to all of a recording.

    None if its sound is not longer than they are, or if they are shorter than a block.
    """
    rate, start, name = settings["sample-rate"], settings["start"], f"source {path}"
    count, blocks = choose_sections(limit, settings)
    if not blocks:
        return None
    with Recording(path, name) as recording:
        size, first = math.ceil(limit / count * recording.rate / rate), round(start * recording.rate)
        recording.skip(first)
        places, sound = closest(recording, count, size, min(rate, recording.rate) / 2)
        notes = recording.notes
    if not len(places):
        return None
    starts = first + places
    with Excerpts(path, name, starts, size) as excerpts:
        loaded = load_recording(excerpts, name, rate, limit=limit, stereo=settings["stereo"])
    times = [f"{second // 60}:{second % 60:02}" for second in (starts / recording.rate).astype(int)[:12]]
    times += ["..."] * (count > len(times))
    notes = [*dict.fromkeys([*notes, *loaded.notes]), f"section{'s' * (count > 1)} from {', '.join(times)}"]
    silence = recording.seconds - start - sound / recording.rate
    return Loaded(loaded.audio, notes, recording.seconds, silence)


def _length(path, start, rate, limit):
    """Samples at `rate` of a recording from `start` on; at most `limit` if its file does not state them.

    0 if it cannot be read.
    """
    try:
        with Recording(path, f"source {path}") as recording:
            seconds = recording.seconds
        if math.isinf(seconds):
            return len(load_audio(path, rate, start=start, limit=limit).audio)
    except UserError:  # `_load_shares` reports it
        return 0
    return math.ceil(max(0.0, seconds - start) * rate)


def seed_path(root: Path, settings: dict) -> Path:
    """Path of the seed-source; UserError if it is no file."""
    path = source_path(root, settings, "seed-source")
    if not path.is_file():
        what = "a folder; expected one recording" if path.is_dir() else "no such file"
        raise UserError(
            f"seed-source {path}: {what}; put a recording there, or leave seed-source empty to "
            "start from seed-section"
        )
    return path


def load_seed(root: Path, settings: dict) -> Loaded:
    """Load the seed-source.

    Raises:
        UserError: see `seed_path` and `load_audio`; or it is shorter than the longest of sequence-lengths.
    """
    path = seed_path(root, settings)
    loaded = load_audio(path, settings["sample-rate"], "seed-source", stereo=settings["stereo"])
    _check_seed_length(path, len(loaded.audio), settings)
    return loaded


def check_seed(root: Path, settings: dict) -> None:
    """Raise the errors of `load_seed`; the runs of a sweep read an unchanged recording once."""
    path = seed_path(root, settings)
    version = path, path.stat().st_mtime_ns, path.stat().st_size
    _check_seed_length(path, _seed_length(version, settings["sample-rate"], settings["stereo"]), settings)


@functools.cache
def _seed_length(version, rate, stereo):
    return len(load_audio(version[0], rate, "seed-source", stereo=stereo).audio)


def _check_seed_length(path, length, settings):
    rate, longest = settings["sample-rate"], max(settings["sequence-lengths"])
    need = (longest - 1) * hop(settings) + settings["frame-length"]
    if length < need:
        raise UserError(
            f"seed-source {path} lasts {length / rate:.2f} s; sequence-lengths has {longest}, "
            f"which takes {need / rate:.2f} s: choose a longer recording or lower sequence-lengths"
        )


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
