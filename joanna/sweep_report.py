"""The results of a sweep: scores.csv, and report.html with tables, diagrams, players and a tournament."""

import base64
import csv
import io
import math
from pathlib import Path

from joanna import files, page
from joanna.run import Run
from joanna.scores import SCORES, Reference
from joanna.settings import read_yaml

_CLIPS = 3  # of a run in the page
_MAX_BYTES = 300e6  # of clips in the page; further ones are links to their files


class _Baselines(Reference):
    """A reference of which scores.yaml holds the baselines; it ranks clips but scores none."""

    def __init__(self, baselines: dict[str, float]):
        self.baselines = baselines


def clips(run: Run) -> list[dict]:
    """The clips of a finished run, best first: "name", "score" (lower is better), "summary", "scores"."""
    stored = read_yaml(str(run.output / "scores.yaml"))
    reference = _Baselines(stored.pop("source"))
    found = [
        {
            "name": name,
            "score": reference.ranking_key(scores),
            "summary": reference.summary(scores),
            "scores": scores,
        }
        for name, scores in stored.items()
    ]
    return sorted(found, key=lambda clip: clip["score"])


def write(folder: Path, points: dict[Run, dict], finished: set[Run], failures: dict[Run, str]) -> None:
    """Write scores.csv and report.html to `folder`.

    Args:
        folder: of the sweep.
        points: run -> its values of the settings that vary.
        finished: the runs that have clips.
        failures: run -> why it failed.
    """
    found = {run: clips(run) for run in points if run in finished}
    ranked = sorted(found, key=lambda run: found[run][0]["score"])
    keys = list(dict.fromkeys(key for point in points.values() for key in point))
    _write_csv(folder / "scores.csv", keys, [(run, points[run], found[run]) for run in ranked])
    data = {
        "name": folder.name,
        "keys": keys,
        "left": len(points) - len(found) - len(failures),
        "runs": _runs(ranked, points, found),
        "failures": [[run.output.name, reason] for run, reason in failures.items()],
    }
    page.write(folder / "report.html", "sweep.html", data)


def _write_csv(path, keys, rows):
    """One row per clip: the best run first, and its best clip."""
    scores, text = [score.key for score in SCORES], io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["run", "clip", *keys, "score", *scores])
    for run, point, found in rows:
        for clip in found:
            figures = [clip["score"], *(clip["scores"].get(key, "") for key in scores)]
            table.writerow([run.output.name, clip["name"], *(point.get(key, "") for key in keys), *figures])
    files.write_text(path, text.getvalue())


def _runs(ranked, points, found):
    """The runs of the page."""
    size, runs = 0, []
    for run in ranked:
        shown = []
        for clip in found[run][:_CLIPS]:
            path = run.clip_file(clip["name"])
            size += path.stat().st_size
            content = base64.b64encode(path.read_bytes()).decode() if size < _MAX_BYTES else ""
            wav = f"data:audio/wav;base64,{content}" if content else f"{run.output.name}/{path.name}"
            score = clip["score"] if math.isfinite(clip["score"]) else None  # JSON has no infinity
            shown.append({"name": clip["name"], "score": score, "summary": clip["summary"], "wav": wav})
        runs.append({"name": run.output.name, "values": points[run], "clips": shown})
    return runs
