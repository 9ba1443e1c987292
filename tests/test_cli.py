import importlib.util
import os
import re
import runpy
import shlex
import signal
import subprocess
import sys
import venv

import pytest
from helpers import TINY, copy_project, tiny_run, tone, write_wav

import config
import preprocess
from joanna import cli, settings
from joanna.artifacts import STAGES
from joanna.errors import Stopped, UserError
from joanna.run import PROJECT
from joanna.settings import SETTINGS, load

OPTIONS = {"--out": ("out", "FILE", "a copy"), "--from": ("clip", "CLIP.wav", "a clip")}


@pytest.fixture(autouse=True)
def command_line(monkeypatch):
    """No environment of run.sh; signal handlers are restored."""
    monkeypatch.delenv("JOANNA_BEGAN", raising=False)
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


def test_epochs_that_minutes_overrule_are_named_once_in_a_run(monkeypatch, capsys):
    words = ["minutes=60", "ae-epoch=4", "lstm-iteration=3"]
    note = "note: ae-epoch, lstm-iteration will have no effect, because minutes is 60"
    assert run_stage(monkeypatch, capsys, *words)[2].startswith(note)
    for others in (words[:1], words[1:]):
        assert "note" not in run_stage(monkeypatch, capsys, *others)[2]
    monkeypatch.setenv("JOANNA_BEGAN", "1")
    assert run_stage(monkeypatch, capsys, *words, script="run.sh")[2].startswith(note)
    assert "note" not in run_stage(monkeypatch, capsys, *words)[2]
    monkeypatch.delenv("JOANNA_BEGAN")
    assert "note" not in run_stage(monkeypatch, capsys, *words, script="generate.py")[2]  # it trains nothing


def test_a_mistake_is_one_sentence_with_the_stage_to_run(monkeypatch, capsys):
    error = UserError("x is missing", rerun="preprocess")
    words = ["name=a b", "load-weights=False"]
    code, _, output, errors = run_stage(monkeypatch, capsys, *words, raises=error)
    assert (code, output) == (2, "")
    assert errors == f"lstm.py: x is missing; run: {cli.python()} preprocess.py 'name=a b'\n"
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
            ResourceExhaustedError("Graph error:\n\nOOM when allocating tensor with shape[9,9]\n"),
            "too little memory (OOM when allocating tensor with shape[9,9]); close other programs",
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
    assert errors == f"lstm.py: stopped; to resume: {cli.python()} /somewhere/lstm.py 'name=a b'\n"
    monkeypatch.setenv("JOANNA_BEGAN", "0")  # as in a run of all stages
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
    assert capsys.readouterr().err == f"generate.py: stopped; to resume: {cli.python()} generate.py\n"


def test_the_next_stage_is_printed_unless_run_sh_runs_it(monkeypatch, capsys):
    words = ["demo", "source=a b.wav"]
    for script, next_script in zip(STAGES, [*STAGES[1:], None], strict=True):
        code, _, output, _ = run_stage(monkeypatch, capsys, *words, script=f"{script}.py")
        expected = f"next: {cli.python()} {next_script}.py demo 'source=a b.wav'\n" if next_script else ""
        assert (code, output) == (0, expected)
    monkeypatch.setenv("JOANNA_BEGAN", "0")
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
        (
            ["--from", "a.wav", "demo", "takes=2"],
            f"for other settings: {cli.python()} generate.py a.wav takes=2",
        ),
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


def test_a_venv_without_its_packages_is_to_be_deleted(tmp_path):
    project = copy_project(tmp_path)
    venv.create(project / ".venv", symlinks=True)
    for command in (["preprocess.py"], ["-m", "joanna.pipeline"]):
        command = [project / ".venv" / "bin" / "python", *command]
        result = subprocess.run(command, cwd=project, capture_output=True, text=True)
        assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)
        assert "lacks the package numpy" in result.stderr
        assert result.stderr.endswith("; delete .venv, which ./run.sh then makes again\n")


@pytest.mark.parametrize(
    ("script", "resume"), [("preprocess.py", "preprocess.py"), ("sweep", "run.sh sweep")]
)
def test_a_reader_of_the_output_that_ends_stops_the_stage(tmp_path, script, resume):
    project = copy_project(tmp_path)
    write_wav(project / "sources" / "song.wav", tone())
    program = ["-m", "joanna.sweep"] if script == "sweep" else [script]
    command = [sys.executable, *program, *TINY, "source=./sources/song.wav"]
    process = subprocess.Popen(
        command, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.close()
    message = process.stderr.read()
    assert process.wait(60) == 128 + signal.SIGPIPE
    assert re.fullmatch(rf"\S+: stopped; to resume: .*{resume} .*song.wav\n", message)


@pytest.mark.parametrize("seconds", [0, 5])
def test_the_advice_to_use_all_of_the_song_does_so(tmp_path, capsys, seconds):
    (tmp_path / "sources").mkdir()
    write_wav(tmp_path / "sources" / "song.wav", tone(9.0))

    def printed(*words):
        preprocess.main(tiny_run(tmp_path, "source=./sources/song.wav", f"seconds={seconds}", *words))
        return capsys.readouterr().out

    advice = "to use all of (.*), set section-count to auto, or block-count to (.*)"
    whole, blocks = re.search(advice, printed()).groups()
    assert whole == (f"{seconds} s" if seconds else "it")
    for word in ("section-count=auto", f"block-count={blocks}"):
        output = printed(word)
        assert "to use all of" not in output
        assert (seconds or 9) - 0.2 < float(re.search("used (.*) s of", output)[1]) <= (seconds or 9)


@pytest.mark.parametrize("script", STAGES)
def test_help_lists_what_a_stage_reads_and_writes_its_settings_and_examples(monkeypatch, capsys, script):
    monkeypatch.setattr(sys, "argv", [f"{script}.py", "--help"])
    with pytest.raises(SystemExit) as exited:
        runpy.run_path(str(PROJECT / f"{script}.py"), run_name="__main__")
    assert exited.value.code == 0
    text = capsys.readouterr().out
    assert f"usage: {cli.python()} {script}.py [preset" in text
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


ORIGINAL = (PROJECT / "config.py").read_text(encoding="utf-8")
DROPOUT = '"dropout": 0.4,  #'
PRESETS = ORIGINAL[ORIGINAL.index("presets = {") :]
EPOCHS = re.compile(r'"ae-epoch": \d+')
WITHOUT_PRESETS = ORIGINAL.removesuffix(PRESETS)


@pytest.fixture
def use_config(monkeypatch, tmp_path):
    """A function that makes the text of a config.py the one in use."""

    def use(text):
        path = tmp_path / "config.py"
        path.write_text(text, encoding="utf-8")
        spec = importlib.util.spec_from_file_location("config", path)
        edited = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(edited)
        for module in (cli, settings):
            monkeypatch.setattr(module, "config", edited)

    return use


@pytest.mark.parametrize(
    ("change", "place", "message"),
    [
        ((DROPOUT, '"dropuot": 0.4, #'), '"dropuot"', "'dropuot'; did you mean 'dropout'? (correct"),
        ((DROPOUT, "#"), "settings = {", "settings has no 'dropout'; add it"),
        ((DROPOUT, '"dropout": "high", #'), '"high"', "dropout is 'high'; expected a number, 0.0 to"),
        (("settings = {", "settings = {\n5: 3,"), "5: 3", "unknown setting 5 (correct or delete it"),
        (("settings = {", 'settings = {\n"dropout": 0,'), DROPOUT, "'dropout' is already in line"),
        (("settings = {", "setting = {"), "setting = {", "'settings', found 'setting'; write settings"),
        (("settings = {", "settings = 5\nrest = {"), "settings = 5", "named 'settings'; write settings"),
        ((PRESETS, ""), "", "named 'presets'; write presets = {...}, or restore the file"),
        (("presets = {", 'presets = {"mine": 5,'), '"mine"', "preset 'mine' is 5; expected a dict"),
        (
            (PRESETS, EPOCHS.sub('"ae-epochs": 25', PRESETS)),
            '"ae-epochs"',
            "'ae-epochs'; did you mean 'ae-epoch'?",
        ),
        (
            (PRESETS, EPOCHS.sub('"ae-epoch": 2.5', PRESETS)),
            '"ae-epoch": 2.5',
            "is 2.5; expected a whole number",
        ),
        ((PRESETS, PRESETS + 'presets["x"] = {"a": 1}'), 'presets["x"]', "unknown setting 'a'"),
    ],
)
def test_a_mistake_in_config_is_named_with_its_line_and_help_lists_the_rest(
    monkeypatch, capsys, use_config, change, place, message
):
    text = ORIGINAL.replace(*change, 1)
    use_config(text)
    code, calls, output, errors = run_stage(monkeypatch, capsys, "evening")
    assert (code, calls, output, errors.count("\n")) == (2, [], "", 1)
    line = f", line {text[: text.index(place)].count(chr(10)) + 1}" if place else ""
    assert errors.startswith(f"lstm.py: config.py{line}: ")
    assert message in errors
    code, _, output, _ = run_stage(monkeypatch, capsys, "--help")
    assert code == 0
    assert "\n  takes " in output or "write settings" in message
    assert "\n  evening " in output or "write presets" in message


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('"dropout": 0.4,  #', '"dropout": 0.4  #', "invalid syntax. Perhaps you forgot a comma?"),
        ('"load-weights": True,  #', '"load-weights": true,  #', "name 'true' is not defined"),
        ('"demo": {', "demo: {", "name 'demo' is not defined"),
        ("", "", "No module named 'config'"),
    ],
)
def test_a_config_that_python_cannot_run_is_one_sentence(tmp_path, old, new, reason):
    project = copy_project(tmp_path / "project")
    text = ORIGINAL.replace(old, new, 1)
    line = f", line {text[: text.index(new)].count(chr(10)) + 1}" if new else ""
    (project / "config.py").write_text(text) if new else (project / "config.py").unlink()
    for command in (["preprocess.py"], ["-m", "joanna.pipeline", "demo"], ["-m", "joanna.sweep", "demo"]):
        result = subprocess.run([sys.executable, *command], cwd=project, capture_output=True, text=True)
        assert (result.returncode, result.stdout) == (2, "")
        restore = "correct it, or restore the file: git checkout config.py"
        assert result.stderr == f"config.py{line}: {reason}; {restore}\n"


@pytest.mark.parametrize(
    "text",
    [
        PRESETS + WITHOUT_PRESETS,
        ORIGINAL.replace('"', "'"),
        re.sub(r"(?m) *#.*$", "", ORIGINAL),
        re.sub(r"(?m)^ +", "", ORIGINAL),
        re.sub(r": ([^\s{]+),  #", r":\n(\1\n),  #", ORIGINAL),
        re.sub(r"(?ms)^(\w+) = (\{.*?\n\})", r"\1 = dict(\2)", ORIGINAL),
        ORIGINAL.replace("# the networks", '# "dropout": 0.5,'),
        "\ufeff" + ORIGINAL,
    ],
    ids="order quotes comments indent lines dict commented-out BOM".split(),
)
def test_config_may_be_formatted_in_any_way(monkeypatch, capsys, use_config, text):
    expected = load(["demo"])
    use_config(text)
    assert load(["demo"]) == expected
    _, _, output, _ = run_stage(monkeypatch, capsys, "--help")
    assert set(re.findall(r"(?m)^  ([\w-]+) .*\[.*\]$", output)) == set(SETTINGS)
    assert all(f"\n  {preset}" in output for preset in config.presets)


@pytest.mark.parametrize("clip", ["best=1.wav", "takes=2.wav", "a=b/c.wav", "~/x.wav"])
@pytest.mark.parametrize("form", ["--from={}", "--out={}", "{}"])
def test_paths_with_an_equals_sign_or_a_tilde_are_paths(monkeypatch, capsys, tmp_path, form, clip):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / clip.removeprefix("~/")
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"no clip")
    if form == "{}" and clip == "takes=2.wav":
        clip = "./" + clip  # without ./ it is a setting
    code, calls, _, errors = run_stage(monkeypatch, capsys, form.format(clip), script="generate.py")
    if "out" in form:
        assert (code, calls[0][1]) == (0, {"out": clip.replace("~", str(tmp_path))})
    else:
        assert (code, calls) == (2, [])
        assert re.match(rf"generate.py: \S*{path.name}: holds no metadata of a clip", errors)
