"""Kill runs of the scripts again and again and tear their files: is any work lost?

Each round runs all stages at tiny width in a new folder and kills each several times at random moments
(SIGKILL). After some kills it tears the newest file as a disk might: cut off, or with altered bytes. A
round must end with the weights, the optimizers' variables and the wavs of a run that was never killed, bit
for bit; its kills have been survived then.
"""

import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import common
from helpers import STAGES, TINY, contents, copy_project, tone, write_wav

from joanna.run import Run
from joanna.settings import load
from joanna.spectra import COMPONENTS

KILLED_AFTER = dict(zip(STAGES, [(0.1, 1.0), (3, 10), (3, 14), (1, 9)], strict=True))  # s
WORDS = [*TINY, "source=./sources/song.wav", "ae-epoch=20", "ae-iteration=40", "lstm-epoch=4"]
WORDS += ["lstm-iteration=20"]


def project(folder: Path) -> Run:
    """A run in a copy of the project with a short song."""
    write_wav(copy_project(folder) / "sources" / "song.wav", tone())
    return Run(load(WORDS), folder)


def run_stage(run: Run, stage: str, seconds: float | None = None) -> str | None:
    """Output of a stage; None if it was killed after so many seconds.

    Raises:
        RuntimeError: the stage failed.
    """
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


def weights_files(run: Run, stage: str) -> list[Path]:
    """The weights that a stage trains."""
    trains = stage in ("autoencoder", "lstm")
    return [run.weights_file(component, stage) for component in COMPONENTS] if trains else []


def results(run: Run) -> dict[str, object]:
    """Name -> content of the files that a run must end with."""
    weights = [path for stage in STAGES for path in weights_files(run, stage)]
    clips = {path.name: path.read_bytes() for path in run.output.glob("*.wav")}
    return {**clips, **{path.name: contents(path) for path in weights}}


def kill_stage(run: Run, stage: str, rng: random.Random, slower: float) -> tuple[int, int]:
    """Run a stage to its end, killed up to five times; number of kills and of torn files."""
    kills = torn = 0
    while kills < 5 and run_stage(run, stage, slower * rng.uniform(*KILLED_AFTER[stage])) is None:
        kills += 1
        newest = [path for path in weights_files(run, stage) if path.exists()][-1:]
        for path in newest:
            previous = path.with_name(path.name.replace(".weights", ".previous.weights"))
            if previous.exists() and rng.random() < 0.3:
                tear(rng, path)
                torn += 1
    for epoch in re.findall(r"resuming at epoch ([\d,]+) of", run_stage(run, stage) or ""):
        print(f"{stage}: resumed at epoch {epoch}", flush=True)
    return kills, torn


def main() -> None:
    """Kill as often as asked for, print the counts."""
    parser = common.parser(__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--slower", type=float, default=1, help="factor of the times before a kill")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    figures = {"kills": 0, "torn": 0, "survived": 0, "rounds": 0, "same_bytes": 0}
    with tempfile.TemporaryDirectory() as folder:
        whole = project(Path(folder) / "whole")
        for stage in STAGES:
            run_stage(whole, stage)
        expected = results(whole)
        while figures["kills"] < options.kills:
            run = project(Path(folder) / f"killed-{figures['rounds']}")
            counts = [kill_stage(run, stage, rng, options.slower) for stage in STAGES]
            kills, torn = map(sum, zip(*counts, strict=True))
            same = results(run) == expected
            changes = (kills, torn, kills * same, 1, int(same))
            for key, change in zip(figures, changes, strict=True):
                figures[key] += change
            print(f"round {figures['rounds']}: {kills} kills, the same bytes: {same}", flush=True)
    common.report([[*figures], [*figures.values()]], options.json, figures)
    sys.exit(figures["survived"] < figures["kills"])


if __name__ == "__main__":
    main()
