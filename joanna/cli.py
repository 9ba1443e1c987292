"""The command line of the stages: arguments, --help, signals, exit codes, the command to run next."""

import argparse
import contextlib
import io
import os
import re
import shlex
import signal
import sys
import tokenize
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
    lines = _listing(groups)
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


def _listing(groups):
    """Lines on the presets and the settings of config.py, as far as it can be read; see `run_stage`."""
    presets, defaults = (getattr(config, name, None) for name in ("presets", "settings"))
    comments, headings = _config_comments()
    places = settings.config_lines(config.__file__)
    lines = ["presets:"]
    for name in presets if isinstance(presets, dict) else ():
        first, _ = places.get(("presets", name), (0, 0))
        lines.append(f"  {name!s:<18} {headings.get(first - 1, '')}".rstrip())
    previous, (begin, end) = None, places.get(("settings",), (0, 0))
    for key, value in defaults.items() if isinstance(defaults, dict) else ():
        first, last = places.get(("settings", key), (0, 0))
        # a setting that was commented out begins with a quote
        above = [line for line in headings if begin < line < first and headings[line][:1].isalpha()]
        heading = headings[max(above)] if above and last <= end else ""
        if groups and heading and heading.split(",")[0] not in groups:
            continue
        if heading != previous:
            lines.append(f"\nsettings{', ' * bool(heading)}{heading}:")
        default = f'"{value}"' if isinstance(value, str) else value
        lines.append(f"  {key!s:<18} {comments.get(last, '')} [{default}]")
        previous = heading
    return lines


def _config_comments():
    """Comments of config.py by line: those after code, and those on a line of their own."""
    after_code: dict[int, str] = {}
    alone: dict[int, str] = {}
    with tokenize.open(config.__file__) as file:
        for token in tokenize.generate_tokens(file.readline):
            if token.type == tokenize.COMMENT:
                line, column = token.start
                kind = after_code if token.line[:column].strip() else alone
                kind[line] = token.string.lstrip("# ")
    return after_code, alone


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
    escape_unprintable()
    script = Path(sys.argv[0]).name
    program = "./run.sh" if script == "run.sh" else f"{python()} {script}"
    parser = make_parser(about, groups, program, options)
    if {"-h", "--help"} & set(sys.argv[1:]) and hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # for `--help | head`
    handle_signals(raise_stopped)
    words, run = [], None
    in_run = "JOANNA_BEGAN" in os.environ  # set by pipeline.py
    try:
        given, rest = parser.parse_known_args()
        values = {name: value for name, value in vars(given).items() if value is not None}
        words = _settings_words(values, rest, options or {})
        run = Run(settings.load(words, generating))
        if script == "run.sh" or not in_run and script in ("autoencoder.py", "lstm.py"):
            print_overruled(run.settings["minutes"], words)
        with run.locked() if writes else contextlib.nullcontext():
            main(run, **values)
        stage = Path(script).stem
        if stage in STAGES[:-1] and not in_run:
            print(f"next: {_command(STAGES[STAGES.index(stage) + 1], words)}")
        print(end="", flush=True)
    except UserError as error:
        rerun = f"; run: {_command(error.rerun, words)}" if error.rerun else ""
        _exit(f"{error}{rerun}", 2)
    except (Stopped, BrokenPipeError) as stopped:
        command = ["./run.sh", *sys.argv[1:]] if in_run else [python(), *sys.argv]
        command += ["load-weights=True"] if run and not run.settings["load-weights"] else []
        number = silence_broken_pipe() if isinstance(stopped, BrokenPipeError) else stopped.args[0]
        _exit(f"stopped; to resume: {shlex.join(command)}", 128 + number)
    except Exception as error:
        if not (message := explanation(error)):
            raise
        _exit(message, 2)


def escape_unprintable() -> None:
    """Print letters of a file's name that the terminal lacks as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def silence_broken_pipe() -> int:
    """Discard what is still to be printed, as its reader has ended; the number of the signal for that."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return getattr(signal, "SIGPIPE", 13)


def raise_stopped(number: int, frame: object) -> None:
    """Handle a signal as `Stopped`."""
    raise Stopped(number)


def handle_signals(handler: Callable) -> None:
    """Handle Ctrl-C and SIGTERM."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)


def explanation(error: Exception) -> str:
    """The sentence for a `UserError`, an OSError, or too little memory; empty for a bug."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError):
        return f"{error.filename or 'a file'}: {error.strerror or error}"
    if type(error).__name__ not in _OUT_OF_MEMORY:
        return ""
    reasons = [f" ({line[:200]})" for line in str(error).splitlines() if "llocat" in line]
    return f"too little memory{''.join(reasons[:1])}; {_MEMORY_ADVICE}"


def _settings_words(values, rest, options):
    """The words that give settings; the values of the options are checked."""
    for option, (name, *_) in options.items():
        if name in values:
            values[name] = os.path.expanduser(values[name])  # the shell leaves the ~ of --out=~/x.wav
            if not values[name].lower().endswith(".wav"):
                raise UserError(f"{option} {values[name]}: expected the path of a .wav file")
    if "clip" not in values:
        return rest
    clip = values["clip"]
    if "=" in clip or clip.startswith("-"):
        clip = os.path.join(".", clip)  # takes=1.wav is a setting, -a.wav an option, ./takes=1.wav a file
    if rest:
        changes = [word for word in rest if "=" in word]  # a clip has all the others
        command = shlex.join([python(), "generate.py", clip, *changes])
        raise UserError(f"--from makes a clip again with its own settings; for other settings: {command}")
    return [clip]


def print_overruled(minutes: float, words: list[str]) -> None:
    """Print which words `minutes` overrules."""
    keys = [word.partition("=")[0] for word in words]
    if minutes and (ignored := [key for key in keys if re.fullmatch("(ae|lstm)-(epoch|iteration)", key)]):
        print(
            f"note: {', '.join(ignored)} will have no effect, because minutes is {minutes:g}; "
            "set minutes=0 to train by epochs"
        )


def _command(stage, words):
    """The command that runs a stage with the settings of this one."""
    words = [word for word in words if not word.startswith("load-weights=")]
    return shlex.join([python(), f"{stage}.py", *words])


def python() -> str:
    """The Python to call in a command, whether or not .venv is activated."""
    in_venv = Path(sys.prefix).resolve() == (PROJECT / ".venv").resolve()
    return ".venv/bin/python" if in_venv else "python"


def _exit(message, code):
    print(f"{Path(sys.argv[0]).name}: {message}", file=sys.stderr)
    sys.exit(code)
