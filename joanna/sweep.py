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

import math
import shlex
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable

from joanna import cli, cluster, files, grid, sweep_report, tree
from joanna.artifacts import STAGES, provenance
from joanna.errors import Stopped, UserError
from joanna.progress import duration
from joanna.run import Run
from joanna.source import source_path

_RECORD = ".sweep.json"
_REPORT_SECONDS = 30  # it holds all clips


def run_sweep(sweep: grid.Sweep) -> None:
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
    if not words or {"-h", "--help"} & set(words):
        print(__doc__ + "\nall settings: ./run.sh --help")
        return
    cli.escape_unprintable()
    try:
        sweep = grid.read(words)
        cli.print_overruled(max(run.settings["minutes"] for run in sweep.points), words)
        stop: Callable = cli.raise_stopped
        if sweep.options["address"]:
            cluster.connect(sweep.options["address"])
            stop = signal.default_int_handler  # Ray passes on no exception of a handler but KeyboardInterrupt
        cli.handle_signals(stop)
        run_sweep(sweep)
    except BrokenPipeError:
        sys.exit(_stopped(words, cli.silence_broken_pipe()))
    except Exception as error:
        if not (message := cli.explanation(error)):
            raise
        sys.exit(_failed(message, 2))
    except (Stopped, KeyboardInterrupt) as stopped:
        sys.exit(_stopped(words, (*stopped.args, signal.SIGINT)[0]))


def _stopped(words, number):
    return _failed(f"stopped; to resume: {shlex.join(['./run.sh', 'sweep', *words])}", 128 + number)


def _failed(message, code):
    print(f"run.sh: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    main(sys.argv[1:])
