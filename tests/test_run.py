"""run.sh itself, at tiny width."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PROJECT, TINY, copy_project

if not (Path(sys.prefix) / "runtime").exists():
    pytest.skip("needs the .venv that run.sh makes", allow_module_level=True)


@pytest.fixture
def project(tmp_path, song):
    """A copy of the project whose .venv is the one at hand, with a song in it."""
    folder = copy_project(tmp_path / "my project")
    for name in ("run.sh", "requirements.txt"):
        shutil.copy(PROJECT / name, folder)
    (folder / ".venv").symlink_to(sys.prefix)
    shutil.copy(song, folder / "sources" / "No #1.wav")
    return folder


def start(folder, *words):
    return subprocess.Popen(
        [folder / "run.sh", *words],
        cwd="/",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_it_runs_all_stages_and_its_settings_repeat_it(project):
    words = [*TINY, "source=./sources/No #1.wav", "name=one", "method=part"]
    process = start(project, *words)
    said, complaints = process.communicate(timeout=300)
    assert (process.returncode, complaints) == (0, "")
    for stage in ("preprocess", "autoencoder", "lstm", "generate", "done"):
        assert f"\n== {stage}" in said
    output = project / "output" / "one"
    for name in ("part-4.wav", "part-8.wav", "reconstruction.wav", "report.html"):
        assert (output / name).is_file()
        assert f"  {output / name}\n" in said.split("== done")[1]
    process = start(project, "output/one/settings.yaml")
    said, complaints = process.communicate(timeout=60)
    assert (process.returncode, complaints) == (0, "")
    assert said.count("nothing has changed") == 4


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_says_the_command_that_goes_on(project, number, code):
    process = start(project, *TINY, "source=./sources/No #1.wav", "name=one", "ae-epoch=20000")
    while ", loss" not in (line := process.stdout.readline()):
        assert line, process.stderr.read()
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does
    else:
        process.send_signal(number)
    complaints = process.communicate(timeout=60)[1]
    assert process.returncode == code
    said, command = complaints.split("; to go on: ")
    assert said == "autoencoder.py: stopped"
    assert shlex.split(command)[0] == "./run.sh"
    assert "source=./sources/No #1.wav" in shlex.split(command)


def test_mistakes_end_before_anything_is_made(project):
    for words, said in (
        (["demmo"], "run.sh: unknown preset 'demmo'"),
        (["--out", "x.wav"], "run.sh: unknown option '--out'"),
    ):
        process = start(project, *words)
        output, complaints = process.communicate(timeout=60)
        assert (process.returncode, output) == (2, "")
        assert complaints.startswith(said)
        assert complaints.count("\n") == 1
    assert not (project / "output").exists()


def test_help_needs_no_packages_and_a_venv_that_cannot_be_made_leaves_none(project, tmp_path):
    (project / ".venv").unlink()
    said = subprocess.run([project / "run.sh", "--help"], capture_output=True, text=True, check=True)
    assert "usage: ./run.sh" in said.stdout
    assert not (project / ".venv").exists()
    (tmp_path / "bin").mkdir()
    broken = tmp_path / "bin" / "python3"  # as Debian's without python3-venv: it leaves half of one
    lines = '[ "$2" = venv ] || exit 0', "mkdir -p .venv/bin", "touch .venv/bin/python", "exit 1"
    broken.write_text("\n".join(["#!/bin/sh", *lines]))
    broken.chmod(0o755)
    path = f"{tmp_path / 'bin'}:/usr/bin:/bin"
    result = subprocess.run(
        [project / "run.sh", "demo"], env={"PATH": path}, capture_output=True, text=True
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert "sudo apt install python3-venv" in result.stderr
    assert not (project / ".venv").exists()
