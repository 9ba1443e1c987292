"""The settings: their types, bounds and the files that depend on them; reading and checking."""

import ast
import contextlib
import difflib
import functools
import importlib.util
import math
import os
import re
import reprlib
import shlex
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml

import config
from joanna.audio import PLAIN_NAME, read_clip_metadata, title
from joanna.errors import UserError

# raised by PyYAML: its own, and Python's on invalid numbers and dates or on deep nesting
_UNREADABLE = (yaml.YAMLError, ValueError, OverflowError, RecursionError, TypeError, AttributeError)


@dataclass(frozen=True)
class Setting:
    """Type, bounds and dependent files of a setting."""

    type: type  # of its value; a whole number is accepted for a float
    low: float = -math.inf  # smallest value
    high: float = math.inf  # largest value
    choices: tuple[str, ...] = ()  # words allowed
    stage: str = ""  # stage whose files, and those of later stages, depend on it; empty: none
    training_only: bool = False  # whether trained weights can be used with another value
    duration: bool = False  # whether it is in seconds, which may be written as minutes:seconds
    curve: bool = False  # whether it may change in time, see `curve`


SETTINGS = {
    "source": Setting(str),
    "name": Setting(str),
    "load-weights": Setting(bool),
    "random-seed": Setting(int, 0, 2**31 - 1, stage="autoencoder", training_only=True),
    "tensorboard": Setting(bool),
    "sample-rate": Setting(int, 1000, 384000, stage="preprocess"),
    "stereo": Setting(bool, stage="preprocess"),
    "frame-length": Setting(int, 16, 65536, choices=("auto",), stage="preprocess"),
    "overlap": Setting(int, 2, 64, stage="preprocess"),
    "magnitude-power": Setting(float, 0.1, 1.0, stage="preprocess"),
    "start": Setting(float, 0.0, 86400.0, stage="preprocess", duration=True),
    "seconds": Setting(float, 0.0, 86400.0, stage="preprocess", duration=True),
    "section-count": Setting(int, 1, 100000, choices=("auto",), stage="preprocess"),
    "block-count": Setting(int, 2, 1000000, stage="preprocess"),
    "layer-count": Setting(int, 1, 64, stage="autoencoder"),
    "dim-decrease": Setting(int, 0, 65536, choices=("auto",), stage="autoencoder"),
    "dropout": Setting(float, 0.0, 0.99, stage="autoencoder", training_only=True),
    "lstm-layers": Setting(int, 1, 16, stage="lstm"),
    "minutes": Setting(float, 0.0, 100000.0, stage="autoencoder", training_only=True),
    "learning-rate": Setting(float, 1e-8, 1.0, stage="autoencoder", training_only=True),
    "preview-minutes": Setting(float, 0.0, 100000.0),
    "ae-epoch": Setting(int, 1, 10**6),
    "ae-iteration": Setting(int, 1, 10**6),
    "batch-size": Setting(int, 1, 65536, stage="autoencoder", training_only=True),
    "lstm-epoch": Setting(int, 1, 10**6),
    "lstm-iteration": Setting(int, 1, 10**6),
    "generator-rate": Setting(float, 1e-8, 1.0, stage="lstm", training_only=True),
    "window-length": Setting(int, 2, 65536, stage="lstm", training_only=True),
    "window-batch": Setting(int, 1, 65536, stage="lstm", training_only=True),
    "own-share": Setting(float, 0.0, 1.0, stage="lstm", training_only=True),
    "method": Setting(str, choices=("part", "whole", "both")),
    "sequence-lengths": Setting(list, 1, 65536),
    "whole-frames": Setting(int, 1, 65536),
    "generate-seconds": Setting(float, 0.1, 86400.0, duration=True),
    "seed-section": Setting(int, 0),
    "seed-source": Setting(str),
    "continue": Setting(bool),
    "variation": Setting(float, 0.0, 0.99, curve=True),
    "whole-variation": Setting(float, 0.0, 0.99, choices=("auto",), curve=True),
    "guided": Setting(bool),
    "jumps": Setting(float, 0.0, 1.0),
    "takes": Setting(int, 1, 100),
    "phase-method": Setting(str, choices=("network", "follow", "griffin-lim", "all")),
    "phase-iterations": Setting(int, 0, 1000),
    "match-statistics": Setting(bool),
    "coded-file": Setting(str),
    "phase-encoder": Setting(str),
    "magnitude-encoder": Setting(str),
    "lstm-file": Setting(str),
    "phase-result": Setting(str),
    "magnitude-result": Setting(str),
}
EPOCH_PREFIX = {"autoencoder": "ae", "lstm": "lstm"}  # of the settings of a stage that trains
REPLACED = ("old", "previous", "beside")  # NAME.old.weights.h5 and so on are weights that others replace
_REPEAT = ",repeat"  # at the end of a curve
_COMMANDS = {"sweep": "./run.sh sweep, then its words", "test": "./run.sh test", "help": "./run.sh --help"}
_FRAME_SECONDS, _BOTTLENECK = 0.128, 1048  # 2048 samples at 16 kHz; units of its bottleneck, where auto
_NAMES = {bool: "True or False", int: "a whole number", float: "a number", str: "text"}
_NAMES[list] = "a list such as [24,48]"


def load(arguments: list[str], generating: bool = False) -> dict:
    """Read settings from config.py, then a preset, settings.yaml or clip, then key=value arguments.

    Args:
        arguments: command-line words, e.g. ``["demo", "dropout=0.2"]``.
        generating: whether a clip's own random-seed counts, not that of its weights.

    Raises:
        UserError: unknown key or preset, wrong type, impossible combination, a mistake in config.py.
    """
    _check_config()
    settings = dict(config.settings)
    for argument in sorted(arguments, key=_is_setting):  # keys come last
        update = _read_argument(argument, generating)
        file = "" if _is_setting(argument) or argument in config.presets else f"{argument}: "
        for key, value in update.items():
            try:
                _checked_value(key, value, _setting(key, "--help lists every setting"))
            except UserError as error:
                raise UserError(f"{file}{error}") from None
        settings.update(update)
    read = [argument for argument in arguments if not _is_setting(argument)]
    if len(read) > 1:
        raise UserError(
            f"expected one preset, settings.yaml or clip, not {' and '.join(read)}; choose one and give "
            "what differs as key=value"
        )
    return _checked(settings)


def _is_setting(word):
    """Whether a word is key=value, and not a file with = in its path."""
    key, equals, _ = word.partition("=")
    return bool(equals) and (key in SETTINGS or not ("/" in key or os.path.isfile(word)))


def _setting(key, advice):
    """The row of a key in SETTINGS."""
    if key not in SETTINGS:
        raise UserError(f"unknown setting {_shortened(key)}{_nearest(str(key), SETTINGS)} ({advice})")
    return SETTINGS[key]


def _check_config():
    """Raise UserError for a mistake in config.py: a key unknown, missing or repeated, a wrong value."""
    for name in ("settings", "presets"):
        if not isinstance(getattr(config, name, None), dict):
            near = difflib.get_close_matches(name, vars(config).keys() - {name}, 1)
            found = f", found '{near[0]}'" if near else ""
            raise UserError(
                f"{_place(*near or [name])}: expected a dictionary named '{name}'{found}; write {name} = "
                "{...}, or restore the file with: git checkout config.py"
            )
    for key, first, second in _repeated_keys(config.__file__):
        raise UserError(f"config.py, line {second}: '{key}' is already in line {first}; delete one of them")
    presets = [(("presets", name), values) for name, values in config.presets.items()]
    for path, values in [(("settings",), config.settings), *presets]:
        if not isinstance(values, dict):
            reason = f"preset '{path[-1]}' is {_shortened(values)}; expected a dictionary of settings"
            raise UserError(f"{_place(*path)}: {reason}")
        for key, value in values.items():
            try:
                advice = "correct or delete it; docs/reference.md lists every setting"
                _checked_value(key, value, _setting(key, advice))
            except UserError as error:
                raise UserError(f"{_place(*path, key)}: {error}") from None
    for key in SETTINGS:
        if key not in config.settings:
            reason = f"settings has no '{key}'; add it (docs/reference.md has its default)"
            raise UserError(f"{_place('settings')}: {reason}")


def _place(*path):
    """Where config.py has a key, for a message."""
    lines = config_lines(config.__file__).get(path)
    return f"config.py, line {lines[0]}" if lines else "config.py"


@functools.cache
def config_lines(file: str) -> dict[tuple, tuple[int, int]]:
    """First and last line of each key in config.py; a key is ``("presets", "demo", "dropout")``."""
    found: dict[tuple, tuple[int, int]] = {}

    def visit(node, keys):
        entries: list = []
        match node:
            case (
                ast.Assign([ast.Name(name)], value)
                | ast.AnnAssign(ast.Name(name), _, value)
                | ast.keyword(str(name), value)
            ):
                entries = [(name, node.lineno, value)]
            case ast.Assign([ast.Subscript(ast.Name(table), ast.Constant(name))], value):
                keys, entries = (table,), [(name, node.lineno, value)]
            case ast.Dict():
                entries = [(key.value, key.lineno, value) for key, value in _constant_keys(node)]
            case _:
                for child in ast.iter_child_nodes(node):
                    visit(child, keys)
        for name, line, value in entries:
            path = (*keys, name)
            found[path] = line, value.end_lineno
            visit(value, path)

    visit(ast.parse(Path(file).read_bytes()), ())
    return found


@functools.cache
def _repeated_keys(file):
    """Keys that a dictionary of config.py has twice, and their lines; Python takes the last."""
    repeated = []
    for node in ast.walk(ast.parse(Path(file).read_bytes())):
        lines: dict = {}
        for key, _ in _constant_keys(node) if isinstance(node, ast.Dict) else []:
            if key.value in lines:
                repeated.append((key.value, lines[key.value], key.lineno))
            lines[key.value] = key.lineno
    return repeated


def _constant_keys(node):
    """Keys and values of a dictionary, without ** and computed keys."""
    pairs = zip(node.keys, node.values, strict=True)
    return [(key, value) for key, value in pairs if isinstance(key, ast.Constant)]


def _read_argument(argument, generating):
    """Settings of one word of the command line."""
    if argument.startswith("-"):
        key = argument.lstrip("-").partition("=")[0]
        advice = f"settings take no dashes: {key}=VALUE" if key in SETTINGS else "--help lists the options"
        raise UserError(f"unknown option {_shortened(argument)}; {advice}")
    if _is_setting(argument):
        key, text = argument.split("=", 1)
        return {key: _read_value(key, text)}
    path = os.path.expanduser(argument)
    if argument.endswith((".yaml", ".yml")):
        return _converted(read_yaml(path))
    if argument.lower().endswith(".wav"):
        metadata = read_clip_metadata(path)
        seed = {"random-seed": metadata["random-seed"]} if generating else {}
        return _converted({**metadata["settings"], **seed})
    if argument not in config.presets:
        raise UserError(f"unknown preset {_shortened(argument)}; {_suggestion(argument)}")
    return config.presets[argument]


def _converted(settings):
    """Settings that an earlier version wrote, with what it did where it had no such setting.

    Its variation was what `jumps` is now, and its clips were guided.
    """
    if not {"match-statistics", "random-seed", "phase-result"} <= settings.keys():
        return settings
    settings = {"phase-iterations": 0, **settings}
    if "guided" in settings:
        return settings
    jumps = settings.get("variation")  # older ones have none, and the network's own output as its input
    changed = {"guided": False} if jumps is None else {"guided": True, "jumps": jumps}
    return {**settings, **changed, "variation": 0.0}


def _suggestion(word):
    """Suggestion for a word that is not a preset."""
    if word.lower() in _COMMANDS:
        return f"expected {_COMMANDS[word.lower()]}"
    if word in SETTINGS:
        return f"settings are given without spaces: {word}=VALUE"
    if word.endswith("]"):
        return "lists are given without spaces: sequence-lengths=[12,24]"
    if re.fullmatch(r".*([/\\].*|\.[A-Za-z]\w*)", word):
        return f"to learn from a recording: source={shlex.quote(word)}"
    presets = [*map(str, config.presets)]
    nearest = _nearest(word, presets) or "; settings are given as key=value"
    return f"presets are {', '.join(presets) or 'not in config.py'}{nearest}"


def _is_text(key):
    row = SETTINGS.get(key)
    return row and (row.type is str or row.duration or row.curve)


def _read_value(key, text):
    # YAML would see a comment in 'No #5.wav', a number in '01', 90 in 1:30, a dictionary in 1: and 48 in 060
    if _is_text(key) or re.fullmatch(r"\d+(:\d+)+", text):
        return text
    try:
        return yaml.safe_load(re.sub(r"(?<![\w.])0+(?=\d)", "", text))
    except _UNREADABLE:
        message = f"{_shortened(key)}: cannot read the value {_shortened(text)}; write key=value"
        raise UserError(message) from None


def _shortened(value):
    """A value for a message; a crafted one may be endless when written out."""
    try:
        return reprlib.repr(value)
    except ValueError:  # Python writes no integer of more than 4300 digits
        return "a number too long to show"


def read_yaml(path: str) -> dict:
    """Read a settings file; UserError if it is missing or holds something else."""
    try:
        content = Path(path).read_text(encoding="utf-8")
        values, texts = yaml.safe_load(content), yaml.load(content, yaml.BaseLoader)
    except OSError as error:
        raise UserError(f"{path}: cannot be read as settings ({error.strerror})") from None
    except _UNREADABLE:
        raise UserError(f"{path}: cannot be read as settings; expected lines of 'key: value'") from None
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise UserError(f"{path}: holds no settings; expected lines of 'key: value'")
    # YAML sees a number in the name 01, and 60.4 in the curve 1:0.4
    return {
        key: texts[key] if type(value) in (int, float) and _is_text(key) else value
        for key, value in values.items()
    }


def _nearest(word, known):
    near = difflib.get_close_matches(word[:40], known, 1)
    return f"; did you mean '{near[0]}'?" if near else ""


def _checked(settings):
    """The settings, converted and with a name, if each value and their combination are possible."""
    for key, setting in SETTINGS.items():
        settings[key] = _checked_value(key, settings[key], setting)
    settings["sequence-lengths"] = list(dict.fromkeys(settings["sequence-lengths"]))
    if not settings["source"]:
        raise UserError("source is ''; expected the path of a recording")
    if settings["tensorboard"] and not importlib.util.find_spec("tensorboard"):
        raise UserError(
            "tensorboard is True, but the package is not installed; set it False or run: "
            ".venv/bin/python -m pip install -r requirements-tensorboard.txt"
        )
    if settings["continue"] and not settings["seed-source"]:
        raise UserError("continue is True, but seed-source is empty; set it to the recording to continue")
    if settings["takes"] > 1 and not takes_differ(settings):
        raise UserError(
            f"takes is {settings['takes']}, but all takes of a clip would be equal: raise variation, or "
            "whole-variation"
        )
    if not settings["name"]:
        plain = re.sub(r"[^\w.-]", "-", title(settings["source"])).lstrip("-.")
        settings["name"] = plain[:100] or "song"
    _check_file_names(settings)
    _resolve_widths(settings)
    _check_shapes(settings)
    return settings


def _checked_value(key, value, setting):
    """A setting's value, converted to its type, if it is within its bounds."""
    if value is None and setting.type is str:  # empty in a YAML file
        value = ""
    if isinstance(value, str) and value in setting.choices:
        return value
    if setting.type is float and type(value) in (int, str):  # YAML takes 1e-4 for a word
        with contextlib.suppress(ValueError, OverflowError):
            value = _seconds(value) if setting.duration and ":" in str(value) else float(value)
    if setting.curve and isinstance(value, str) and _is_curve(value, setting):
        return value
    bounds = f"{setting.low} to {setting.high}" if setting.high < math.inf else f"{setting.low} or more"
    possible, expected = type(value) is setting.type, _NAMES[setting.type]
    expected += " of seconds, or minutes:seconds" * setting.duration
    if setting.type in (int, float):
        expected += f", {bounds}" + "".join(f", or {choice}" for choice in setting.choices)
        if setting.curve:
            expected += ", or seconds:number pairs in order, such as 0:0,20:0.4 or 0:0,20:0.4,repeat"
        if possible:
            possible, expected = setting.low <= value <= setting.high, bounds
    elif setting.choices:
        possible, expected = False, f"{', '.join(setting.choices[:-1])} or {setting.choices[-1]}"
    elif possible and setting.type is list:
        expected = f"1 to 100 whole numbers from {bounds}"
        in_bounds = [type(number) is int and setting.low <= number <= setting.high for number in value]
        possible = 1 <= len(value) <= 100 and all(in_bounds)
    if not possible:
        raise UserError(f"{key} is {_shortened(value)}; expected {expected}")
    return value


class Curve(NamedTuple):
    """Values that change in time: linear between points, constant before the first and after the last."""

    seconds: tuple[float, ...]
    values: tuple[float, ...]
    period: float = math.inf  # seconds after which it begins again, if it does

    def at(self, times: np.ndarray | float) -> np.ndarray:
        """Values at times in seconds; before 0 that at 0."""
        return np.interp(np.fmod(np.maximum(times, 0), self.period), self.seconds, self.values)


def curve(value: float | str) -> Curve:
    """The curve of a setting: a number, or points such as 0:0,20:0.4, and ,repeat; ValueError if neither."""
    text = re.sub(r"\s*,\s*", ",", str(value))
    points = text.removesuffix(_REPEAT)
    pairs = (points if ":" in text else f"0:{points}").split(",")
    seconds, values = zip(*(map(float, pair.split(":")) for pair in pairs), strict=True)
    return Curve(seconds, values, seconds[-1] if text.endswith(_REPEAT) else math.inf)


def variation(settings: dict, method: str) -> Curve:
    """The curve of the variation of a method, part or whole."""
    own = settings["whole-variation"] if method == "whole" else "auto"
    return curve(settings["variation"] if own == "auto" else own)


def _is_curve(text, setting):
    try:
        seconds, values, period = curve(text)
    except ValueError:  # not numbers, or not in pairs
        return False
    ascending = all(earlier < later for earlier, later in pairwise((-1.0, *seconds, math.inf)))
    possible = all(setting.low <= number <= setting.high for number in values)
    return possible and ascending and seconds[0] >= 0 and period > 0


def _seconds(text):
    """Seconds of minutes:seconds or hours:minutes:seconds; ValueError if the text is neither.

    They are those of the decimal number, to the last bit: 1:30.1 is 90.1.
    """
    if not re.fullmatch(r"[0-9]+(:[0-5]?[0-9]){1,2}(\.[0-9]+)?", text):
        raise ValueError(text)
    seconds = Decimal(0)
    for part in text.split(":"):
        seconds = 60 * seconds + Decimal(part)
    return float(seconds)


def takes_differ(settings: dict) -> bool:
    """Whether takes of each clip differ: with variation before its end, or with jumps if guided."""
    end = settings["generate-seconds"]

    def varies(method):
        rates = variation(settings, method)
        begun = (value for second, value in zip(rates.seconds, rates.values, strict=True) if second < end)
        return any([*begun, np.interp(end, rates.seconds, rates.values)])

    return all(map(varies, methods(settings))) or bool(settings["guided"] and settings["jumps"])


def _check_file_names(settings):
    encoders, results = ("phase-encoder", "magnitude-encoder"), ("phase-result", "magnitude-result")
    for key in ("name", "coded-file", "lstm-file", *encoders, *results):
        folder = f"(sweeps/{PLAIN_NAME}/)?" if key == "name" else ""  # a run of a sweep
        if not re.fullmatch(folder + PLAIN_NAME, settings[key]):
            expected = "a plain name of letters, digits, ' ', '.', '-', '_'"
            raise UserError(f"{key} is {_shortened(settings[key])}; expected {expected}")
    output = ["frames", *(settings[key] for key in ("coded-file", *results))]
    lstms = [f"{component}-{settings['lstm-file']}" for component in ("phase", "magnitude")]
    weights = [*(settings[key] for key in encoders), *lstms]
    weights += [f"{name}.{word}" for name in weights for word in REPLACED]
    for names in (output, weights):
        for index, name in enumerate(names):
            if name.lower() in (other.lower() for other in names[:index]):
                raise UserError(f"two files would be named '{name}'; give each its own name")


def _resolve_widths(settings):
    """Replace auto by numbers: files and clips hold these."""
    if settings["frame-length"] == "auto":
        step = math.lcm(64, settings["overlap"])  # a length that an FFT is fast with
        width = step * max(1, round(_FRAME_SECONDS * settings["sample-rate"] / step))
        settings["frame-length"] = width
        if settings["dim-decrease"] != "auto" and width < 2048 and bottleneck(settings) < width / 32:
            raise UserError(
                f"sample-rate {settings['sample-rate']} makes frames of {width} samples, too few for "
                f"layer-count {settings['layer-count']} x dim-decrease {settings['dim-decrease']}: set "
                "dim-decrease=auto, or give frame-length"
            )
    if settings["dim-decrease"] == "auto":
        width = settings["frame-length"]
        narrowest = min(_BOTTLENECK, width * _BOTTLENECK // 2048)
        settings["dim-decrease"] = (width - narrowest) // settings["layer-count"]


def _check_shapes(settings):
    if settings["frame-length"] % settings["overlap"]:
        raise UserError(
            f"overlap is {settings['overlap']}, which does not divide frame-length "
            f"{settings['frame-length']}: the STFT could not be inverted; choose a divisor"
        )
    if settings["block-count"] < settings["overlap"]:
        raise UserError(
            f"block-count is {settings['block-count']}; a single frame takes overlap "
            f"({settings['overlap']}) blocks: choose a larger block-count"
        )
    if bottleneck(settings) < 1:
        raise UserError(
            f"layer-count {settings['layer-count']} x dim-decrease {settings['dim-decrease']} leaves "
            f"no units of frame-length {settings['frame-length']} at the bottleneck; lower one, or set "
            "dim-decrease=auto"
        )
    count, seed = settings["section-count"], settings["seed-section"]
    if count != "auto" and seed >= count:
        raise UserError(f"seed-section is {seed}; section-count is {count}, so expected 0 to {count - 1}")


def bottleneck(settings: dict) -> int:
    """Units at the bottleneck.

    Each encoder step is dim-decrease narrower than its input: 2048 -> 1798, 1548, 1298, 1048.
    """
    return settings["frame-length"] - settings["layer-count"] * settings["dim-decrease"]


def hop(settings: dict) -> int:
    """Samples from one frame to the next."""
    return settings["frame-length"] // settings["overlap"]


def clip_blocks(settings: dict) -> int:
    """Blocks of a generated clip; the last one may be cut."""
    return math.ceil(round(settings["generate-seconds"] * settings["sample-rate"]) / hop(settings))


def methods(settings: dict) -> list[str]:
    """The generation methods: part, whole or both."""
    return ["part", "whole"] if settings["method"] == "both" else [settings["method"]]


def schedule(settings: dict, stage: str) -> tuple[int, int]:
    """Epochs per iteration and iterations of each training of a stage, autoencoder or lstm."""
    prefix = EPOCH_PREFIX[stage]
    return settings[f"{prefix}-epoch"], settings[f"{prefix}-iteration"]


def total_epochs(settings: dict, stage: str) -> int:
    """Epochs of all iterations of each training of a stage."""
    return math.prod(schedule(settings, stage))
