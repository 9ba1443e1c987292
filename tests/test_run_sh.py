"""run.sh at tiny width."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import PROJECT, STAGES, TINY, copy_project

if not (Path(sys.prefix) / "runtime").exists():
    pytest.skip("needs the .venv that run.sh makes", allow_module_level=True)

SETTINGS = [*TINY, "source=./sources/No #1.wav", "name=one", "method=part", "sequence-lengths=[4]"]


@pytest.fixture
def project(tmp_path, song):
    """A copy of the project with the current .venv and a song."""
    folder = copy_project(tmp_path / "my project")
    for name in ("run.sh", "requirements.txt"):
        shutil.copy(PROJECT / name, folder)
    (folder / ".venv").symlink_to(sys.prefix)
    shutil.copy(song, folder / "sources" / "No #1.wav")
    return folder


def start(folder, *words, **variables):
    return subprocess.Popen(
        [folder / "run.sh", *words],
        cwd="/",
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_all_stages_run_and_their_settings_repeat_the_run(project):
    process = start(project, *SETTINGS)
    output, errors = process.communicate(timeout=300)
    assert (process.returncode, errors) == (0, "")
    run, log = output.split("\n== done")
    assert [line[3:] for line in run.splitlines() if line.startswith("== ")] == list(STAGES)
    assert "next: " not in run
    folder = project / "output" / "one"
    for name in ("part-4.wav", "reconstruction.wav", "report.html"):
        assert (folder / name).is_file()
        assert f"  {folder / name}\n" in log
    process = start(project, "output/one/settings.yaml")
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert output.count("up to date, skipped: ") == 4


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_prints_the_command_that_resumes_it(project, number, code):
    process = start(project, *SETTINGS, "ae-epoch=5000")
    weights = project / "weights" / "one" / "phase-encoder.weights.h5"
    while not weights.exists() and process.poll() is None:
        time.sleep(0.1)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does
    else:
        process.send_signal(number)
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == code
    message, command = errors.split("; to resume: ")
    assert message == "autoencoder.py: stopped"
    assert shlex.split(command) == ["./run.sh", *SETTINGS, "ae-epoch=5000"]


@pytest.mark.parametrize(
    ("word", "message"),
    [("demmo", "run.sh: unknown preset 'demmo'"), ("--out", "run.sh: unknown option '--out'")],
)
def test_mistakes_end_before_anything_is_made(project, word, message):
    process = start(project, word)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output, errors.count("\n")) == (2, "", 1)
    assert errors.startswith(message)
    assert not (project / "output").exists()


def test_a_link_to_it_and_variables_of_another_python_do_not_matter(project, tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "run.sh").symlink_to("../my project/run.sh")
    (tmp_path / "yaml.py").write_text("raise ImportError")
    process = start(tmp_path / "bin", "demmo", PYTHONPATH=str(tmp_path), PYTHONHOME=str(tmp_path))
    assert process.communicate(timeout=60)[1].startswith("run.sh: unknown preset 'demmo'")


def test_help_needs_no_packages_and_a_venv_that_cannot_be_made_leaves_none(project, tmp_path):
    (project / ".venv").unlink()
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "python3"  # as on Debian without python3-venv: it leaves a part of .venv
    lines = '[ "$2" = venv ] || exit 0', "mkdir -p .venv/bin", "touch .venv/bin/python", "exit 1"
    python.write_text("\n".join(["#!/bin/sh", *lines]))
    python.chmod(0o755)
    path = f"{tmp_path / 'bin'}:/usr/bin:/bin"
    output, errors = start(project, "--help", PATH=path).communicate(timeout=60)
    assert "usage: ./run.sh" in output
    assert not (project / ".venv").exists()
    for broken in (False, True):
        if broken:
            (project / ".venv" / "bin").mkdir(parents=True)
        process = start(project, "demo", PATH=path)
        output, errors = process.communicate(timeout=60)
        assert process.returncode == 2
        assert output == broken * "== .venv is incomplete or of another Python: making it again\n"
        assert "sudo apt install python3-venv" in errors
        assert not (project / ".venv").exists()
