"""output/NAME/report.html: clips, scores, losses and settings in one file that opens offline."""

import base64
import json
import os
import platform
import shlex
import sys
from importlib import import_module
from pathlib import Path

import numpy as np

import config
from joanna import audio, files, scores
from joanna.backend import tensorflow as tf

_MAX_POINTS = 400  # per loss curve


def write(path: Path, clips: list[dict], losses: dict[str, list], settings: dict, facts: dict) -> None:
    """Write the report of a run with `settings`; UserError if there is no room or no permission.

    Args:
        clips: of `clip`, the source first; optionally with "scores" of `scores.Reference.score` and
            "rows" of `scores.Reference.describe`.
        losses: name of a training -> rows of seconds, epochs, loss.
        facts: label -> text.
    """
    page = {
        "title": f"JOANNA: {settings['name']}",
        "about": f"Audio in the style of {Path(settings['source']).name}, by a network trained on it"
        + (" and guided by the song." if settings["guided"] else "."),
        "clips": [_player(clip) for clip in clips],
        "losses": [_curve(name, rows) for name, rows in losses.items()],
        "command": _command(settings),
        "facts": [*facts.items(), *_environment().items()],
        "settings": [[key, json.dumps(value)] for key, value in settings.items()],
    }
    text = json.dumps(page).replace("<", "\\u003c")  # "</script>" in a name would end the data
    html = Path(__file__).with_name("report.html").read_text(encoding="utf-8").replace("DATA", text, 1)
    files.write_text(path, html)


def clip(name: str, signal: np.ndarray, rate: int) -> dict:
    """A clip for `write`: wav and spectrogram (PNG) of audio ``(S,)`` in -1 to 1 at `rate` Hz."""
    wav, picture = audio.wav_bytes(signal, rate), png(scores.picture([signal], rate))
    return {"name": name, "seconds": len(signal) / rate, "wav": wav, "picture": picture}


def png(image: np.ndarray) -> bytes:
    """Encode an image ``(H, W, 3)`` uint8 as PNG."""
    return tf.io.encode_png(image).numpy()


def _player(clip):
    copied = {key: value for key, value in clip.get("scores", {}).items() if key.startswith("copied")}
    wav, picture = _data_url("audio/wav", clip["wav"]), _data_url("image/png", clip["picture"])
    return {"rows": [], **clip, "wav": wav, "picture": picture, "scores": copied}


def _data_url(media_type, content):
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def _curve(name, rows):
    step = max(1, -(-len(rows) // _MAX_POINTS))
    points = [[round(time, 2), loss] for time, _, loss in [*rows[:-1:step], *rows[-1:]] if loss > 0]
    return {"name": name, "epochs": int(rows[-1][1]) if rows else 0, "points": points}


def _command(settings):
    """The command that reproduces the run: settings that differ from config.py."""
    changed = [
        f"{key}={json.dumps(value) if isinstance(value, list | bool) else value}"
        for key, value in settings.items()
        if value != config.settings[key] and key != "load-weights"
    ]
    return shlex.join(["./run.sh", *changed])


def _environment():
    packages = ("keras", "tensorflow", "numpy", "scipy", "h5py")
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "Python": sys.version.split()[0],
        "packages": ", ".join(f"{name} {import_module(name).__version__}" for name in packages),
    }
