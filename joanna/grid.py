"""The words of a sweep, and the grid of runs that they ask for."""

import hashlib
import json
import math
import os
import random
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PurePath

import numpy as np
import yaml

from joanna.audio import PLAIN_NAME, title
from joanna.errors import UserError
from joanna.run import PROJECT, Run
from joanna.settings import SETTINGS, load
from joanna.source import skipped_files, source_files, source_path

_MAX_RUNS = 10_000
_BOOLEAN = "True|False", "True or False"
# word -> default, pattern of its values, what they are
_WORDS: dict[str, tuple] = {
    "each": (False, *_BOOLEAN),
    "random": (0, r"[1-9]\d{0,3}", "a whole number from 1 to 9999"),
    "address": ("", r"auto|[^:/]+:\d+|", "auto or HOST:PORT, or nothing for this machine alone"),
    "cores": (1, r"[1-9]\d{0,3}", "a whole number from 1 to 9999"),
    "gpus": (0, r"0|[1-9]\d{0,2}|0\.\d{1,4}", "a whole number, or a fraction such as 0.5"),
    "weights": (False, *_BOOLEAN),
}


@dataclass
class Sweep:
    """The runs of a sweep."""

    name: str
    options: dict  # the words of _WORDS
    output: Path
    points: dict[Run, dict[str, str]] = field(default_factory=dict)  # run -> its values of the grid


def read(words: list[str], root: Path = PROJECT) -> Sweep:
    """The sweep that command-line words ask for; every value is checked.

    Raises:
        UserError: an unknown key, a wrong value, an impossible combination, too many runs.
    """
    options = {word: default for word, (default, *_) in _WORDS.items()}
    if not any(word.startswith("address=") for word in words):
        options["address"] = _option("address", os.environ.get("RAY_ADDRESS", ""), "RAY_ADDRESS")
    grid, plain = {}, []
    for word in words:
        key, equals, text = word.partition("=")
        if equals and key in _WORDS:
            options[key] = _option(key, text)
        elif values := _values(key, text):
            grid[key] = values
        else:
            plain.append(word)
    for word in ("cores", "gpus"):
        if options[word] != _WORDS[word][0] and not options["address"]:
            raise UserError(
                f"{word} is {options[word]}, but without address the runs follow one another here; "
                "leave it out, or start Ray and add address=auto (docs/scale.md)"
            )
    base = load([*plain, *_pairs({key: values[0] for key, values in grid.items()})])
    if not re.fullmatch(PLAIN_NAME, base["name"]):
        raise UserError(f"name is '{base['name']}', of a run of a sweep; give this sweep a name= of its own")
    if options["each"]:
        grid["source"] = _recordings(root, base, grid)
    points = _points(grid, options["random"], base["random-seed"])
    for key, value in ((key, value) for key, values in grid.items() for value in values):
        load([*plain, *_pairs({**points[0], key: value})])  # those that are not drawn, too
    sweep = Sweep(base["name"], options, root / "output" / "sweeps" / base["name"])
    names, seen = Counter(_run_name(point).lower() for point in points), set()
    for point in points:
        settings, name = load([*plain, *_pairs(point), f"name={sweep.name}"]), _run_name(point)
        content, seed = json.dumps(settings), PurePath(settings["seed-source"])
        if not settings["load-weights"]:
            raise UserError("load-weights is False, but a sweep resumes; give it another name= to train anew")
        if options["address"] and (seed.is_absolute() or ".." in seed.parts or str(seed).startswith("~")):
            raise UserError(f"seed-source is {seed}; on a cluster, expected a path below JOANNA's folder")
        if names[name.lower()] > 1:
            name += "-" + hashlib.sha256(json.dumps(point).encode()).hexdigest()[:6]
        if content not in seen:
            seen.add(content)
            sweep.points[Run({**settings, "name": f"sweeps/{sweep.name}/{name}"}, root)] = point
    return sweep


def _option(word, text, name=""):
    _, pattern, expected = _WORDS[word]
    if not re.fullmatch(pattern, text):
        raise UserError(f"{name or word} is '{text}'; expected {expected}")
    return text if word == "address" else yaml.safe_load(text)


def _values(key, text):
    """The values in a list of them, as they are given on the command line; none if it is a single value."""
    if key not in SETTINGS or key == "name" or not re.fullmatch(r"\[.+\]", text):
        return []
    if SETTINGS[key].curve and ":" in re.sub(r"\"[^\"]*\"|'[^']*'", "", text):
        raise UserError(
            f"{key} is {text}; in a list, put quotes around a curve: '{key}=[\"0:0,20:0.4\",0.2]'"
        )
    try:
        values = yaml.load(text, yaml.BaseLoader)  # makes texts only
    except (yaml.YAMLError, RecursionError):
        return []
    if SETTINGS[key].type is not list:
        return values if all(isinstance(value, str) for value in values) else []
    lists = all(isinstance(value, list) for value in values)
    return [f"[{','.join(map(str, value))}]" for value in values] if lists else []


def _pairs(point):
    return [f"{key}={value}" for key, value in point.items()]


def _recordings(root, base, grid):
    """The recordings of the folder `source`."""
    folder = source_path(root, base)
    if "source" in grid or folder.is_file():
        what = "a list" if "source" in grid else f"not a folder: {base['source']}"
        raise UserError(f"each is True, but source is {what}; leave out each")
    for note in skipped_files(root, base):
        print(note, flush=True)
    return [os.path.join(base["source"], path.relative_to(folder)) for path in source_files(root, base)]


def _points(grid, count, seed):
    """The points of the grid, or `count` of them."""
    shape = [len(values) for values in grid.values()]
    size = math.prod(shape)
    if size > (2**62 if count else _MAX_RUNS):
        raise UserError(f"the grid has {size:,} runs; sample it with random=20, or give shorter lists")
    chosen = sorted(random.Random(seed).sample(range(size), min(count, size))) if count else range(size)
    places = (np.unravel_index(index, shape) for index in chosen)
    return [
        {key: values[i] for (key, values), i in zip(grid.items(), place, strict=True)} for place in places
    ]


def _run_name(point):
    """Name of a run's folder."""
    words = (title(value) if key == "source" else f"{key}-{value}" for key, value in point.items())
    return re.sub(r"[^\w.]+", "-", "-".join(words)).strip("-.")[:90] or "run"
