"""The command line of the stages: arguments, --help, signals, exit codes, the command to run next."""

import argparse
import contextlib
import io
import os
import re
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import config
from joanna import settings
from joanna.artifacts import STAGES
from joanna.errors import Stopped, UserError
from joanna.run import PROJECT, Run

# option -> parameter of the stage's main, name of its value, meaning
Options = dict[str, tuple[str, str, str]]
# raised by Python, NumPy and TensorFlow, which is not imported here
_OUT_OF_MEMORY = ("MemoryError", "_ArrayMemoryError", "ResourceExhaustedError")
_MEMORY_ADVICE = "close other programs, lower window-batch, batch-size or generate-seconds, or seconds"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(message.removeprefix("argument ") + "; --help lists the options")


def make_parser(
    about: str, groups: tuple[str, ...] = (), program: str = "./run.sh", options: Options | None = None
) -> argparse.ArgumentParser:
    """The parser of a stage; arguments as in `run_stage`, `program` is the name in the usage line."""
    text, presets = Path(config.__file__).read_text(encoding="utf-8").split("\npresets = {")
    lines = ["presets:"]
    for meaning, name in re.findall(r'    # (.*)\n    "([\w-]+)": \{', presets):
        lines.append(f"  {name:<18} {meaning}")
    for heading, listed in re.findall(r'    # (.*)\n((?:    ".*\n)+)', text):
        if not groups or heading.split(",")[0] in groups:
            lines.append(f"\nsettings, {heading}:")
            for key, default, meaning in re.findall(r'    "([\w-]+)": (.*),  # (.*)', listed):
                lines.append(f"  {key:<18} {meaning} [{default}]")
    if groups:
        lines += ["", "all settings: ./run.sh --help"]
    parser = _Parser(
        usage=f"{program} [preset | settings.yaml | clip.wav] [key=value ...] [options]",
        description=about.strip(),
        epilog="\n".join(lines),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for option, (name, value, meaning) in (options or {}).items():
        parser.add_argument(option, dest=name, metavar=value, help=meaning)
    return parser


def run_stage(
    main: Callable[..., None],
    about: str,
    groups: tuple[str, ...] = (),
    writes: bool = True,
    generating: bool = False,
    options: Options | None = None,
) -> None:
    """Run a stage script: read the arguments, call main(run), exit with 2 on a user's mistake.

    Args:
        main: the stage.
        about: its description in --help.
        groups: headings in config.py, up to a comma, whose settings --help lists; empty: all.
        writes: whether it writes to the run's folders, which are locked then.
        generating: as in `settings.load`.
        options: options that take the path of a wav file.
    """
    for stream in (sys.stdout, sys.stderr):  # the terminal may lack letters of a file's name
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    script = Path(sys.argv[0]).name
    program = "./run.sh" if script == "estimate.py" else f"{_python()} {script}"
    parser = make_parser(about, groups, program, options)
    if {"-h", "--help"} & set(sys.argv[1:]) and hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # for `--help | head`

    def stop(number, frame):
        raise Stopped(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    words, run = [], None
    try:
        given, rest = parser.parse_known_args()
        values = {name: value for name, value in vars(given).items() if value is not None}
        words = _settings_words(values, rest, options or {})
        run = Run(settings.load(words, generating))
        with run.locked() if writes else contextlib.nullcontext():
            main(run, **values)
    except UserError as error:
        rerun = f"; run: {_command(error.rerun, words)}" if error.rerun else ""
        _exit(f"{error}{rerun}", 2)
    except OSError as error:
        _exit(f"{error.filename or 'a file'}: {error.strerror or error}", 2)
    except Stopped as stopped:
        command = os.environ.get("JOANNA_COMMAND") or shlex.join([_python(), *sys.argv])
        command += " load-weights=True" if run and not run.settings["load-weights"] else ""
        _exit(f"stopped; to resume: {command}", 128 + stopped.args[0])
    except Exception as error:
        if type(error).__name__ not in _OUT_OF_MEMORY:
            raise
        reasons = [f" ({line[:200]})" for line in str(error).splitlines() if "llocat" in line]
        _exit(f"too little memory{''.join(reasons[:1])}; {_MEMORY_ADVICE}", 2)
    stage = Path(script).stem
    if stage in STAGES[:-1] and "JOANNA_COMMAND" not in os.environ:  # run.sh runs the next one by itself
        print(f"next: {_command(STAGES[STAGES.index(stage) + 1], words)}")


def _settings_words(values, rest, options):
    """The words that give settings; the values of the options are checked."""
    for option, (name, *_) in options.items():
        if name in values and not values[name].lower().endswith(".wav"):
            raise UserError(f"{option} {values[name]}: expected the path of a .wav file")
    if "clip" not in values:
        return rest
    if rest:
        command = f"{_python()} generate.py {values['clip']} {shlex.join(rest)}"
        raise UserError(f"--from makes a clip again with its own settings; for other settings: {command}")
    return [values["clip"]]


def _command(stage, words):
    """The command that runs a stage with the settings of this one."""
    words = [word for word in words if not word.startswith("load-weights=")]
    return shlex.join([_python(), f"{stage}.py", *words])


def _python():
    """The Python to call in a command; run.sh uses that of .venv without activating it."""
    activated = os.environ.get("VIRTUAL_ENV") or Path(sys.prefix).resolve() != (PROJECT / ".venv").resolve()
    return "python" if activated else ".venv/bin/python"


def _exit(message, code):
    program = Path(sys.argv[0]).name
    print(f"{'run.sh' if program == 'estimate.py' else program}: {message}", file=sys.stderr)
    sys.exit(code)
