"""run.sh at tiny width."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest
from helpers import TINY, copy_project

from joanna.artifacts import STAGES
from joanna.run import PROJECT

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
    assert set(re.findall(r"\n  (.*)", log)) == {
        str(path) for path in folder.glob("*.*") if path.suffix in (".wav", ".html")
    }
    for name in ("part-4.wav", "reconstruction.wav", "report.html"):
        assert (folder / name).is_file()
        assert f"  {folder / name}\n" in log
    process = start(project, "output/one/settings.yaml")
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert output.count("up to date, skipped: ") == 4


def test_a_stopped_run_prints_the_command_that_resumes_it(project):
    process = start(project, *SETTINGS, "ae-epoch=5000")
    weights = project / "weights" / "one" / "phase-encoder.weights.h5"
    while not weights.exists() and process.poll() is None:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 130
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


def test_sweep_is_a_word_of_its_own(project):
    process = start(project, "sweep", "demo", "dropout=[0,0.2]", "droput=[0,0.2]")
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (2, "")
    assert errors.startswith("run.sh: unknown setting 'droput'")
    assert "./run.sh sweep demo" in start(project, "sweep", "--help").communicate(timeout=60)[0]


def test_a_link_to_it_and_variables_of_another_python_do_not_matter(project, tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "run.sh").symlink_to("../my project/run.sh")
    (tmp_path / "yaml.py").write_text("raise ImportError")
    process = start(tmp_path / "bin", "demmo", PYTHONPATH=str(tmp_path), PYTHONHOME=str(tmp_path))
    assert process.communicate(timeout=60)[1].startswith("run.sh: unknown preset 'demmo'")


def test_a_settings_file_may_be_given_relative_to_another_folder(project, tmp_path):
    path = tmp_path / "my settings.yaml"
    path.write_text("droput: 0.1")
    process = start(project, path.relative_to("/"))
    errors = process.communicate(timeout=60)[1]
    assert errors.startswith(f"run.sh: {path}: unknown setting 'droput'")


def test_a_source_may_be_given_relative_to_another_folder(project, tmp_path):
    path = tmp_path / "my song.flac"
    path.write_text("no audio")
    process = start(project, f"source={path.relative_to('/')}", "name=elsewhere")
    assert f"source {path}: " in process.communicate(timeout=60)[1]


@pytest.fixture
def no_venv(tmp_path):
    """A PATH whose Python leaves a part of .venv only, as on Debian without python3-venv."""
    (tmp_path / "bin").mkdir()
    lines = '[ "$2" = venv ] || exit 0', "mkdir -p .venv/bin", "touch .venv/bin/python", "exit 1"
    write_script(tmp_path / "bin" / "python3", *lines)
    return f"{tmp_path / 'bin'}:/usr/bin:/bin"


def write_script(path, *lines):
    path.write_text("\n".join(["#!/bin/sh", *lines]))
    path.chmod(0o755)


def use_python(project, *lines):
    """Put a script that calls the current Python, after `lines`, into .venv; nothing is to be installed."""
    (project / ".venv").unlink()
    (project / ".venv" / "bin").mkdir(parents=True)
    (project / ".venv" / "bin" / "activate").touch()
    write_script(project / ".venv" / "bin" / "python", *lines, f'exec "{sys.executable}" "$@"')
    (project / "requirements.txt").write_text("# nothing\n")


def test_help_needs_no_packages_and_a_venv_that_cannot_be_made_leaves_none(project, no_venv):
    (project / ".venv").unlink()
    output, errors = start(project, "--help", PATH=no_venv).communicate(timeout=60)
    assert "usage: ./run.sh" in output
    process = start(project, "demo", PATH=no_venv)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (2, "")
    assert "sudo apt install python3-venv" in errors
    assert not (project / ".venv").exists()


@pytest.mark.parametrize("missing", ["", "bin/activate", "bin/python", "lib", "PACKAGES/pip"])
def test_a_venv_that_is_incomplete_or_of_another_python_is_made_again(project, no_venv, missing):
    venv, packages = project / ".venv", sysconfig.get_path("purelib", vars={"base": ""}).strip("/")
    venv.unlink()
    for file in ("bin/activate", "pyvenv.cfg", f"{packages}/pip/__init__.py"):
        (venv / file).parent.mkdir(parents=True, exist_ok=True)
        (venv / file).touch()
    home = Path(sys.executable).resolve()
    (venv / "bin" / "python").symlink_to(home)
    (venv / "pyvenv.cfg").write_text(f"home = {home.parent}\ninclude-system-site-packages = false\n")
    (project / "requirements.txt").write_text("# nothing\n")
    (venv / "runtime").write_text("# nothing ")
    if missing:
        (venv / missing.replace("PACKAGES", packages)).rename(project / "missing")
    output = start(project, "demo", PATH=no_venv).communicate(timeout=60)[0]
    assert output == ("== .venv is incomplete or of another Python: making it again\n" if missing else "")
    assert venv.exists() == (not missing)


def test_pip_installs_into_the_venv_whatever_its_settings(project):
    use_python(project)
    process = start(project, "demmo", PIP_USER="1", PATH="/usr/bin:/bin")
    output, errors = process.communicate(timeout=60)
    assert "== installing requirements.txt" in output
    assert errors.startswith("run.sh: unknown preset 'demmo'")


def replace_stages(project, *lines):
    """Replace the scripts of all stages by `lines`."""
    for stage in STAGES:
        (project / f"{stage}.py").write_text("\n".join(["import os, signal", *lines]))


def test_all_stages_know_when_the_run_began_on_a_clock_that_never_jumps(project):
    replace_stages(project, 'print("began", os.environ["JOANNA_BEGAN"], os.getpid())')
    before = time.monotonic()
    output, errors = start(project, "demo").communicate(timeout=60)
    after = time.monotonic()
    assert errors == ""
    lines = [line for line in output.splitlines() if line.startswith("began ")]
    assert (len(lines), len(set(lines))) == (len(STAGES), 1)  # one process
    assert before <= float(lines[0].split()[1]) <= after
    assert int(re.search(r"in all (\d+) s", output)[1]) <= after - before + 1


def test_a_signal_between_stages_prints_the_command_that_resumes(project):
    replace_stages(project, "os.kill(os.getpid(), signal.SIGTERM)")
    process = start(project, "demo", "name=a b")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143
    assert errors == "run.sh: stopped; to resume: ./run.sh demo 'name=a b'\n"


PRESS_CTRL_C = "import os, signal; os.kill(os.getpid(), signal.SIGINT)"


@pytest.mark.parametrize("loading", ["Python", "packages"])
def test_ctrl_c_while_python_or_packages_are_loaded_prints_nothing(project, loading):
    if loading == "Python":  # a script is loaded after it
        run = f'{PRESS_CTRL_C}; import runpy; runpy.run_module("joanna.pipeline", run_name="__main__")'
        use_python(project, f"[ \"$1\" = -c ] || exec '{sys.executable}' -c '{run}'")
        (project / ".venv" / "runtime").write_text("# nothing ")
    else:
        with (project / "config.py").open("a") as file:
            file.write(PRESS_CTRL_C)
    process = start(project, "demo")
    assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == -signal.SIGINT  # 130 in a shell


def test_ctrl_c_while_the_venv_is_checked_does_not_delete_it(project):
    use_python(project, 'trap "" INT', "kill -INT 0", "exit 1")  # Python does so when it is interrupted early
    process = start(project, "demo")
    assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == 130
    assert (project / ".venv" / "bin" / "activate").exists()


def test_a_closed_stdout_does_not_matter(project):
    use_python(project)  # run.sh itself prints, too: that it installs
    replace_stages(project)
    command = ["sh", "-c", 'exec "$0" demo >&-', project / "run.sh"]
    result = subprocess.run(command, env={**os.environ, "PATH": "/usr/bin:/bin"}, stderr=subprocess.PIPE)
    assert (result.returncode, result.stderr) == (0, b"")


def test_a_first_call_in_a_terminal_is_told_what_will_happen(project):
    pty = pytest.importorskip("pty")  # not on Windows
    terminal, other = pty.openpty()
    process = subprocess.Popen([project / "run.sh"], stdout=other, stderr=other, stdin=other)
    assert process.wait(timeout=60) == 2  # the copy has no sources/harp.wav
    output = os.read(terminal, 10000).decode()
    os.close(terminal), os.close(other)
    assert output.startswith("JOANNA learns a song, ./sources/harp.wav, and writes new audio in its style.")
    welcome, message = output.replace("\r", "").split("\n\n")
    assert welcome.count("\n") == 4
    assert "no such file" in message
