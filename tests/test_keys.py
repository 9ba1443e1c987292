"""Every key of config.settings does something; the tables here name where each is shown."""

import contextlib
import io

import h5py
import numpy as np
import pytest
from conftest import TINY, tone
from scipy.io import wavfile

import autoencoder
import config
import lstm
import preprocess
from joanna import dataset
from joanna import settings as settings_module
from joanna.errors import UserError

SHORT = [*TINY, "section-count=2", "block-count=20", "ae-epoch=1", "ae-iteration=1", "lstm-iteration=1"]

PREPROCESS = {
    "sample-rate": "sample-rate=3000",
    "frame-length": "frame-length=32",
    "overlap": "overlap=4",
    "magnitude-power": "magnitude-power=1",
    "section-count": "section-count=1",
    "block-count": "block-count=15",
    "start": "start=0.1",
    "seconds": "seconds=0.2",
}
AUTOENCODER = {
    "layer-count": "layer-count=1",
    "dim-decrease": "dim-decrease=4",
    "dropout": "dropout=0.1",
    "ae-epoch": "ae-epoch=2",
    "ae-iteration": "ae-iteration=3",
    "batch-size": "batch-size=16",
    "learning-rate": "learning-rate=0.01",
    "random-seed": "random-seed=7",
}
LSTM = {
    "lstm-layers": "lstm-layers=1",
    "lstm-epoch": "lstm-epoch=2",
    "lstm-iteration": "lstm-iteration=3",
    "window-length": "window-length=6",
    "window-batch": "window-batch=2",
    "own-share": "own-share=0",
    "generator-rate": "generator-rate=0.01",
}
NAMES = {
    "name": "output/else/frames.h5",
    "coded-file": "output/song/else.h5",
    "phase-encoder": "weights/song/else.weights.h5",
    "magnitude-encoder": "weights/song/else.weights.h5",
    "lstm-file": "weights/song/phase-else.weights.h5",
}
# shown by tests/test_pipeline.py, on the wavs
GENERATE = {"method", "sequence-lengths", "generate-seconds", "seed-section", "match-statistics"}
GENERATE |= {"phase-result", "magnitude-result", "seed-source", "variation", "takes", "phase-method"}
ELSEWHERE = {"source", "load-weights"}  # tests of their own here
ELSEWHERE |= {"minutes", "preview-minutes", "tensorboard"}  # tests/test_budget.py, tests/test_watch.py


@pytest.fixture(scope="module")
def song_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("keys") / "song.wav"
    wavfile.write(path, 4000, np.round(tone() * 32767).astype(np.int16))
    return path


def run(stage, song_file, *words):
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        stage.main(settings_module.load([*SHORT, f"source={song_file}", *words]))
    return said.getvalue()


def contents(path):
    found = []

    def add(_, item):
        if isinstance(item, h5py.Dataset):
            found.append((item.shape, item[()].tobytes()))

    with h5py.File(path) as file:
        file.visititems(add)
    return found


def each_differs(stage, song_file, words, path):
    """Each word alone makes `stage` write contents to `path` that no other word made."""
    seen = []
    for word in ("name=song", *words.values()):
        run(stage, song_file, "load-weights=False", word)
        seen.append(contents(path))
        assert seen[-1] not in seen[:-1], word


def test_every_key_is_shown_somewhere():
    shown = {*PREPROCESS, *AUTOENCODER, *LSTM, *NAMES, *GENERATE, *ELSEWHERE}
    assert shown == set(config.settings)


def test_preprocess_keys(root, song_file):
    each_differs(preprocess, song_file, PREPROCESS, root / "output/song/frames.h5")


def test_source(root, song_file):
    run(preprocess, song_file, "name=song")
    before = contents(root / "output/song/frames.h5")
    other = song_file.with_name("other.wav")
    wavfile.write(other, 4000, wavfile.read(song_file)[1][::-1])
    run(preprocess, other, "name=song")
    assert contents(root / "output/song/frames.h5") != before


def test_all_of_a_source_or_of_a_folder(root, song_file, tmp_path):
    assert "1 sections" not in run(preprocess, song_file, "name=all", "section-count=auto")
    found, _ = dataset.load_frames(
        root / "output/all/frames.h5",
        settings_module.load([*SHORT, f"source={song_file}", "section-count=auto"]),
    )
    # 1.2 s at 4000 Hz are 150 blocks of 32 samples: sections of 20 at most
    assert len(found["audio"]) == 8 * 18 * 32
    album = tmp_path / "album"
    album.mkdir()
    for name, samples in (("2.wav", tone(0.5)), ("1.WAV", tone(1.2, pitch=300)), ("cover.txt", None)):
        if samples is None:
            (album / name).write_text("no recording")
        else:
            wavfile.write(album / name, 4000, np.round(samples * 32767).astype(np.int16))
    said = run(preprocess, album)
    assert "2 recordings, at most 0.2 s of each" in said
    found, _ = dataset.load_frames(
        root / "output/album/frames.h5", settings_module.load([*SHORT, f"source={album}"])
    )
    np.testing.assert_allclose(found["audio"][:640], tone(1.2, pitch=300)[:640], atol=1e-4)
    np.testing.assert_allclose(found["audio"][640:], tone(0.5)[:640], atol=1e-4)
    with pytest.raises(UserError, match=r"start is 5; .*song.wav lasts 1.2 s"):
        run(preprocess, song_file, "start=5")
    # start counts in each, and a short recording leaves its share to the other
    words = ["start=0.1", "section-count=auto", "seconds=1.3"]
    run(preprocess, album, *words)
    found, _ = dataset.load_frames(
        root / "output/album/frames.h5", settings_module.load([*SHORT, f"source={album}", *words])
    )
    np.testing.assert_allclose(found["audio"][:3600], tone(1.2, pitch=300)[400:4000], atol=1e-4)
    rest = len(found["audio"]) - 3600
    assert 1200 < rest <= 1600
    np.testing.assert_allclose(found["audio"][3600:], tone(0.5)[400 : 400 + rest], atol=1e-4)
    (album / "._2.wav").write_text("what macOS leaves")
    assert "nothing has changed" in run(preprocess, album, *words)
    said = run(preprocess, album, "start=0.6")
    assert "2.wav lasts 0.5 s, ends before start 0.6: left out" in said
    with pytest.raises(UserError, match=r"start is 5; 1.WAV lasts 1.2 s, 2.wav lasts 0.5 s: lower it"):
        run(preprocess, album, "start=5")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match="no recordings in it"):
        run(preprocess, empty)


@pytest.fixture
def phase_only(monkeypatch):
    """One component shows as well as two that a key does something, in half the time."""
    monkeypatch.setattr(dataset, "COMPONENTS", ("phase",))


def test_autoencoder_keys_and_load_weights(root, song_file, phase_only):
    run(preprocess, song_file)
    each_differs(autoencoder, song_file, AUTOENCODER, root / "output/song/coded-file.h5")
    last = AUTOENCODER["random-seed"]
    assert "nothing has changed" in run(autoencoder, song_file, last)
    assert "epoch 1 of 1" in run(autoencoder, song_file, last, "load-weights=False")


def test_lstm_keys(root, song_file, phase_only):
    run(preprocess, song_file)
    run(autoencoder, song_file)
    each_differs(lstm, song_file, LSTM, root / "weights/song/phase-lstm-file.weights.h5")


def test_names_of_files(root, song_file):
    for key, path in NAMES.items():
        word = f"{key}=else"
        run(preprocess, song_file, word)
        if key != "name":
            run(autoencoder, song_file, word)
        if key == "lstm-file":
            run(lstm, song_file, word)
        assert (root / path).is_file(), key
