"""Every key of config.settings has an effect; the tables name where it is shown."""

import contextlib
import io

import pytest
from helpers import contents, tiny_run, tone, write_wav

import autoencoder
import config
import lstm
import preprocess
from joanna import artifacts
from joanna.backend import tensorflow as tf

pytestmark = pytest.mark.filterwarnings("ignore:Even though")  # tf.data is not run eagerly
SHORT = ["name=song", "block-count=20", "ae-epoch=1", "ae-iteration=1", "lstm-iteration=1"]
PREPROCESS = ["sample-rate=3000", "frame-length=32", "overlap=4", "magnitude-power=1", "section-count=1"]
PREPROCESS += ["stereo=True", "block-count=15", "start=0.1", "seconds=0.2"]
AUTOENCODER = ["layer-count=1", "dim-decrease=4", "dropout=0.1", "ae-epoch=2", "ae-iteration=3"]
AUTOENCODER += ["batch-size=16", "learning-rate=0.01", "random-seed=7"]
LSTM = ["lstm-layers=1", "lstm-epoch=2", "lstm-iteration=3", "window-length=6", "window-batch=2"]
LSTM += ["own-share=0", "generator-rate=0.01"]
# test_pipeline.py, on the wavs
GENERATE = {"method", "sequence-lengths", "generate-seconds", "seed-section", "match-statistics"}
GENERATE |= {
    "whole-frames",
    "seed-source",
    "continue",
    "variation",
    "whole-variation",
    "guided",
    "jumps",
    "takes",
    "phase-method",
    "phase-iterations",
}
# test_pipeline.py, on the files
NAMES = {"name", "coded-file", "phase-encoder", "magnitude-encoder", "lstm-file", "phase-result"}
NAMES |= {"magnitude-result"}
ELSEWHERE = {"source", "load-weights"}  # below
ELSEWHERE |= {"minutes", "preview-minutes", "tensorboard"}  # test_resources.py, test_previews.py


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder with frames, latents and weights of the autoencoder of one component."""
    root = tmp_path_factory.mktemp("keys")
    write_wav(root / "song.wav", tone())
    tf.config.run_functions_eagerly(True)  # a step is faster than the tracing of one
    with pytest.MonkeyPatch.context() as patch:
        # one component shows an effect as well as two
        patch.setattr(artifacts, "COMPONENTS", ("phase",))
        for stage in (preprocess, autoencoder):
            run_stage(stage, root)
        yield root
    tf.config.run_functions_eagerly(False)


def run_stage(stage, root, *words):
    """Run a stage; the run, and what it prints."""
    run, output = tiny_run(root, "source=song.wav", *SHORT, *words), io.StringIO()
    with contextlib.redirect_stdout(output):
        stage.main(run)
    return run, output.getvalue()


def assert_each_differs(stage, root, words, written):
    """Each word alone makes `stage` run again and write contents that no other word makes."""
    made = []
    for word in ("name=song", *words):
        run, _ = run_stage(stage, root, word)
        arrays = contents(written(run))
        assert arrays not in made, word
        made.append(arrays)


def test_every_key_is_shown_somewhere():
    shown = [word.split("=")[0] for word in (*PREPROCESS, *AUTOENCODER, *LSTM)]
    shown += [*GENERATE, *NAMES, *ELSEWHERE]
    assert sorted(shown) == sorted(config.settings)


def test_preprocess_keys_and_source(tmp_path):
    for name, pitch in (("song", 440), ("other", 300)):
        write_wav(tmp_path / f"{name}.wav", tone(pitch=pitch))
    album = tmp_path / "album"
    album.mkdir()
    for name in ("song", "other"):
        write_wav(album / f"{name}.wav", tone())
    words = [*PREPROCESS, "source=other.wav", "source=album"]
    assert_each_differs(preprocess, tmp_path, words, lambda run: run.frames_file)
    _, output = run_stage(preprocess, tmp_path, "source=album", "block-count=21")
    assert "2 recordings, at most 0.2 s of each" in output


def test_lstm_keys(root):
    assert_each_differs(lstm, root, LSTM, lambda run: run.weights_file("phase", "lstm"))


def test_autoencoder_keys_and_load_weights(root):
    assert_each_differs(autoencoder, root, AUTOENCODER, lambda run: run.latents_file)
    _, output = run_stage(autoencoder, root, AUTOENCODER[-1])
    assert output.startswith("up to date, skipped: ")
    _, output = run_stage(autoencoder, root, AUTOENCODER[-1], "load-weights=False")
    assert "epoch 1 of 1" in output
