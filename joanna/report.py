"""output/NAME/report.html: everything to hear, see and know of a run, in one file that opens offline."""

import base64
import io
import json
import os
import platform
import shlex
import sys
from importlib import import_module
from pathlib import Path

import numpy as np

import config
from joanna import audio, scores, store

_POINTS = 400  # of a loss curve, at most


def write(path: Path, clips: list[dict], losses: dict[str, list], settings: dict, facts: dict) -> None:
    """Write the report.

    Args:
        path: where.
        clips: the source first; each with name, seconds, wav (the file's bytes), picture (a PNG's bytes)
            and, but for the source, scores: of `describe`, and found: of `scores.Song.score`.
        losses: training's name -> rows of seconds, epochs, loss.
        settings: of the run.
        facts: words -> what more there is to know.
    """
    shown = []
    for clip in clips:
        found = clip.get("found") or {}
        copy = None
        if found.get("copied-seconds"):
            copy = {key: found[f"copied-{key}"] for key in ("seconds", "at", "from")}
        shown.append(
            {
                "name": clip["name"],
                "seconds": clip["seconds"],
                "wav": _inline("audio/wav", clip["wav"]),
                "picture": _inline("image/png", clip["picture"]),
                "scores": clip.get("scores", []),
                "copy": copy,
                "passages": [[copy["at"], copy["seconds"]]] if copy else [],
            }
        )
    shown[0]["passages"] = [
        [clip["copy"]["from"], clip["copy"]["seconds"]] for clip in shown if clip["copy"]
    ]
    page = {
        "title": f"JOANNA: {settings['name']}",
        "about": f"New audio made from {Path(settings['source']).name}, by a network that learned it.",
        "clips": shown,
        "losses": [_curve(name, rows) for name, rows in losses.items()],
        "command": _command(settings),
        "facts": [*facts.items(), *_machine().items()],
        "settings": [[key, json.dumps(value)] for key, value in settings.items()],
    }
    # '</script>' in a name would end the data
    text = json.dumps(page).replace("<", "\\u003c")
    html = Path(__file__).with_name("report.html").read_text(encoding="utf-8").replace("DATA", text, 1)
    store.write(path, lambda path: path.write_text(html, encoding="utf-8"), sealed=False)


def clip(name: str, signal: np.ndarray, rate: int) -> dict:
    """What `write` takes of a clip: audio ``(S,)`` in -1 to 1 at `rate` Hz, and its picture."""
    wav = io.BytesIO()
    audio.save_audio(wav, signal, rate)
    return {
        "name": name,
        "seconds": len(signal) / rate,
        "wav": wav.getvalue(),
        "picture": png(scores.picture([signal], rate)),
    }


def png(image: np.ndarray) -> bytes:
    """An image ``(height, width, 3)`` uint8 as a PNG file's bytes."""
    from joanna import backend

    return backend.tensorflow.io.encode_png(image).numpy()


def describe(found: dict, song: dict) -> list[tuple[str, str]]:
    """A clip's scores in plain words, with their yardsticks, and what to turn.

    Args:
        found: of `scores.Song.score`.
        song: of `scores.Song.yardsticks`.
    """
    share = found["timbre"] / max(song["timbre-halves"], 1e-9)
    near = "nearer than" if share < 0.9 else "about as near as" if share < 1.1 else "further than"
    words = [
        ("timbre", f"{found['timbre']:.0f}: {near} the song's own halves are to each other "
         f"({song['timbre-halves']:.0f}); noise with its spectrum: {song['timbre-noise']:.0f}"),
        ("spectrum", f"{found['spectrum']:.1f} dB from the song's; under 3 is close"),
        ("harmony", f"{found['harmony']:.2f} of 1: how alike the notes' shares are"),
        ("onsets", f"{found['onsets']:.1f} a second; the song has {song['onsets']:.1f}"),
        ("copied", f"{found['copied']:.0%} of its seconds are alike some second of the song "
         f"(song's second half to its first: {song['copied-halves']:.0%})"),
        ("loop", f"longest stretch to return: {found['loop']:.1f} s; the song's: {song['loop']:.1f} s"),
        ("hop buzz", f"{found['hop-buzz']:.0f} dB of wavering at the frames' rate; "
         f"the song has {song['hop-buzz']:.0f}"),
    ]  # fmt: skip
    if found["copied-seconds"]:
        place = f"{found['copied-at']:.1f} s here, {found['copied-from']:.1f} s in the song"
        words.insert(5, ("longest alike", f"{found['copied-seconds']:.1f} s: {place}"))
    return words + [("hint", hint) for hint in scores.advice(found, song)]


def _inline(kind, content):
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _curve(name, rows):
    step = max(1, -(-len(rows) // _POINTS))
    kept = [*rows[:-1:step], *rows[-1:]]
    points = [[round(seconds, 2), loss] for seconds, _, loss in kept if loss > 0]
    name = name.replace(" new", " generator")  # which has new LSTM layers
    return {"name": name, "epochs": int(rows[-1][1]) if rows else 0, "points": points}


def _command(settings):
    """The command that makes it again: what differs from config.py."""
    changed = [
        f"{key}={json.dumps(value) if isinstance(value, list | bool) else value}"
        for key, value in settings.items()
        if value != config.settings[key] and key != "load-weights"
    ]
    return shlex.join(["./run.sh", *changed])


def _machine():
    packages = ("keras", "tensorflow", "numpy", "scipy", "h5py")
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "Python": sys.version.split()[0],
        "packages": ", ".join(f"{name} {import_module(name).__version__}" for name in packages),
    }
