"""Runs as tasks on a Ray cluster. The only module that imports Ray, and only for a cluster."""

import importlib.util
import logging
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from joanna import files, tree
from joanna.artifacts import STAGES
from joanna.errors import UserError
from joanna.run import PROJECT, Run
from joanna.source import source_path

_RETRIES = 10  # of a task whose worker, process or machine died
_NO_CODE = ["/*", "!/.", "!/*.py", "!/joanna"]  # what workers do not get, as in .gitignore


def connect(address: str) -> None:
    """Join the cluster at `address`, whose workers get the code; UserError if there is none."""
    if not importlib.util.find_spec("ray"):
        raise UserError(
            f"address (or RAY_ADDRESS) is {address}, but the package ray is not installed; run: "
            ".venv/bin/python -m pip install -r requirements-ray.txt"
        )
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")  # progress of different runs looks alike
    os.environ.setdefault("RAY_OVERRIDE_RUNTIME_ENV_DEFAULT_EXCLUDES", "")  # in _NO_CODE as well
    import ray

    code = {"working_dir": str(PROJECT), "excludes": _NO_CODE}
    try:
        if address != "auto":  # Ray would try for many minutes
            host, port = address.split(":")
            socket.create_connection((host, int(port)), timeout=10).close()
        ray.init(address, runtime_env=code, logging_level=logging.WARNING)
    except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        raise UserError(
            f"address (or RAY_ADDRESS) is {address}, but that cluster cannot be joined "
            f"({_first_line(error)}); docs/scale.md says how to start one"
        ) from None


def run_on_cluster(nodes: list[tree.Node], finished: set[Run], options: dict) -> Iterator[tuple[Run, str]]:
    """Run a tree on the cluster; yield each run that is not `finished`, and why it fails.

    A node is a task, which gets its files from the task above it. Ray places the tasks, transfers the
    files and repeats what died.
    """
    import ray

    waiting, failed = _submit(nodes, finished, options), False
    while waiting:
        (reference, *_), _ = ray.wait(list(waiting))
        run, reason = waiting.pop(reference), ""
        try:
            for name, content in ray.get(reference).items():
                files.write_bytes(run.root / name, content)
        except ray.exceptions.RayError as error:
            failed, reason = True, _first_line(getattr(error, "cause", error))
        yield run, reason
    if nodes and not failed:
        clean, strategy = ray.remote(_clean), ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        places = [strategy(node["NodeID"], soft=True) for node in ray.nodes() if node["Alive"]]
        name = nodes[0].run.settings["name"]
        cleaned = [clean.options(num_cpus=0, scheduling_strategy=place).remote(name) for place in places]
        ray.wait(cleaned, num_returns=len(cleaned), timeout=60)


def _submit(nodes, finished, options):
    """Submit the tasks of a tree; the results of the last nodes, each with its run."""
    import ray

    task = ray.remote(_run_node).options(
        max_retries=_RETRIES,
        retry_exceptions=[ChildProcessError],
        num_cpus=options["cores"],
        num_gpus=options["gpus"],
    )
    waiting, stored = {}, {}

    def store(path):
        """A file in the object store; equal ones once."""
        digest = files.content_digest(path)
        if digest not in stored:
            stored[digest] = ray.put([np.fromfile(path, np.uint8)])
        return stored[digest]

    def submit(node, inputs):
        run = node.run
        if finished.issuperset(node.runs):
            return
        has_seed = run.settings["seed-source"]
        seed = store(source_path(run.root, run.settings, "seed-source")) if has_seed else []
        reference = task.remote(run.settings, node.stages, not node.children, options, inputs, seed)
        for child in node.children:
            submit(child, reference)
        if not node.children:
            waiting[reference] = run

    for node in nodes:
        submit(node, store(node.run.frames_file))
    return waiting


def _first_line(error):
    return (str(error) or type(error).__name__).splitlines()[0]


def _folder(stage):
    """Folder of a worker in which nodes that begin with a stage run; it stays for a retry."""
    return Path(tempfile.gettempdir()) / "joanna" / stage


def _run_node(settings, stages, is_last, options, inputs, seed):
    """The task: the content of the files for the next nodes; of the last node by path, for the driver."""
    run = Run(settings, _folder(stages[0]))
    for path, content in zip(tree.stage_files(run, STAGES[: STAGES.index(stages[0])]), inputs, strict=True):
        files.write_bytes(path, content)
    for content in seed:
        files.write_bytes(source_path(run.root, settings, "seed-source"), content)
    run.save_settings()  # its frames stand for the source, which the driver has
    print(f"{run.output.name}: {', '.join(stages)} on {socket.gethostname()}", flush=True)
    tree.run_stages(run, stages, options["cores"])
    if not is_last:
        done = STAGES[: STAGES.index(stages[-1]) + 1]
        return [np.fromfile(path, np.uint8) for path in tree.stage_files(run, done)]
    written = [run.output / name for name in files.manifest_files(run.manifest_file)]
    if options["weights"]:
        written += tree.stage_files(run, STAGES[1:3])
    else:
        written = [path for path in written if path.suffix != ".h5"]
    written += [run.manifest_file, run.settings_file]
    results = {str(path.relative_to(run.root)): np.fromfile(path, np.uint8) for path in written}
    for folder in (run.output, run.weights):
        shutil.rmtree(folder)
    return results


def _clean(name):
    """Delete the folders of the sweep that a run belongs to."""
    for stage in STAGES[1:]:
        for folder in ("output", "weights"):
            shutil.rmtree((_folder(stage) / folder / name).parent, ignore_errors=True)
