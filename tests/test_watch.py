import importlib.util
import os
import pty
import re
import subprocess
import sys

import numpy as np
import pytest
from conftest import PROJECT, TINY, tone
from scipy.io import wavfile

import autoencoder
import generate
import lstm
import preprocess
from joanna import budget
from joanna import settings as settings_module
from joanna.checkpoint import read_history
from joanna.errors import UserError
from joanna.progress import Progress

OFTEN = [*TINY, "preview-minutes=0.0001", "tensorboard=True", "ae-epoch=3", "method=part"]
STAGES = (preprocess, autoencoder, lstm, generate)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folders of a run that was watched and of one that was not."""
    root = tmp_path_factory.mktemp("watched")
    song = root / "song.wav"
    wavfile.write(song, 4000, np.round(tone() * 32767).astype(np.int16))
    report = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings_module, "ROOT", root)
        for words in (["name=watched", *OFTEN], ["name=alone", *TINY, "ae-epoch=3", "method=part"]):
            for stage in STAGES:
                stage.main(settings_module.load([*words, f"source={song}"]))
                if stage is lstm and "tensorboard=True" in words:
                    report.append((root / "output/watched/report.html").read_text())
    return root, report[0]


def test_previews_are_named_by_training_and_epoch_and_sound(runs):
    root, _ = runs
    previews = sorted(path.name for path in (root / "output/watched/previews").iterdir())
    expected = [
        f"{component}-{name}-epoch-{epoch:05}.wav"
        for component in ("phase", "magnitude")
        for name, epochs in (("autoencoder", 6), ("spliced", 2), ("generator", 2))
        for epoch in range(1, epochs + 1)
    ]
    # an epoch may be over sooner than the next preview is due; the last is always heard
    assert set(previews) <= set(expected)
    last = {f"{c}-{n}" for c in ("phase", "magnitude") for n in ("autoencoder", "spliced", "generator")}
    assert {name for name in previews if name.endswith(("-00006.wav", "-00002.wav"))} >= {
        f"{name}-epoch-{6 if 'auto' in name else 2:05}.wav" for name in last
    }
    assert len(previews) > len(last)
    for name in previews:
        rate, samples = wavfile.read(root / "output/watched/previews" / name)
        assert rate == 4000
        assert 0.8 < len(samples) / rate < 5.1
        assert samples.std() > 300
    assert not (root / "output/alone/previews").exists()


def test_watching_does_not_change_what_is_learned(runs):
    root, _ = runs
    clips = [(root / f"output/{name}/part-4.wav").read_bytes() for name in ("watched", "alone")]
    sounds = [clip[: clip.index(b"LIST")] for clip in clips]  # without their recipes
    # the header's size counts the recipe, too
    assert sounds[0][8:] == sounds[1][8:]
    names = ["phase-encoder", "magnitude-encoder", "phase-lstm-file", "magnitude-lstm-file"]
    for name in names:
        losses = [
            [
                row[1:]
                for rows in read_history(root / f"weights/{run}/{name}.weights.h5").values()
                for row in rows
            ]
            for run in ("watched", "alone")
        ]
        assert losses[0] == losses[1] != []


def test_the_report_so_far_plays_the_newest_previews(runs):
    _, report = runs
    assert "magnitude-generator, epoch 2 of 2" in report
    for name in ("phase-spliced-epoch-00002", "magnitude-generator-epoch-00002"):
        assert f'"name": "{name}"' in report
    assert "epoch-00001" not in report
    for name in ("phase autoencoder", "magnitude autoencoder", "phase generator", "magnitude generator"):
        assert re.search(f'"name": "{name}", "epochs": [1-9]', report), name


def test_a_training_that_starts_afresh_drops_its_old_previews(runs, monkeypatch):
    root, _ = runs
    monkeypatch.setattr(settings_module, "ROOT", root)
    words = [*TINY, "name=alone", f"source={root / 'song.wav'}", "ae-iteration=1"]
    words.append("preview-minutes=0.0001")
    stale = root / "output/alone/previews/phase-autoencoder-epoch-00099.wav"
    other = stale.with_name("phase-spliced-epoch-00099.wav")
    stale.parent.mkdir()
    for path in (stale, other):
        path.write_bytes(b"old")
    autoencoder.main(settings_module.load([*words, "load-weights=False"]))
    assert not stale.exists()
    assert other.exists()
    assert stale.with_name("phase-autoencoder-epoch-00002.wav").exists()
    # so short a training has none when previews are far between
    autoencoder.main(settings_module.load([*words, "load-weights=False", "preview-minutes=100"]))
    assert not list(stale.parent.glob("phase-autoencoder-epoch-*"))
    assert other.exists()


def test_tensorboard_gets_scalars_audio_and_spectrograms(runs):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    root, _ = runs
    folder = root / "output/watched/tensorboard"
    found = accumulator.EventAccumulator(str(folder / "magnitude-autoencoder"))
    found.Reload()
    tags = found.Tags()
    assert "preview" in tags["tensors"]
    losses = [event for event in found.Tensors("loss")]
    assert [event.step for event in losses] == [1, 2, 3, 4, 5, 6]
    assert "learning rate" in tags["tensors"]
    last = accumulator.EventAccumulator(str(folder / "generate"))
    last.Reload()
    assert {"part-4/timbre", "part-4/loop", "part-4", "source"} <= set(last.Tags()["tensors"])
    assert not (root / "output/alone/tensorboard").exists()


def test_tensorboard_that_is_missing_is_said(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert settings_module.load([])["tensorboard"] is False
    with pytest.raises(
        UserError, match=r"tensorboard is True.* pip install -r requirements-tensorboard"
    ):
        settings_module.load(["tensorboard=True"])


def test_lines_where_there_is_no_terminal(capsys):
    with Progress("a training", 2, 5, 0.25, lambda seconds, epoch: seconds + 3600) as progress:
        for epoch in (3, 4, 5):
            progress.update(epoch, 0.5, 5)
    assert capsys.readouterr().out == (
        "a training: epoch 5 of 5, loss 0.5000, best 0.2500, 0 s left, 60 min for the run\n"
    )


@pytest.mark.parametrize(("kind", "columns"), [("xterm", 120), ("xterm", 80), ("dumb", 80)])
def test_a_bar_in_a_terminal_and_lines_in_one_that_cannot_move(kind, columns):
    script = (
        "from joanna.progress import Progress\n"
        "name = 'magnitude spliced LSTM layers'\n"
        "with Progress(name, 0, 1200, 9.0, lambda seconds, epoch: seconds) as progress:\n"
        "    for epoch in range(1200):\n"
        "        progress.update(epoch + 1, 1 / (epoch + 1), 1200)\n"
    )
    outer, inner = pty.openpty()
    environment = {**os.environ, "TERM": kind, "COLUMNS": str(columns)}
    subprocess.run(
        [sys.executable, "-c", script], cwd=PROJECT, stdout=inner, env=environment, check=True
    )
    os.close(inner)
    said = ""
    while True:
        try:
            said += os.read(outer, 1 << 16).decode()
        except OSError:  # the other end is closed
            break
    os.close(outer)
    said = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said)
    if kind == "dumb":
        assert "layers: epoch 1,200 of 1,200, loss 0.0008, best 0.0008, 0 s left" in said
    else:
        assert "1,200/1,200 loss 0.0008 best 0.0008 left 0 s/0 s" in said
        assert ("━" in said) == (columns == 120)


def test_time_left_for_the_run_counts_what_comes_after(monkeypatch):
    monkeypatch.delenv("JOANNA_BEGAN", raising=False)
    chosen = settings_module.load(["demo"])

    def left(component, name, *words):
        return budget.run_left(settings_module.load(["demo", *words]), component, name, 10.0, 0.5)

    assert left("magnitude", "autoencoder") == 10  # the last of a script that is run alone
    assert left("magnitude", "new") == 10
    alone = left("phase", "autoencoder")
    # as many epochs of the same kind, and a few seconds around them
    epochs = chosen["ae-epoch"] * chosen["ae-iteration"]
    assert 10 + 0.5 * epochs <= alone < 20 + 0.5 * epochs
    assert left("phase", "spliced", "lstm-epoch=64") > 1.5 * left("phase", "spliced")
    monkeypatch.setenv("JOANNA_BEGAN", "1")
    assert left("phase", "autoencoder") > 3 * alone
    assert left("magnitude", "new") > 15  # generating is to come
    assert left("phase", "autoencoder", "minutes=30") == 10  # the time is long over
