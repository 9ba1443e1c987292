"""Kill runs of the scripts again and again and tear their files: is any work lost?

Each round runs all stages at tiny width in a new folder and kills each several times at random moments
(SIGKILL). After some kills it tears the newest weights as a disk might: cut off, or with altered bytes.
The kills of a round are survived if it ends with the weights, the optimizers' variables and the wavs of
a run that was never killed, bit for bit. --slower is a factor of the times before the kills.
"""

import random
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import common
from helpers import STAGES, TINY, contents, copy_project, tone, write_wav

from joanna.run import Run
from joanna.settings import load
from joanna.spectra import COMPONENTS

KILLED_AFTER = {"preprocess": (0.1, 1), "autoencoder": (3, 10), "lstm": (3, 14), "generate": (1, 9)}  # s
TRAINING_STAGES = ("autoencoder", "lstm")
WORDS = [*TINY, "source=./sources/song.wav", "ae-epoch=20", "ae-iteration=40"]
WORDS += ["lstm-epoch=4", "lstm-iteration=20"]


def new_run(folder: Path) -> Run:
    """A run in a copy of the project with a short song."""
    write_wav(copy_project(folder) / "sources" / "song.wav", tone())
    return Run(load(WORDS), folder)


def run_stage(run: Run, stage: str, seconds: float | None = None) -> str | None:
    """Output of a stage; None if it was killed after so many seconds."""
    command = [sys.executable, f"{stage}.py", *WORDS]
    try:
        done = subprocess.run(command, cwd=run.root, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:  # and killed
        return None
    if done.returncode:
        raise RuntimeError(f"{stage} in {run.root}: {done.stdout}{done.stderr}")
    return done.stdout


def tear(rng: random.Random, path: Path) -> None:
    """Cut a file off or alter some of its bytes."""
    data = bytearray(path.read_bytes())
    if rng.random() < 0.5:
        data = data[: rng.randrange(len(data))]
    else:
        for _ in range(rng.randrange(1, 100)):
            data[rng.randrange(len(data))] ^= rng.randrange(1, 256)
    path.write_bytes(data)


def kill_stage(run: Run, stage: str, rng: random.Random, slower: float) -> Counter:
    """Run a stage to its end, killed up to five times; numbers of kills and of torn files."""
    counts: Counter = Counter()
    weights = [run.weights_file(name, stage) for name in COMPONENTS if stage in TRAINING_STAGES]
    for _ in range(5):
        if run_stage(run, stage, slower * rng.uniform(*KILLED_AFTER[stage])) is not None:
            break
        counts["kills"] += 1
        for path in [path for path in weights if path.exists()][-1:]:
            previous = path.with_name(path.name.replace(".weights", ".previous.weights"))
            if previous.exists() and rng.random() < 0.3:
                tear(rng, path)
                counts["torn"] += 1
    for epoch in re.findall(r"resuming at epoch ([\d,]+) of", run_stage(run, stage) or ""):
        print(f"{stage}: resumed at epoch {epoch}", flush=True)
    return counts


def results(run: Run) -> dict[str, object]:
    """Name -> content of the files that a run must end with."""
    weights = [run.weights_file(name, stage) for stage in TRAINING_STAGES for name in COMPONENTS]
    clips = {path.name: path.read_bytes() for path in run.output.glob("*.wav")}
    return clips | {path.name: contents(path) for path in weights}


def main() -> None:
    """Kill as often as asked for, print the counts."""
    options = common.arguments(__doc__, kills=200, seed=0, slower=1.0)
    rng = random.Random(options.seed)
    figures = Counter(kills=0, torn=0, survived=0, rounds=0, same_bytes=0)
    with tempfile.TemporaryDirectory() as folder:
        whole = new_run(Path(folder) / "whole")
        for stage in STAGES:
            run_stage(whole, stage)
        while figures["kills"] < options.kills:
            run = new_run(Path(folder) / f"killed-{figures['rounds']}")
            counts = sum((kill_stage(run, stage, rng, options.slower) for stage in STAGES), Counter())
            same, kills = results(run) == results(whole), counts["kills"]
            figures.update(counts, rounds=1, same_bytes=int(same), survived=kills * same)
            print(f"round {figures['rounds']}: {kills} kills, the same bytes: {same}", flush=True)
    common.report([figures], options.json)
    sys.exit(figures["survived"] < figures["kills"])


if __name__ == "__main__":
    main()
