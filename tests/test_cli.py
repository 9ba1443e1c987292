import os
import re
import runpy
import shlex
import signal
import subprocess
import sys

import pytest
from helpers import PROJECT, STAGES

from joanna import cli
from joanna.errors import Stopped, UserError
from joanna.settings import load

OPTIONS = {"--out": ("out", "FILE", "a copy"), "--from": ("clip", "CLIP.wav", "a clip")}


@pytest.fixture(autouse=True)
def command_line(monkeypatch):
    """No environment of run.sh; signal handlers are restored."""
    monkeypatch.delenv("JOANNA_COMMAND", raising=False)
    monkeypatch.setenv("VIRTUAL_ENV", "active")
    numbers = signal.SIGINT, signal.SIGTERM, signal.SIGPIPE
    handlers = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, handlers, strict=True):
        signal.signal(number, handler)


def run_stage(monkeypatch, capsys, *words, script="lstm.py", raises=None):
    """Run a stage that raises an exception, if given; its exit code, arguments, output and errors."""
    calls = []

    def main(run, **values):
        calls.append((run, values))
        if raises:
            raise raises

    monkeypatch.setattr(sys, "argv", [f"/somewhere/{script}", *words])
    try:
        cli.run_stage(main, "about", writes=False, options=OPTIONS)
        code = 0
    except SystemExit as exited:
        code = exited.code
    return code, calls, *capsys.readouterr()


def test_a_mistake_is_one_sentence_with_the_stage_to_run(monkeypatch, capsys):
    error = UserError("x is missing", rerun="preprocess")
    words = ["name=a b", "load-weights=False"]
    code, _, output, errors = run_stage(monkeypatch, capsys, *words, raises=error)
    assert (code, output) == (2, "")
    assert errors == "lstm.py: x is missing; run: python preprocess.py 'name=a b'\n"
    code, _, _, errors = run_stage(monkeypatch, capsys, raises=UserError("x is wrong"))
    assert (code, errors) == (2, "lstm.py: x is wrong\n")


def test_errors_of_the_system_and_too_little_memory_are_sentences(monkeypatch, capsys):
    class ResourceExhaustedError(Exception):
        """TensorFlow's, by its name."""

    for error, message in (
        (PermissionError(13, "Permission denied", "/x/y"), "/x/y: Permission denied"),
        (OSError("odd"), "a file: odd"),
        (MemoryError(), "too little memory; close other programs"),
        (
            ResourceExhaustedError("OOM\nfailed to allocate 9 GB"),
            "too little memory (failed to allocate 9",
        ),
    ):
        code, _, output, errors = run_stage(monkeypatch, capsys, raises=error)
        assert (code, output, errors.count("\n")) == (2, "", 1)
        assert errors.startswith(f"lstm.py: {message}")
    with pytest.raises(ZeroDivisionError):  # a bug keeps its traceback
        run_stage(monkeypatch, capsys, raises=ZeroDivisionError())


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_stage_prints_the_command_that_resumes_it(monkeypatch, capsys, number, code):
    found, _, _, errors = run_stage(monkeypatch, capsys, "name=a b", raises=Stopped(number))
    assert found == code
    assert errors == "lstm.py: stopped; to resume: python /somewhere/lstm.py 'name=a b'\n"
    monkeypatch.setenv("JOANNA_COMMAND", "./run.sh demo load-weights=False")
    words = ["demo", "load-weights=False"]
    _, _, _, errors = run_stage(monkeypatch, capsys, *words, raises=Stopped(number))
    assert errors == "lstm.py: stopped; to resume: ./run.sh demo load-weights=False load-weights=True\n"


def test_a_signal_stops_a_stage(monkeypatch, capsys):
    def main(run):
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(sys, "argv", ["generate.py"])
    with pytest.raises(SystemExit) as exited:
        cli.run_stage(main, "about", writes=False)
    assert exited.value.code == 143
    assert capsys.readouterr().err == "generate.py: stopped; to resume: python generate.py\n"


def test_the_next_stage_is_printed_unless_run_sh_runs_it(monkeypatch, capsys):
    words = ["demo", "source=a b.wav"]
    for script, next_script in zip(STAGES, [*STAGES[1:], None], strict=True):
        code, _, output, _ = run_stage(monkeypatch, capsys, *words, script=f"{script}.py")
        expected = f"next: python {next_script}.py demo 'source=a b.wav'\n" if next_script else ""
        assert (code, output) == (0, expected)
    monkeypatch.setenv("JOANNA_COMMAND", "./run.sh demo")
    assert run_stage(monkeypatch, capsys, *words)[2] == ""


def test_options_are_passed_to_the_stage_and_the_rest_are_settings(monkeypatch, capsys):
    for words in (["demo", "--out", "b.WAV"], ["--out=b.WAV", "demo"]):
        _, [(run, values)], _, _ = run_stage(monkeypatch, capsys, *words)
        assert values == {"out": "b.WAV"}
        assert run.settings == load(["demo"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["demmo"], "unknown preset 'demmo'"),
        (["--nothing"], "unknown option '--nothing'; --help lists the options"),
        (["--out"], "--out: expected one argument; --help lists the options"),
        (["--out", "folder"], "--out folder: expected the path of a .wav file"),
        (["--fro", "a.wav"], "unknown option '--fro'"),
        (["--from", "a.wav", "takes=2"], "for other settings: python generate.py a.wav takes=2"),
        (["--from", str(PROJECT / "sources" / "harp.wav")], "harp.wav: holds no metadata of a clip"),
    ],
)
def test_wrong_arguments_are_named(monkeypatch, capsys, words, message):
    code, calls, output, errors = run_stage(monkeypatch, capsys, *words, script="generate.py")
    assert (code, calls, output, errors.count("\n")) == (2, [], "", 1)
    assert message in errors


@pytest.mark.parametrize("script", STAGES)
def test_a_script_without_its_packages_names_the_command_to_run(script):
    command = [sys.executable, "-S", f"{script}.py", "demo", "name=a b"]
    result = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert "lacks the package numpy, which ./run.sh installs" in result.stderr
    assert result.stderr.endswith(f".venv/bin/python {script}.py demo 'name=a b'\n")


@pytest.mark.parametrize("script", STAGES)
def test_help_lists_what_a_stage_reads_and_writes_its_settings_and_examples(monkeypatch, capsys, script):
    monkeypatch.setattr(sys, "argv", [f"{script}.py", "--help"])
    with pytest.raises(SystemExit) as exited:
        runpy.run_path(str(PROJECT / f"{script}.py"), run_name="__main__")
    assert exited.value.code == 0
    text = capsys.readouterr().out
    assert f"usage: python {script}.py [preset" in text
    about = text.split("presets:")[0]
    assert "eads " in about
    assert "writes" in about
    keys = {"preprocess": "block-count", "autoencoder": "ae-epoch", "lstm": "own-share"}
    keys["generate"] = "variation"
    assert [stage for stage in STAGES if f"\n  {keys[stage]} " in text] == [script]
    examples = re.findall(rf"    python {script}\.py (.*)", about)
    assert examples
    for example in examples:
        words = shlex.split(example, comments=True)
        if "--from" not in words:
            load(words[: words.index("--out")] if "--out" in words else words)
