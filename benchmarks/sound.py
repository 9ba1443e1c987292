"""Scores of generated clips over recordings and seeds: median, and least to most.

Each recording is learned with each random-seed; then clips are generated. Trainings and scores are kept in
--cache and made once: the same command goes on where it was stopped. Other settings of the generation reuse
the trainings; a change of the code needs another --cache. timbre is in units of the song's halves, onsets are
relative to the song's, from sustain, loop and hop-buzz the song's own are subtracted.

    python benchmarks/sound.py demo --seeds 3 --songs sources/harp.wav,more/a.flac
    python benchmarks/sound.py demo --seeds 1 phase-method=all variation=0.2
"""

import hashlib
import json
import statistics
from collections import defaultdict
from pathlib import Path

import common
import yaml

from joanna import files
from joanna.settings import SETTINGS, load

MADE_BY_TRAINING = [
    key for key, setting in SETTINGS.items() if setting.stage or key.endswith(("-epoch", "-iteration"))
]
# score -> function of a clip's value and the song's own
RELATIVE = {
    "timbre": lambda value, song: value / song["timbre-halves"],
    "onsets": lambda value, song: value / song["onsets"] - 1,
    "sustain": lambda value, song: value - song["sustain"],
    "loop": lambda value, song: value - song["loop"],
    "hop-buzz": lambda value, song: value - song["hop-buzz"],
}
SHOWN = ("timbre", "harmony", "spectrum", "onsets", "sustain", "copied", "loop", "hop-buzz", "drift")


def scores(words: list[str], root: Path) -> dict[str, dict]:
    """The content of scores.yaml for the settings `words`; it is kept in `root`."""
    settings = load(words)
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    path = root / "scores" / f"{digest}.json"
    if not path.exists():
        common.run_in_process(common.run_all_stages, words, root)
        found = yaml.safe_load((root / "output" / settings["name"] / "scores.yaml").read_text())
        files.write_text(path, json.dumps(found))
    return json.loads(path.read_text())


def name(song: Path, words: list[str]) -> str:
    """Name of the run that learns a song; it depends on the settings of the training."""
    settings = load([*words, f"source={song}"])
    trained = {"source": settings["source"], **{key: settings[key] for key in MADE_BY_TRAINING}}
    digest = hashlib.sha256(json.dumps(trained, sort_keys=True).encode()).hexdigest()
    return f"{settings['name'][:60]}-{settings['random-seed']}-{digest[:8]}"


def relative(figures: dict[str, float], own: dict[str, float]) -> dict[str, float]:
    """The scores of a clip in relation to those of its song."""
    shown = {score: figures[score] for score in SHOWN if score in figures}
    return {
        score: RELATIVE[score](value, own) if score in RELATIVE else value for score, value in shown.items()
    }


def cell(values: list[float]) -> str:
    """Median, least and most."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})" if values else "-"


def main() -> None:
    """Measure and print the table."""
    options = common.arguments(__doc__, seeds=3, songs="sources/harp.wav", cache="/tmp/joanna-sound")
    songs, root = [Path(song).resolve() for song in options.songs.split(",")], Path(options.cache).resolve()
    table: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))  # clip -> score
    for seed in range(options.seeds):
        for song in songs:
            words = [*options.settings, f"random-seed={seed}", "preview-minutes=0", f"source={song}"]
            found = scores([*words, f"name={name(song, words)}"], root)
            own = found.pop("source")
            for clip, figures in found.items():
                for score, value in relative(figures, own).items():
                    table[clip][score].append(value)
                print(song.stem, seed, clip, {key: round(figures[key], 3) for key in SHOWN if key in figures})
    for clip, columns in table.items():
        print(f"{clip:<20}", *(f"{cell(columns[score]):<24}" for score in SHOWN), sep=" | ")


if __name__ == "__main__":
    main()
