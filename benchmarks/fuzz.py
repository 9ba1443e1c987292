"""Many altered recordings and random settings: each read or refused with a sentence, within seconds.

Counts what was read and refused, and names each input that raised anything else, took longer than 5 s,
or left a file outside its folder. The tests do some hundreds of each; this does as many as asked for.
"""

import contextlib
import json
import os
import random
import signal
import string
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path

import common

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import wavs

import config
from joanna import audio, settings
from joanna.errors import UserError

_TOO_LONG = 5  # seconds
_VALUES = [
    "",
    "0",
    "-1",
    "1e9",
    ".nan",
    ".inf",
    "true",
    "[1, 2]",
    "[]",
    "{a: b}",
    "../x",
    "/etc/x",
    "a/b",
]
_VALUES += [
    "&a [*a]",
    "!!python/object/apply:os.getcwd []",
    "2001-99-99",
    "9" * 5000,
    "[" * 1000,
    "\0",
    "é",
]


def audio_case(rng: random.Random, folder: Path) -> None:
    """Load an altered recording at a usual rate."""
    path = folder / "altered.wav"
    path.write_bytes(wavs.mutated(rng))
    audio.load_audio(path, rng.choice((8000, 16000, 44100)))


def settings_case(rng: random.Random, folder: Path) -> None:
    """Load random words, and files of them, as settings."""
    words = []
    for _ in range(rng.randrange(5)):
        noise = "".join(rng.choices(string.printable + "é∞", k=rng.randrange(12)))
        key = rng.choice([*config.settings, noise])
        words.append(f"{key}={rng.choice([*_VALUES, noise, str(rng.uniform(-9, 9999))])}")
    if rng.random() < 0.3:
        path = folder / "settings.yaml"
        path.write_text("\n".join(word.replace("=", ": ", 1) for word in words), errors="replace")
        words = [str(path)]
    elif rng.random() < 0.3:
        words.append("".join(rng.choices(string.printable, k=rng.randrange(9))))
    settings.load(words)


def _late(number, frame):
    raise TimeoutError


def main() -> None:
    """Run the cases, print the counts, write the figures."""
    parser = common.parser(__doc__)
    parser.add_argument("--count", type=int, default=20_000, help="inputs of each kind")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    signal.signal(signal.SIGALRM, _late)
    figures, failures = {}, []
    with tempfile.TemporaryDirectory() as place:
        outside, folder = Path(place), Path(place) / "folder"
        folder.mkdir()
        os.chdir(folder)
        for case in (audio_case, settings_case):
            counts = Counter(read=0, refused=0, failed=0)
            for index in range(options.count):
                rng = random.Random(f"{options.seed}/{case.__name__}/{index}")
                signal.alarm(_TOO_LONG)
                try:
                    with contextlib.redirect_stdout(None):
                        case(rng, folder)
                    counts["read"] += 1
                except UserError:
                    counts["refused"] += 1
                except Exception:
                    counts["failed"] += 1
                    failures.append(f"{case.__name__} {index}:\n{traceback.format_exc()}")
                finally:
                    signal.alarm(0)
            counts["outside"] = len(list(outside.iterdir())) - 1
            figures[case.__name__] = dict(counts)
        os.chdir(outside)
    print("\n".join(failures[:20]))
    rows = [["", *figures["audio_case"]]]
    common.report(rows + [[name, *counts.values()] for name, counts in figures.items()], None, figures)
    if options.json:
        options.json.write_text(json.dumps(figures))
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
