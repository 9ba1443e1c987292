"""Runs as a tree of stages: what runs have in common is trained once. A node is a process of its own."""

if __name__ == "__main__":
    from joanna import startup

    startup.prepare()

import contextlib
import gc
import importlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from joanna import cli
from joanna.artifacts import STAGES
from joanna.errors import Stopped, UserError
from joanna.estimate import print_estimate
from joanna.run import PROJECT, RUN_AGAIN, Run
from joanna.settings import SETTINGS
from joanna.spectra import COMPONENTS

# settings whose row in SETTINGS has no stage, although the files of one depend on them
_STAGES = {"source": "preprocess", "lstm-file": "lstm", "lstm-epoch": "lstm", "lstm-iteration": "lstm"}
_STAGES |= dict.fromkeys(
    ("coded-file", "phase-encoder", "magnitude-encoder", "ae-epoch", "ae-iteration"), "autoencoder"
)
# lines of a stage that a sweep prints
_SHOWN = re.compile(
    r"resuming|no weights fit|note:|warning:|measuring this|training takes|"
    r".*(: epoch | cannot be locked |no time is left|slower than measured|the loss exploded)"
)


@dataclass
class Node:
    """Stages that the runs below it share; they run in the folders of one of them."""

    run: Run
    stages: tuple[str, ...]
    children: list["Node"]  # with the stages that follow; none: the run ends here

    @property
    def runs(self) -> list[Run]:
        """The runs that need its stages."""
        return [run for child in self.children for run in child.runs] or [self.run]


def plan(runs: list[Run]) -> list[Node]:
    """The tree of the stages after preprocess, cut where settings differ."""
    return [node for group in _groups(runs, STAGES[0]) for node in _plan(group, 1)]


def _plan(runs, first):
    nodes = []
    for group in _groups(runs, STAGES[first]):
        end = first + 1
        while end < len(STAGES) and len(_groups(group, STAGES[end])) == 1:
            end += 1
        nodes.append(Node(group[0], STAGES[first:end], _plan(group, end) if end < len(STAGES) else []))
    return nodes


def _groups(runs, stage):
    """Runs with equal settings of a stage."""
    keys = [key for key, row in SETTINGS.items() if (row.stage or _STAGES.get(key, STAGES[-1])) == stage]
    groups: dict[str, list[Run]] = {}
    for run in runs:
        values = [run.settings[key] for key in keys]
        if stage != STAGES[0] and run.settings["minutes"]:  # the trainings' shares of it depend on it
            values.append(run.settings["phase-method"])
        groups.setdefault(json.dumps(values), []).append(run)
    return list(groups.values())


def stage_files(run: Run, stages: tuple[str, ...]) -> list[Path]:
    """The files that finished stages hand over to later ones."""
    found = [run.frames_file] if "preprocess" in stages else []
    found += [run.latents_file] if "autoencoder" in stages else []
    trained = [stage for stage in ("autoencoder", "lstm") if stage in stages]
    return found + [run.weights_file(component, stage) for stage in trained for component in COMPONENTS]


def share(source: Run, target: Run, stages: tuple[str, ...]) -> None:
    """Link the files of finished stages into the folders of another run; nothing changes them in place."""
    for file, other in zip(stage_files(source, stages), stage_files(target, stages), strict=True):
        if file == other:
            continue
        other.parent.mkdir(parents=True, exist_ok=True)
        other.unlink(missing_ok=True)
        try:
            os.link(file, other)
        except OSError:  # a file system without hard links
            shutil.copy(file, other)


def make_frames(runs: list[Run]) -> Iterator[tuple[Run, str]]:
    """Run preprocess.py, which also checks the settings against the song; yield runs and why they fail.

    It takes seconds and no TensorFlow, so all runs are checked before the first training.
    """
    preprocess = importlib.import_module("preprocess")
    for group in _groups(runs, "preprocess"):
        made = None
        for run in group:
            output = io.StringIO()
            try:
                with run.locked(), contextlib.redirect_stdout(output):
                    if made:
                        share(made, run, STAGES[:1])
                    preprocess.main(run)
                    if not run.settings_file.exists():
                        run.save_settings()
            except Exception as error:
                if not (reason := cli.explanation(error)):
                    raise
                yield run, reason
                continue
            if not made:
                print(output.getvalue(), end="", flush=True)
            made = made or run


def run_in_turn(nodes: list[Node], finished: set[Run]) -> Iterator[tuple[Run, str]]:
    """Run a tree one node after the other; yield each run that is not `finished`, and why it fails."""
    for node in nodes:
        left = [run for run in node.runs if run not in finished]
        if not left:
            continue
        print(f"\n== {node.run.output.name}: {', '.join(node.stages)}", flush=True)
        try:
            run_stages(node.run, node.stages)
        except (UserError, ChildProcessError) as error:
            yield from ((run, str(error)) for run in left)
            continue
        done = STAGES[: STAGES.index(node.stages[-1]) + 1]
        for child in node.children:
            share(node.run, child.run, done)
        if node.children:
            yield from run_in_turn(node.children, finished)
        else:
            yield node.run, ""


def run_stages(run: Run, stages: tuple[str, ...], threads: int = 0) -> None:
    """Run stages in a process of their own: a crash ends one run only, and its memory is freed.

    Its progress is printed. A signal ends it after its epoch, which is saved; it dies with this process.

    Args:
        run: the run.
        stages: names of the stages; those that are up to date are skipped.
        threads: of TensorFlow; 0: one per core.

    Raises:
        UserError: a stage failed.
        ChildProcessError: the process was killed.
    """
    job = {"root": str(run.root), "settings": run.settings, "stages": stages}
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8:backslashreplace"}
    if threads:
        environment |= dict.fromkeys(("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS"), str(threads))
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "joanna.tree", json.dumps(job)],
            cwd=PROJECT,
            env=environment,
            stdin=subprocess.PIPE,  # nothing is written to it; it closes when this process dies
            stdout=subprocess.PIPE,
            stderr=errors,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # Ctrl-C reaches it through this process, once
        )
        try:
            code = _follow(process, run)
        finally:
            process.kill()
        errors.seek(0)
        text = errors.read()
    if code < 0:
        raise ChildProcessError(f"killed by signal {-code}; it may have taken too much memory")
    if code:
        if "Traceback" in text:
            print(text, file=sys.stderr)
        lines = re.findall(r"^\S.*", text, re.MULTILINE) or ["it printed no reason"]
        raise UserError(lines[-1])


def _follow(process, run):
    """Print the progress of a process, pass signals on to it and return its exit code."""
    stopped, command = None, f"Run ./run.sh output/{run.settings['name']}/settings.yaml"
    while True:
        try:
            for line in process.stdout:
                if _SHOWN.match(line):
                    # the sweep's own command would find the run finished
                    line = line.replace(RUN_AGAIN, f"{command} to train it further")
                    print(f"{run.output.name}: {line}", end="", flush=True)
            code = process.wait()
        except Stopped as signal_caught:
            stopped = signal_caught
            process.send_signal(stopped.args[0])
            continue
        if stopped:
            raise stopped
        return code


def _run_job():
    """Run the stages of the job that `run_stages` passes."""
    job = json.loads(sys.argv[1])
    threading.Thread(target=_end_with_parent, daemon=True).start()
    run = Run(job["settings"], Path(job["root"]))
    if {"autoencoder", "lstm"} <= set(job["stages"]):  # they share the `minutes` of the run
        os.environ["JOANNA_BEGAN"] = str(time.monotonic())
    with run.locked():
        if "autoencoder" in job["stages"]:
            print_estimate(run)
        for stage in job["stages"]:
            importlib.import_module(stage).main(run)
            gc.collect()  # frees the networks


def _end_with_parent():
    os.read(0, 1)  # returns when the parent dies
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    cli.handle_signals(cli.raise_stopped)
    try:
        _run_job()
    except Exception as error:
        if not (message := cli.explanation(error)):
            raise
        sys.exit(message)
