"""A sweep on a real Ray cluster of two nodes on this machine, one core each, with folders of their own."""

import functools
import importlib
import importlib.util
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path

import helpers
import pytest
import yaml
from helpers import TINY, contents, copy_project, tone, write_wav

from joanna import cluster, grid
from joanna.artifacts import STAGES
from joanna.errors import UserError

WORDS = [*TINY, "source=./sources/song.wav", "seed-source=./sources/seed.wav", "name=s", "method=part"]
WORDS += ["sequence-lengths=[4]", "cores=1"]
GRID = ["random-seed=[0,1]", "learning-rate=[0.001,1]"]
RUNS, FAILING = ([f"random-seed-{seed}-learning-rate-{rate}" for seed in (0, 1)] for rate in ("0.001", "1"))


wait_for = functools.partial(helpers.wait_for, seconds=240)


class Cluster:
    """A cluster whose nodes write to folders of their own."""

    def __init__(self, folder):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self.folder, self.nodes = folder, []
        self.environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "PYTHONWARNINGS": "ignore"}
        # a dead node is noticed sooner
        self.environment |= {"RAY_health_check_period_ms": "500", "RAY_health_check_failure_threshold": "3"}
        self.environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}

    def raylets(self):
        """Process ids of the nodes."""
        commands = {path.parent: path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline")}
        mark = str(self.folder).encode()
        return {
            int(path.name) for path, text in commands.items() if b"raylet/raylet" in text and mark in text
        }

    def add_node(self):
        """Start a node; its folder."""
        folder = self.folder / f"node-{len(self.nodes)}"
        folder.mkdir()
        head = ["--head", f"--port={self.address[10:]}", "--include-dashboard=false"]
        head += [f"--temp-dir={self.folder}/ray"]
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"]
        command += ["--node-ip-address=127.0.0.1", "--num-cpus=1", "--num-gpus=0"]
        command += ["--object-store-memory=100000000"]
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(
                [*command, *(head if not self.nodes else [f"--address={self.address}"])],
                cwd=folder,
                env={**self.environment, "TMPDIR": str(folder)},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.nodes.append(process)
        return folder

    def stop(self):
        """Stop all nodes."""
        for process in self.nodes[::-1]:
            process.terminate()
        for process in self.nodes:
            process.wait(60)


@pytest.fixture(scope="module")
def nodes():
    """A cluster with one node."""
    if not importlib.util.find_spec("ray"):
        pytest.skip("needs ray: .venv/bin/python -m pip install -r requirements-ray.txt")
    if not Path("/proc/self/cmdline").exists():
        pytest.skip("needs /proc")
    if " " in sys.executable:
        pytest.skip("Ray starts no cluster from a folder with a space in its path")
    with tempfile.TemporaryDirectory(prefix="joanna") as folder:  # sockets have short paths
        started = Cluster(Path(folder))
        try:
            started.add_node()
            wait_for(lambda: "Ray runtime started" in (started.folder / "node-0" / "log").read_text())
            yield started
        finally:
            started.stop()


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = copy_project(tmp_path_factory.mktemp("cluster") / "project")
    write_wav(folder / "sources" / "song.wav", tone())
    write_wav(folder / "sources" / "seed.wav", tone(pitch=300))
    return folder


def start(nodes, project, *words):
    log = (project / "log").open("w")
    return subprocess.Popen(
        [sys.executable, "-m", "joanna.sweep", *WORDS, f"address={nodes.address}", *words],
        cwd=project,
        env=nodes.environment,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def training(node, name="s"):
    """The lock of a training of the sweep `name` that runs on a node and has saved weights."""
    for path in node.glob(f"joanna/autoencoder/weights/sweeps/{name}/*/phase-encoder.weights.h5"):
        lock = Path(str(path.parent).replace("/weights/", "/output/")) / ".lock"
        if lock.read_text().strip():
            return lock
    return None


def test_a_machine_that_joins_gets_work_and_what_is_killed_is_repeated_with_the_same_bytes(nodes, project):
    process = start(nodes, project, *GRID, "weights=True")
    head = nodes.folder / "node-0"
    os.kill(int(wait_for(lambda: training(head)).read_text()), signal.SIGKILL)
    before = nodes.raylets()
    second = nodes.add_node()
    wait_for(lambda: training(second))
    (raylet,) = nodes.raylets() - before
    os.kill(raylet, signal.SIGKILL)
    assert process.wait(400) == 2
    output = (project / "log").read_text()
    assert re.search(rf"({'|'.join(RUNS)}): resuming from .*node-0/joanna", output)
    assert "4 runs, 0 finished; autoencoder 4, lstm 4, generate 4 left" in output
    for name in FAILING:
        assert re.search(f"run.sh: {name}: phase autoencoder: the loss exploded", output)
    assert "2 of 4 runs failed" in output
    assert not (head / "joanna" / "generate" / "output" / "sweeps" / "s" / RUNS[0]).exists()


def test_results_and_weights_are_those_of_the_run_alone(nodes, project, tmp_path):
    folder = project / "output" / "sweeps" / "s"
    shutil.copytree(project / "sources", tmp_path / "sources")
    words = [*WORDS, *GRID, f"address={nodes.address}"]
    for name in RUNS:
        written = {path.name for path in (folder / name).glob("*.*")}
        assert written >= {"part-4.wav", "reconstruction.wav", "scores.yaml", "report.html", "settings.yaml"}
    run = next(run for run in grid.read(words, tmp_path).points if run.output.name == RUNS[1])
    for stage in STAGES:
        importlib.import_module(stage).main(run)
    for name in ("part-4.wav", "reconstruction.wav", "scores.yaml", "settings.yaml"):
        assert (run.output / name).read_bytes() == (folder / RUNS[1] / name).read_bytes()
    assert yaml.safe_load((folder / RUNS[1] / "settings.yaml").read_text()) == run.settings
    for component, stage in product(("phase", "magnitude"), STAGES[1:3]):
        path = run.weights_file(component, stage)
        assert contents(path) == contents(project / path.relative_to(tmp_path))


def test_ctrl_c_stops_the_tasks_and_prints_the_command_that_resumes(nodes, project):
    process = start(nodes, project, "name=stopped", "random-seed=[0,1]", "ae-epoch=5000")
    lock = wait_for(lambda: training(nodes.folder / "node-0", "stopped"))
    child = Path("/proc") / lock.read_text().strip()
    assert child.exists()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    assert process.wait(60) == 130
    assert "run.sh: stopped; to resume: ./run.sh sweep frame-length=64" in (project / "log").read_text()
    wait_for(lambda: not child.exists())


def test_a_cluster_that_cannot_be_reached_is_refused():
    installed = importlib.util.find_spec("ray")
    reason = (
        "cannot be joined .*refused" if installed else "ray is not installed; run: .*requirements-ray.txt"
    )
    with pytest.raises(UserError, match=reason):
        cluster.connect("127.0.0.1:1")
