"""Runs of a grid of settings, or of an album: one after the other, or on a Ray cluster.

A list of values, where a setting takes one, makes a grid; each of its points is a run. What runs have in
common is trained once. They write output/sweeps/NAME/: report.html plays and compares the best clips of all
runs, scores.csv has their scores, and RUN/ the clips, the report and the settings of each. Ctrl-C stops; the
same command resumes.

    ./run.sh sweep demo 'dropout=[0,0.2,0.4]' 'random-seed=[0,1,2]' source=./sources/mine.wav
    ./run.sh sweep demo 'sequence-lengths=[[12,24],[48]]' 'variation=[0.2,0.4,0.6]' random=4
    ./run.sh sweep demo 'source=[./sources/a.wav,./sources/b.wav]' minutes=10
    ./run.sh sweep demo source=./sources/album each=True name=album
    ./run.sh sweep demo 'random-seed=[0,1,2,3]' address=auto cores=2

words of the sweep:
  name       folder in output/sweeps [the source's file name]
  each       a run for each recording of the folder `source` [False]
  random     so many runs, drawn from the grid by random-seed [all]
  minutes    time limit of each run, not of the sweep [0]
  address    of a Ray cluster: auto or HOST:PORT; docs/scale.md [RAY_ADDRESS, or none: this machine alone]
  cores      of a run on the cluster [1]
  gpus       of a run on the cluster; 0.5: two runs share one [0]
  weights    bring the weights back from the cluster [False]
"""

if __name__ == "__main__":
    from joanna import startup

    startup.prepare()

import hashlib
import io
import json
import math
import os
import random
import re
import shlex
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePath

import numpy as np
import yaml

from joanna import cluster, files, sweep_report, tree
from joanna.artifacts import STAGES, provenance
from joanna.audio import PLAIN_NAME
from joanna.errors import Stopped, UserError
from joanna.progress import duration
from joanna.run import PROJECT, Run
from joanna.settings import SETTINGS, load
from joanna.source import source_files, source_path

_MAX_RUNS = 10_000
_RECORD = ".sweep.json"
_REPORT_SECONDS = 30  # it holds all clips
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
        if options["address"] and (seed.is_absolute() or {"..", "~"} & set(seed.parts)):
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
    words = (Path(value).stem if key == "source" else f"{key}-{value}" for key, value in point.items())
    return re.sub(r"[^\w.]+", "-", "-".join(words)).strip("-.")[:90] or "run"


def run_sweep(sweep: Sweep) -> None:
    """Run what is not finished yet; UserError if runs fail, after all others, or another process does it."""
    run = next(iter(sweep.points))
    with Run({**run.settings, "name": f"sweeps/{sweep.name}"}, run.root).locked():
        _run_locked(sweep)


def _run_locked(sweep):
    started, runs = time.monotonic(), list(sweep.points)
    failures = dict(tree.make_frames(runs))
    if len(failures) == len(runs):
        raise UserError(failures[runs[0]])
    if others := {path.parent for path in sweep.output.glob(f"*/{_RECORD}")} - {run.output for run in runs}:
        print(
            f"report.html and scores.csv of '{sweep.name}' are replaced and leave out {_number(len(others))} "
            "of an earlier sweep, whose folders stay; another name= keeps both"
        )
    runs = [run for run in runs if run not in failures]
    finished = {run for run in runs if files.verify_manifest(_record(run), _inputs(run))}
    nodes = tree.plan(sorted(runs, key=lambda run: run not in finished))  # so that finished stages are shared
    print(
        f"{_number(len(sweep.points))}, {len(finished)} finished; {_counts(nodes, finished)} left", flush=True
    )
    for run, reason in failures.items():
        _print_failure(run, reason)
    options, left, done = sweep.options, len(runs) - len(finished), 0
    on_cluster = cluster.run_on_cluster(nodes, finished, options) if options["address"] else None
    written = -math.inf
    try:
        for run, reason in on_cluster or tree.run_in_turn(nodes, finished):
            done += 1
            if reason:
                failures[run] = reason
                _print_failure(run, reason)
            else:
                names = (run.output / name for name in files.manifest_files(run.manifest_file))
                paths = [path for path in names if path.suffix != ".h5"]
                files.write_manifest(_record(run), _inputs(run), paths)
                finished.add(run)
            if time.monotonic() - written >= _REPORT_SECONDS:
                sweep_report.write(sweep.output, sweep.points, finished, failures)
                written = time.monotonic()
            time_left = duration((time.monotonic() - started) / done * (left - done))
            print(f"== {done} of {left}: {run.output.name}; about {time_left} left", flush=True)
    finally:
        sweep_report.write(sweep.output, sweep.points, finished, failures)
    print(f"wrote {sweep.output / 'report.html'}")
    if failures:
        raise UserError(
            f"{len(failures)} of {_number(len(sweep.points))} failed; the same command tries them again"
        )


def _record(run):
    """File that says what the clips of a finished run were made with."""
    return run.output / _RECORD


def _number(count):
    return f"{count} run{'s' * (count != 1)}"


def _inputs(run):
    inputs = {"settings": run.settings, "source": provenance(run, "preprocess")["source"]}
    if run.settings["seed-source"]:
        inputs["seed-source"] = files.content_digest(source_path(run.root, run.settings, "seed-source"))
    return inputs


def _counts(nodes, finished):
    """How often each stage has to run."""
    counts: Counter[str] = Counter()
    left = [node for node in nodes if not finished.issuperset(node.runs)]
    while left:
        node = left.pop()
        counts.update(node.stages)
        left += [child for child in node.children if not finished.issuperset(child.runs)]
    return ", ".join(f"{stage} {counts[stage]}" for stage in STAGES[1:])


def _print_failure(run, reason):
    print(f"run.sh: {run.output.name}: {reason}", file=sys.stderr, flush=True)


def main(words: list[str]) -> None:
    """Run the sweep of command-line words; exit code 2 if a run fails or the words are wrong."""
    if {"-h", "--help"} & set(words):
        print(__doc__ + "\nall settings: ./run.sh --help")
        return
    for stream in (sys.stdout, sys.stderr):  # the terminal may lack letters of a file's name
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        sweep = read(words)
        stop: Callable = tree.raise_stopped
        if sweep.options["address"]:
            cluster.connect(sweep.options["address"])
            stop = signal.default_int_handler  # Ray passes on no exception of a handler but KeyboardInterrupt
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop)
        run_sweep(sweep)
    except UserError as error:
        sys.exit(_failed(str(error), 2))
    except OSError as error:
        sys.exit(_failed(f"{error.filename or 'a file'}: {error.strerror or error}", 2))
    except (Stopped, KeyboardInterrupt) as stopped:
        command = shlex.join(["./run.sh", "sweep", *words])
        sys.exit(_failed(f"stopped; to resume: {command}", 128 + (*stopped.args, signal.SIGINT)[0]))


def _failed(message, code):
    print(f"run.sh: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    main(sys.argv[1:])
