"""output/NAME/report.html: clips, scores, losses and settings in one file that opens offline."""

import base64
import contextlib
import json
import os
import platform
import shlex
import sys
from importlib import import_module
from pathlib import Path

import numpy as np

import config
from joanna import audio, cli, page, scores
from joanna.backend import tensorflow as tf
from joanna.errors import UserError
from joanna.settings import SETTINGS, load, takes_differ

_MAX_POINTS = 400  # per loss curve
_MAX_PEAKS = 2000  # per waveform
_MORE = 3  # takes that the command for more clips like one adds
_WORDS = {"source": "the song", "reconstruction": "the song as the autoencoders reproduce it"}


def write(
    path: Path, clips: list[dict], losses: dict[str, list], settings: dict, facts: dict, ends: float = 0
) -> None:
    """Write the report of a run with `settings`; UserError if there is no room or no permission.

    Args:
        clips: of `clip`, the source first; generated ones with "scores" of `scores.Reference.score`,
            "summary" and "rows" of its `summary` and `describe`.
        losses: name of a training -> rows of seconds, epochs, loss.
        facts: label -> text.
        ends: Unix time at which the run ends, if it is training: the page then reloads itself.
    """
    data = {
        "name": settings["name"],
        "ends": ends,
        "about": f"Audio in the style of {Path(settings['source']).name}, by a network trained on it"
        + (" and guided by the song." if settings["guided"] else "."),
        "clips": [_player(clip, settings) for clip in clips],
        "losses": [_curve(name, rows) for name, rows in losses.items()],
        "command": _command(settings),
        "facts": [*facts.items(), *_environment().items()],
        "settings": [[key, json.dumps(value)] for key, value in settings.items()],
    }
    page.write(path, "report.html", data)


def clip(name: str, signal: np.ndarray, rate: int) -> dict:
    """A clip for `write`: wav, peaks in % and spectrogram (PNG) of audio in -1 to 1 at `rate` Hz."""
    wav, picture = audio.wav_bytes(signal, rate), png(scores.picture([signal], rate))
    starts = np.linspace(0, len(signal), min(_MAX_PEAKS, len(signal)), endpoint=False).astype(int)
    peaks = np.rint(100 * np.maximum.reduceat(np.abs(audio.mid(signal)), starts)).astype(int).tolist()
    return {"name": name, "seconds": len(signal) / rate, "wav": wav, "picture": picture, "peaks": peaks}


def png(image: np.ndarray) -> bytes:
    """Encode an image ``(H, W, 3)`` uint8 as PNG."""
    return tf.io.encode_png(image).numpy()


def _player(clip, settings):
    """What the page shows of a clip."""
    copied = {key: value for key, value in clip.get("scores", {}).items() if key.startswith("copied")}
    wav, picture = _data_url("audio/wav", clip["wav"]), _data_url("image/png", clip["picture"])
    words, more, begins = [_WORDS.get(clip["name"], "")], "", 0.0
    if "scores" in clip:
        if settings["continue"]:  # after the recording
            begins = max(0.0, clip["seconds"] - settings["generate-seconds"])
        words = ["guided by the song" * settings["guided"], clip["summary"]]
        wav_file = f"output/{settings['name']}/{clip['name']}.wav"
        takes = min(SETTINGS["takes"].high, settings["takes"] + _MORE)
        varied = ["variation=0.4"] + ["whole-variation=auto"] * (settings["whole-variation"] != "auto")
        words_for_more = [f"takes={takes}", *([] if takes_differ(settings) else varied)]
        more = shlex.join([cli.python(), "generate.py", wav_file, *words_for_more])
    summary = "; ".join(filter(None, words))
    summary = summary and f"{summary[0].upper()}{summary[1:]}."
    shown = {"wav": wav, "picture": picture, "scores": copied, "summary": summary, "more": more}
    return {"rows": [], **clip, **shown, "begins": begins}


def _data_url(media_type, content):
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def _curve(name, rows):
    step = max(1, -(-len(rows) // _MAX_POINTS))
    points = [[round(time, 2), loss] for time, _, loss in [*rows[:-1:step], *rows[-1:]] if loss > 0]
    return {"name": name, "epochs": int(rows[-1][1]) if rows else 0, "points": points}


def _command(settings):
    """The command that reproduces the run: settings that differ from config.py and what its auto gives."""
    settings = {**settings, "load-weights": config.settings["load-weights"]}
    changed = {
        key: f"{key}={json.dumps(value) if isinstance(value, list | bool) else value}"
        for key, value in settings.items()
        if value != config.settings[key]
    }
    fewer = [word for key, word in changed.items() if config.settings[key] != "auto"]
    with contextlib.suppress(UserError):  # auto may be impossible with the others
        if settings.items() <= load(fewer).items():
            return shlex.join(["./run.sh", *fewer])
    return shlex.join(["./run.sh", *changed.values()])


def _environment():
    packages = ("keras", "tensorflow", "numpy", "scipy", "h5py")
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "Python": sys.version.split()[0],
        "packages": ", ".join(f"{name} {import_module(name).__version__}" for name in packages),
    }
