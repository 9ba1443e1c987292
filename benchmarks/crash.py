"""Kill real runs of the scripts, again and again, with torn writes as well: does any work get lost?

Each round runs all stages at tiny width in a folder of its own, killing each several times at random
moments (SIGKILL), and after some kills tears the newest file as a disk might: cut off, or with altered
bytes. A kill is survived if the next run of the same command goes on: it does not complain, and a
checkpoint that was whole is not passed over. A round has to end with the bytes of a run that was never
killed: weights, optimizers' variables and wavs.
"""

import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import common

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from conftest import TINY, copy_project, tone
from scipy.io import wavfile
from test_resume import contents

STAGES = {"preprocess": (0.1, 1.0), "autoencoder": (3, 10), "lstm": (3, 14), "generate": (1, 9)}
WORDS = [*TINY, "source=./sources/song.wav", "ae-epoch=20", "ae-iteration=40", "lstm-epoch=4"]
WORDS += ["lstm-iteration=20"]
WEIGHTS = {
    "autoencoder": ("phase-encoder", "magnitude-encoder"),
    "lstm": ("phase-lstm-file", "magnitude-lstm-file"),
}


def project(folder: Path) -> Path:
    """A copy of the project with a short song."""
    copy_project(folder)
    samples = (tone() * 32767).round().astype("int16")
    wavfile.write(folder / "sources" / "song.wav", 4000, samples)
    return folder


def run(folder: Path, stage: str, seconds: float | None = None) -> str | None:
    """Run a stage; kill it after so many seconds, and return None, or return what it said."""
    process = subprocess.Popen(
        [sys.executable, f"{stage}.py", *WORDS],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        said, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return None
    if process.returncode:
        raise RuntimeError(f"{stage} in {folder}: {said}")
    return said


def tear(rng: random.Random, path: Path) -> None:
    """Cut a file off or alter some of its bytes."""
    data = bytearray(path.read_bytes())
    if rng.random() < 0.5:
        data = data[: rng.randrange(len(data))]
    else:
        for _ in range(rng.randrange(1, 100)):
            data[rng.randrange(len(data))] ^= rng.randrange(1, 256)
    path.write_bytes(data)


def state(folder: Path) -> dict[str, bytes]:
    """All that a run is to end with."""
    found = {}
    for names in WEIGHTS.values():
        for name in names:
            found[name] = contents(folder / f"weights/song/{name}.weights.h5")
    found |= {path.name: path.read_bytes() for path in (folder / "output/song").glob("*.wav")}
    return found


def main() -> None:
    """Kill as often as asked for, print the counts."""
    parser = common.parser(__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--slower", type=float, default=1, help="stretches the times before a kill")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    figures = {"kills": 0, "torn": 0, "survived": 0, "rounds": 0, "same_bytes": 0}
    with tempfile.TemporaryDirectory() as place:
        whole = project(Path(place) / "whole")
        for stage in STAGES:
            run(whole, stage)
        wanted = state(whole)
        while figures["kills"] < options.kills:
            folder = project(Path(place) / f"killed-{figures['rounds']}")
            kills = 0
            for stage, (soonest, latest) in STAGES.items():
                for _ in range(5):
                    if run(folder, stage, options.slower * rng.uniform(soonest, latest)) is not None:
                        break
                    kills += 1
                    files = [
                        folder / f"weights/song/{name}.weights.h5" for name in WEIGHTS.get(stage, ())
                    ]
                    files = [path for path in files if path.exists()]
                    previous = [
                        Path(str(path).replace(".weights", ".previous.weights")) for path in files
                    ]
                    if files and previous[-1].exists() and rng.random() < 0.3:
                        tear(rng, files[-1])
                        figures["torn"] += 1
                said = run(folder, stage)
                for epoch in re.findall(r"going on at epoch ([\d,]+) of", said):
                    print(f"{stage}: went on at epoch {epoch}", flush=True)
            same = state(folder) == wanted
            figures["rounds"] += 1
            figures["same_bytes"] += same
            figures["kills"] += kills
            figures["survived"] += kills if same else 0
            print(f"round {figures['rounds']}: {kills} kills, the same bytes: {same}", flush=True)
    common.report([[*figures], [*figures.values()]], options.json, figures)
    sys.exit(figures["survived"] < figures["kills"])


if __name__ == "__main__":
    main()
