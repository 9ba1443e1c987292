"""Settings: defaults, preset, command line; checks; the run's folders; how a stage ends."""

import contextlib
import difflib
import importlib.util
import json
import os
import re
import reprlib
import shlex
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import yaml

import config
from joanna import store
from joanna.errors import Stopped, UserError

ROOT = Path(config.__file__).resolve().parent

# key: (type, lowest, highest); None is no bound.
_RANGES = {
    "sample-rate": (int, 1000, 384000),
    "frame-length": (int, 16, 65536),
    "overlap": (int, 2, 64),
    "magnitude-power": (float, 0.1, 1.0),
    "section-count": (int, 1, 100000),
    "block-count": (int, 2, 1000000),
    "start": (float, 0.0, 86400.0),
    "seconds": (float, 0.0, 86400.0),
    "layer-count": (int, 1, 64),
    "dim-decrease": (int, 0, 65536),
    "dropout": (float, 0.0, 0.99),
    "lstm-layers": (int, 1, 16),
    "ae-epoch": (int, 1, None),
    "ae-iteration": (int, 1, None),
    "lstm-epoch": (int, 1, None),
    "lstm-iteration": (int, 1, None),
    "minutes": (float, 0.0, 100000.0),
    "preview-minutes": (float, 0.0, 100000.0),
    "tensorboard": (bool, None, None),
    "batch-size": (int, 1, 65536),
    "learning-rate": (float, 1e-8, 1.0),
    "generator-rate": (float, 1e-8, 1.0),
    "window-length": (int, 2, 65536),
    "window-batch": (int, 1, 65536),
    "own-share": (float, 0.0, 1.0),
    "load-weights": (bool, None, None),
    "random-seed": (int, 0, 2**31 - 1),
    "generate-seconds": (float, 0.1, 86400.0),
    "seed-section": (int, 0, None),
    "variation": (float, 0.0, 1.0),
    "takes": (int, 1, 100),
    "match-statistics": (bool, None, None),
}
_FILE_NAMES = ("coded-file", "lstm-file", "phase-encoder", "magnitude-encoder")
_FILE_NAMES += ("phase-result", "magnitude-result")
_PLAIN = r"\w[\w. -]{0,99}"  # a name that cannot leave its folder
_CHOICES = {
    "method": ("part", "whole", "both"),
    "phase-method": ("follow", "network", "griffin-lim", "all"),
}


def help_text(
    about: str,
    sections: tuple[str, ...] = (),
    program: str = "./run.sh",
    options: dict[str, tuple[str, str, str]] | None = None,
) -> str:
    """The --help page: `about`, usage, the presets, then settings with their meanings and defaults.

    Args:
        sections: headings in config.py, up to a comma, whose settings are listed; none: all.
        program: how it is called.
        options: as of `run_stage`.
    """
    text, presets = Path(config.__file__).read_text(encoding="utf-8").split("\npresets = {")
    lines = [f"usage: {program} [preset | settings.yaml | clip.wav] [key=value ...] [options]", ""]
    lines += [about.strip(), "", "options:"]
    for word, (_, value, meaning) in (options or {}).items():
        lines.append(f"  {word + ' ' + value:<18} {meaning}")
    lines += ["  -h, --help         show this", "", "presets:"]
    for meaning, name in re.findall(r'    # (.*)\n    "([\w-]+)": \{', presets):
        lines.append(f"  {name:<18} {meaning}")
    for heading, *listed in re.findall(r'    # (.*)\n((?:    ".*\n)+)', text):
        if not sections or heading.split(",")[0] in sections:
            lines.append(f"\nsettings, {heading}:")
            for key, default, meaning in re.findall(r'    "([\w-]+)": (.*),  # (.*)', *listed):
                lines.append(f"  {key:<18} {meaning} [{default}]")
    if sections:
        lines += ["", "all settings: ./run.sh --help"]
    return "\n".join(lines)


def load(arguments: list[str], generating: bool = False) -> dict:
    """Settings from config.py, then a preset, a settings.yaml or a clip, then key=value arguments.

    Args:
        arguments: command-line words, e.g. ``["demo", "dropout=0.2"]``.
        generating: whether they are to generate with: of a clip its own random-seed, not its weights'.

    Returns:
        A new dict with every key of config.settings and a non-empty ``name``.

    Raises:
        UserError: unknown key or preset, wrong type, impossible combination.
    """
    settings = dict(config.settings)
    for argument in sorted(arguments, key=lambda argument: "=" in argument):  # keys come last
        if argument.startswith("-"):
            key = argument.lstrip("-").partition("=")[0]
            advice = "--help lists what there is"
            if key in config.settings:
                advice = f"settings take no dashes: {key}=VALUE"
            raise UserError(f"unknown option {_shown(argument)}; {advice}")
        if "=" in argument:
            key, text = argument.split("=", 1)
            update = {key: _read_value(key, text)}
        elif argument.endswith((".yaml", ".yml")):
            update = _read_yaml(argument)
        elif argument.lower().endswith(".wav"):
            recipe = read_recipe(argument)
            update = dict(recipe["settings"])
            if generating:
                update["random-seed"] = recipe["random-seed"]
        elif argument in config.presets:
            update = config.presets[argument]
        else:
            raise UserError(f"unknown preset {_shown(argument)}; {_meant(argument)}")
        for key in update:
            if key not in config.settings:
                raise UserError(
                    f"unknown setting {_shown(key)}{_nearest(key, config.settings)}; "
                    "--help lists every setting"
                )
        settings.update(update)
    return _checked(settings)


def _meant(word):
    """What a word that is no preset may have been meant to be."""
    if word in config.settings:
        return f"settings are given without spaces: {word}=VALUE"
    if word.endswith("]"):
        return "lists are given without spaces: sequence-lengths=[12,24]"
    if re.fullmatch(r".*([/\\].*|\.[A-Za-z]\w*)", word):
        return f"to learn from a recording: source={shlex.quote(word)}"
    known = f"presets are {', '.join(config.presets)}"
    return known + (_nearest(word, config.presets) or "; settings are given as key=value")


# what PyYAML raises: its own, and what Python makes of numbers and dates that are none, or of depth
_UNREADABLE = (yaml.YAMLError, ValueError, OverflowError, RecursionError, TypeError, AttributeError)


def _read_value(key: str, text: str):
    if isinstance(config.settings.get(key), str):
        return text  # YAML would see a comment in 'No #5.wav' and a number in '01'
    if re.fullmatch(r"\d+(:\d+)+", text):
        return text  # YAML takes 1:30 for 90
    try:
        return yaml.safe_load(text)
    except _UNREADABLE:
        raise UserError(
            f"{_shown(key)}: cannot read the value {_shown(text)}; write key=value"
        ) from None


def _shown(value) -> str:
    """A value for a message, shortened: a crafted one may be endless when written out."""
    try:
        return reprlib.repr(value)
    except ValueError:  # Python writes no integer of more than 4300 digits
        return "a number too long to show"


def _read_yaml(path: str) -> dict:
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read as settings ({error.strerror})") from None
    except _UNREADABLE:
        raise UserError(
            f"{path}: cannot be read as settings; expected YAML, lines of 'key: value'"
        ) from None
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise UserError(f"{path}: holds no settings; expected lines of 'key: value'")
    return values


def read_recipe(path: str) -> dict:
    """What a clip was made with, as generate.py wrote it into the wav.

    Returns:
        settings, with the random-seed of its weights' training; random-seed, its own; weights, their
        fingerprints; seed, that of the seed-source or None; name and take of the clip.

    Raises:
        UserError: the file is missing or no clip of ours.
    """
    from joanna import audio  # scipy takes a second to import

    try:
        recipe = json.loads(audio.read_comment(Path(path)))
        kinds = {"settings": dict, "random-seed": int, "weights": list, "name": str, "take": int}
        if all(isinstance(recipe[key], kind) for key, kind in kinds.items()) and "seed" in recipe:
            if re.fullmatch(_PLAIN, recipe["name"]):
                return recipe
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); expected a clip that generate.py wrote. "
            "To learn from a recording: source=PATH"
        ) from None
    except (*_UNREADABLE, KeyError):
        pass
    raise UserError(
        f"{path}: holds no recipe; expected a clip that generate.py wrote. "
        f"To learn from it: source={shlex.quote(path)}"
    )


def _nearest(word: str, known) -> str:
    near = difflib.get_close_matches(word[:40], known, 1)
    return f"; did you mean '{near[0]}'?" if near else ""


def _checked(settings: dict) -> dict:
    for key, (kind, low, high) in _RANGES.items():
        value = settings[key]
        if key == "section-count" and value == "auto":
            continue
        if kind is float and type(value) in (int, str):  # YAML takes 1e-4 for a word
            with contextlib.suppress(ValueError, OverflowError):
                value = settings[key] = float(value)
        span = f"{low} or more" if high is None else f"{low} to {high}"
        if type(value) is not kind:
            expected = _noun(kind) + ("" if low is None else f", {span}")
            expected += " or auto" if key == "section-count" else ""
            raise UserError(f"{key} is {_shown(value)}; expected {expected}")
        if low is not None and not (low <= value and (high is None or value <= high)):
            raise UserError(f"{key} is {_shown(value)}; expected {span}")
    for key, choices in _CHOICES.items():
        if settings[key] not in choices:
            raise UserError(f"{key} is {_shown(settings[key])}; expected {', '.join(choices)}")
    lengths = settings["sequence-lengths"]
    if not isinstance(lengths, list) or not 1 <= len(lengths) <= 100:
        raise UserError(f"sequence-lengths is {_shown(lengths)}; expected a list such as [24, 48]")
    if any(type(length) is not int or not 1 <= length <= 65536 for length in lengths):
        raise UserError(f"sequence-lengths is {_shown(lengths)}; expected whole numbers from 1 to 65536")
    settings["sequence-lengths"] = list(dict.fromkeys(lengths))
    if not isinstance(settings["source"], str) or not settings["source"]:
        raise UserError(f"source is {_shown(settings['source'])}; expected the path of a recording")
    if not isinstance(settings["seed-source"], str):
        raise UserError(
            f"seed-source is {_shown(settings['seed-source'])}; expected the path of a recording"
        )
    if settings["tensorboard"] and not importlib.util.find_spec("tensorboard"):
        raise UserError(
            "tensorboard is True, but the package is not there; set it False or: "
            ".venv/bin/python -m pip install -r requirements-tensorboard.txt"
        )
    if settings["takes"] > 1 and not settings["variation"]:
        raise UserError(
            f"takes is {settings['takes']} and variation 0: all would be the same; raise variation"
        )
    if not settings["name"]:
        plain = re.sub(r"[^\w.-]", "-", Path(settings["source"]).stem).lstrip("-.")
        settings["name"] = plain[:100] or "song"
    for key in ("name", *_FILE_NAMES):
        value = settings[key]
        if not isinstance(value, str) or not re.fullmatch(_PLAIN, value):
            raise UserError(
                f"{key} is {_shown(value)}; expected a plain name of letters, digits, ' ', '.', '-', '_'"
            )
    for files in (
        ("frames", *(settings[key] for key in ("coded-file", "phase-result", "magnitude-result"))),
        (
            *(settings[key] for key in ("phase-encoder", "magnitude-encoder")),
            *(f"{component}-{settings['lstm-file']}" for component in ("phase", "magnitude")),
        ),
    ):
        for index, name in enumerate(files):
            if name.lower() in (other.lower() for other in files[:index]):
                raise UserError(f"two files would be named '{name}'; give each a name of its own")
    if settings["frame-length"] % settings["overlap"]:
        raise UserError(
            f"overlap is {settings['overlap']}, which does not divide frame-length "
            f"{settings['frame-length']}: the frames could not be joined again; choose a divisor"
        )
    if settings["block-count"] < settings["overlap"]:
        raise UserError(
            f"block-count is {settings['block-count']}; one frame alone takes overlap "
            f"({settings['overlap']}) blocks: choose a larger block-count"
        )
    if bottleneck(settings) < 1:
        raise UserError(
            f"layer-count {settings['layer-count']} x dim-decrease {settings['dim-decrease']} leaves "
            f"no units of frame-length {settings['frame-length']} at the bottleneck; lower one"
        )
    if settings["section-count"] != "auto" and settings["seed-section"] >= settings["section-count"]:
        raise UserError(
            f"seed-section is {settings['seed-section']}; section-count is "
            f"{settings['section-count']}, so expected 0 to {settings['section-count'] - 1}"
        )
    return settings


def _noun(kind: type) -> str:
    return {int: "a whole number", float: "a number such as 0.5", bool: "True or False"}[kind]


def bottleneck(settings: dict) -> int:
    """Units at the bottleneck.

    Each encoder step is dim-decrease narrower than what it is given: 2048 -> 1798, 1548, 1298, 1048.
    """
    return settings["frame-length"] - settings["layer-count"] * settings["dim-decrease"]


def hop(settings: dict) -> int:
    """Samples from one frame to the next."""
    return settings["frame-length"] // settings["overlap"]


def _folders(settings):
    return [ROOT / place / settings["name"] for place in ("output", "weights")]


def output_folder(settings: dict) -> Path:
    """output/NAME, made if need be."""
    return _made(_folders(settings)[0])


def weights_folder(settings: dict) -> Path:
    """weights/NAME, made if need be."""
    return _made(_folders(settings)[1])


def _made(path):
    path.mkdir(parents=True, exist_ok=True)
    return path


def save(settings: dict) -> None:
    """Write the effective settings to output/NAME/settings.yaml, which then go on from the weights."""
    text = yaml.safe_dump({**settings, "load-weights": True}, sort_keys=False, allow_unicode=True)
    path = output_folder(settings) / "settings.yaml"
    store.write(path, lambda path: path.write_text(text, encoding="utf-8"), sealed=False)


def command(stage: str) -> str:
    """The command that runs a stage's script with the arguments of this one."""
    words = [word for word in _given if not word.startswith("load-weights=")]
    return shlex.join([_python(), f"{stage}.py", *words])


def _python():
    """How the Python that runs is called: run.sh uses that of .venv without entering it."""
    entered = os.environ.get("VIRTUAL_ENV") or Path(sys.prefix).resolve() != (ROOT / ".venv").resolve()
    return "python" if entered else ".venv/bin/python"


_given = []  # the arguments of the script that runs


def run_stage(
    main: Callable[..., None],
    about: str,
    sections: tuple[str, ...] = (),
    writes: bool = True,
    generating: bool = False,
    options: dict[str, tuple[str, str, str]] | None = None,
) -> None:
    """Run a stage script: --help, settings, main(settings), exit code 2 on a user's mistake.

    Args:
        main: the stage.
        about: what --help says of it.
        sections: headings in config.py whose settings --help lists; none: all.
        writes: whether it writes to the run's folders, which one process at a time may.
        generating: as of `load`.
        options: words like --out that a value follows -> the argument of `main` that takes it, and what
            --help calls and says of it.
    """
    for stream in (sys.stdout, sys.stderr):  # a file's name may be no text in the terminal's alphabet
        stream.reconfigure(errors="backslashreplace")
    arguments = [part for word in sys.argv[1:] for part in _parted(word, options or {})]
    if "-h" in arguments or "--help" in arguments:
        if hasattr(signal, "SIGPIPE"):
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `--help | head` is no mistake
        script = Path(sys.argv[0]).name
        program = "./run.sh" if script == "cost.py" else f"{_python()} {script}"
        print(help_text(about, sections, program, options))
        return

    def stop(number, frame):
        raise Stopped(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    settings, given = {}, {}
    try:
        for word, (name, *_) in (options or {}).items():
            while word in arguments:
                place = arguments.index(word)
                given[name] = "".join(arguments[place + 1 : place + 2])
                if not given[name].lower().endswith(".wav"):
                    shown = f"{word} {given[name]}".rstrip()
                    raise UserError(f"{shown}: expected the path of a .wav file after it")
                del arguments[place : place + 2]
        if "clip" in given and arguments:
            raise UserError(
                f"--from makes a clip with its own settings; for others: "
                f"{_python()} generate.py {given['clip']} {shlex.join(arguments)}"
            )
        _given[:] = [given["clip"]] if "clip" in given else arguments
        settings.update(load(_given, generating))
        with locked(settings) if writes else contextlib.nullcontext():
            main(settings, **given)
    except UserError as error:
        sys.exit(_complain(str(error), 2))
    except OSError as error:
        sys.exit(_complain(f"{error.filename or 'a file'}: {error.strerror or error}", 2))
    except Stopped as stopped:
        again = os.environ.get("JOANNA_COMMAND") or shlex.join([_python(), *sys.argv])
        if settings and not settings["load-weights"]:
            again += " load-weights=True"
        sys.exit(_complain(f"stopped; to go on: {again}", 128 + stopped.args[0]))
    except Exception as error:
        # the second is TensorFlow's, which is not imported here
        if type(error).__name__ not in ("MemoryError", "ResourceExhaustedError", "_ArrayMemoryError"):
            raise
        advice = (
            "close other programs, lower window-batch, batch-size or generate-seconds, "
            "or learn from fewer seconds"
        )
        said = [f" ({line[:200]})" for line in str(error).splitlines() if "llocat" in line]
        sys.exit(_complain(f"too little memory{''.join(said[:1])}; {advice}", 2))


@contextlib.contextmanager
def locked(settings: dict):
    """Hold the run's folders alone while in it; the system lets go of a dead process's hold.

    Raises:
        UserError: another process holds them, or they cannot be written to.
    """
    new = [path for path in _folders(settings) if not path.exists()]
    folders = output_folder(settings), weights_folder(settings)
    for folder in folders:
        if not os.access(folder, os.W_OK | os.X_OK):  # now, not after hours of training
            raise UserError(
                f"{folder} cannot be written to; change its permissions or choose another name"
            )
    path = folders[0] / ".lock"
    with path.open("a+") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:  # not on Windows
            pass
        except BlockingIOError:
            file.seek(0)
            raise UserError(
                f"process {file.read().strip() or '?'} is working on '{settings['name']}'; wait for "
                "it, stop it, or choose another name"
            ) from None
        file.truncate(0)
        print(os.getpid(), file=file, flush=True)
        try:
            yield
        finally:
            for folder in new:  # a mistyped source leaves none behind
                if all(inside == path for inside in folder.iterdir()):
                    shutil.rmtree(folder, ignore_errors=True)


def _parted(word, options):
    option, equals, value = word.partition("=")
    return [option, value] if equals and option in options else [word]


def _complain(text: str, code: int) -> int:
    program = Path(sys.argv[0]).name
    print(f"{'run.sh' if program == 'cost.py' else program}: {text}", file=sys.stderr)
    return code
