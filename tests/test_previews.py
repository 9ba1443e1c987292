"""What a run with previews and TensorBoard leaves behind."""

import importlib.util
import re

import numpy as np
import pytest
from helpers import tiny_run, tone, write_wav
from scipy.io import wavfile

import autoencoder
import generate
import lstm
import preprocess
from joanna.artifacts import ComponentFrames, Frames
from joanna.errors import UserError
from joanna.previews import Previews
from joanna.resources import TimeBudget
from joanna.settings import load

WORDS = ["layer-count=1", "lstm-layers=1", "ae-epoch=3", "method=part", "sequence-lengths=[4]"]
EPOCHS = {"autoencoder": 6, "spliced": 2, "generator": 2}
TITLES = {f"{component}-{kind}": EPOCHS[kind] for component in ("phase", "magnitude") for kind in EPOCHS}


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """A run with previews as often as possible, and its report before generate.py."""
    root = tmp_path_factory.mktemp("watched")
    source = write_wav(root / "song.wav", tone())
    run = tiny_run(root, *WORDS, f"source={source}", "preview-minutes=0.0001", "tensorboard=True")
    for stage in (preprocess, autoencoder, lstm):
        stage.main(run)
    report, written = run.report_file.read_text(), run.report_file.stat().st_mtime
    generate.main(run)
    return run, report, written


def test_previews_are_named_by_training_and_epoch_and_sound(watched):
    run, *_ = watched
    previews = {path.name for path in run.previews.iterdir()}
    last = {f"{title}-epoch-{epochs:05}.wav" for title, epochs in TITLES.items()}
    # an epoch may end before the next preview is due; the last epoch always has one
    assert last < previews
    assert previews <= {
        f"{title}-epoch-{epoch:05}.wav" for title, epochs in TITLES.items() for epoch in range(1, epochs + 1)
    }
    sounds = set()
    for name in previews:
        rate, samples = wavfile.read(run.previews / name)
        assert rate == 4000
        assert 0.8 < len(samples) / rate < 5.1
        assert samples.std() > 300
        sounds.add(samples.tobytes())
    assert len(sounds) == len(previews)  # each is of its own network


@pytest.mark.parametrize("pause", [slice(0), slice(18000), slice(12000, 24000), slice(18000, 36000)])
def test_previews_play_what_has_sound(tmp_path, pause):
    sound, bins = tone(9.0), np.ones(64)
    sound[pause] = 0
    frames = Frames({"magnitude": ComponentFrames(np.zeros((1124, 64)), bins, bins)}, sound, 60, 2)
    run = tiny_run(tmp_path)
    passage = Previews(run, frames, TimeBudget(run.settings)).passage()
    assert len(passage) == 5 * 4000 / 32
    assert passage[-1] < len(frames)
    assert np.mean(sound[passage * 32] != 0) > 0.45  # 2.25 of 5 s
    if not pause.stop:
        assert passage[0] == (1124 - 625) // 2


def test_the_report_so_far_plays_the_newest_previews(watched):
    _, report, _ = watched
    assert "magnitude-generator, epoch 2 of 2" in report
    for title, epochs in TITLES.items():
        if "autoencoder" not in title:  # of the stage before
            assert f'"name": "{title}-epoch-{epochs:05}"' in report
        assert re.search(f'"name": "{title.replace("-", " ")}", "epochs": {epochs}', report), title
    assert "epoch-00001" not in report


def test_the_report_so_far_tells_when_the_run_ends(watched):
    run, report, written = watched
    ends = float(re.search(r'"ends": ([\d.]+)', report)[1])
    assert ends == pytest.approx(written, abs=30)  # no epoch is left
    assert '"ends": 0,' in run.report_file.read_text()  # of generate.py


def test_tensorboard_gets_scalars_audio_and_spectrograms(watched):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run, *_ = watched

    def tensors(folder):
        found = events.EventAccumulator(str(run.output / "tensorboard" / folder))
        found.Reload()
        return found, set(found.Tags()["tensors"])

    losses, tags = tensors("magnitude-autoencoder/train")
    assert {"epoch_loss", "epoch_learning_rate"} <= tags
    assert [event.step for event in losses.Tensors("epoch_loss")] == [*range(6)]
    assert "preview" in tensors("magnitude-autoencoder")[1]
    assert {"part-4/timbre", "part-4/harmony", "part-4", "source"} <= tensors("generate")[1]


def test_tensorboard_that_is_not_installed_is_reported(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert load([])["tensorboard"] is False
    with pytest.raises(UserError, match=r"tensorboard is True.* pip install -r requirements-tensorboard"):
        load(["tensorboard=True"])


def test_a_new_training_deletes_its_old_previews_only(watched):
    run, *_ = watched
    words = [*WORDS, f"source={run.settings['source']}", "ae-epoch=1", "load-weights=False"]
    others = {path for path in run.previews.iterdir() if "-autoencoder-" not in path.name}
    # so short a training has none if previews are far apart
    autoencoder.main(tiny_run(run.root, *words, "preview-minutes=100"))
    assert {*run.previews.iterdir()} == others != set()
