"""Cost as the song grows: seconds of each stage, peak memory and disk for songs of several lengths.

The source is repeated to each length. The network is narrow and the epochs few, so that what grows with the
song shows; all of it is learned. Each stage is a process of its own.

    python benchmarks/scaling.py --lengths 20,90,600,3600
"""

import contextlib
import importlib
import io
import json
import resource
import tempfile
import time
from pathlib import Path

import common
import numpy as np

from joanna.artifacts import STAGES
from joanna.audio import load_audio, wav_bytes
from joanna.run import PROJECT, Run
from joanna.settings import load
from joanna.source import source_path

NARROW = [
    "layer-count=4",
    "dim-decrease=480",
    "ae-epoch=2",
    "ae-iteration=1",
    "lstm-epoch=2",
    "lstm-iteration=1",
]
NARROW += ["section-count=auto", "generate-seconds=5", "load-weights=False", "preview-minutes=0", "minutes=0"]


def run_stage(stage: str, words: list[str], root: Path) -> None:
    """Run a stage and write its seconds and its memory in GB to `root`."""
    main, started = importlib.import_module(stage).main, time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        main(Run(load(words), root))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    (root / f"{stage}.json").write_text(json.dumps([time.perf_counter() - started, memory]))


def measure(samples: np.ndarray, words: list[str], seconds: float) -> dict[str, float]:
    """The row of a length."""
    rate, row = load(words)["sample-rate"], {"seconds of song": seconds}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        song = root / "song.wav"
        song.write_bytes(wav_bytes(np.resize(samples, int(seconds * rate)), rate))
        for stage in STAGES:
            common.run_in_process(run_stage, stage, [*words, f"source={song}", "name=song"], root)
            row[f"{stage}, s"], row[f"{stage}, GB"] = json.loads((root / f"{stage}.json").read_text())
        files = [path for path in root.rglob("*") if path.is_file() and path != song]
        row["disk, GB"] = sum(path.stat().st_size for path in files) / 1e9
    return row


def main() -> None:
    """Measure and print the table."""
    options = common.arguments(__doc__, lengths="20,90,600,3600")
    words = [*NARROW, *options.settings]
    settings = load(words)
    samples = load_audio(source_path(PROJECT, settings), settings["sample-rate"], "source").audio
    common.report([measure(samples, words, float(seconds)) for seconds in options.lengths.split(",")])


if __name__ == "__main__":
    main()
