"""Shared by the benchmarks: arguments, runs in a temporary folder, timing in turns, tables."""

import argparse
import contextlib
import io
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(1, str(Path(__file__).resolve().parent.parent / "tests"))

import preprocess
from joanna.run import PROJECT, Run
from joanna.settings import load
from joanna.source import source_path

_WORDS = ["load-weights=False", "minutes=0", "preview-minutes=0", "tensorboard=False"]


def parser(about: str) -> argparse.ArgumentParser:
    """A parser of --json FILE, --repeats N and words for the settings."""
    result = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument("--json", type=Path, help="write the figures to this file, too")
    result.add_argument("--repeats", type=int, default=5, help="runs of each; their median counts")
    result.add_argument(
        "settings", nargs="*", default=["seed"], help="preset, key=value (default: seed)"
    )
    return result


def preprocessed(words: Sequence[str], folder: Path) -> Run:
    """A run in `folder` with the preprocessed song of the settings; no previews, no time limit."""
    source = source_path(PROJECT, load([*words])).resolve()
    run = Run(load([*words, f"source={source}", *_WORDS]), folder)
    with contextlib.redirect_stdout(io.StringIO()):
        preprocess.main(run)
    return run


def run_stages(run: Run, fit: Callable, *stages: ModuleType) -> None:
    """Run stages without output, with another function in place of `training.fit`."""
    with mock.patch("joanna.training.fit", fit), contextlib.redirect_stdout(io.StringIO()):
        for stage in stages:
            stage.main(run)


def seconds(function: Callable, *arguments: object) -> float:
    """Seconds that a call takes."""
    started = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - started


def medians(measures: dict[str, Callable[[], float]], repeats: int) -> dict[str, float]:
    """Median result of each function, called in turns after one call to warm up."""
    turns = [{name: measure() for name, measure in measures.items()} for _ in range(repeats + 1)]
    return {name: statistics.median(turn[name] for turn in turns[1:]) for name in measures}


def report(rows: Sequence[Sequence], path: Path | None, figures: object) -> None:
    """Print rows as a table and write the figures as JSON."""
    widths = [max(len(str(cell)) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(str(cell).rjust(width) for cell, width in zip(row, widths, strict=True)))
    if path:
        path.write_text(json.dumps(figures, indent=2) + "\n")
