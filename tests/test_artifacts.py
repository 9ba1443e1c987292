import json
import os
import shutil

import h5py
import numpy as np
import pytest
from helpers import tiny_run, tone, write_wav

import preprocess
from joanna import artifacts, files
from joanna.batches import random_windows, windows_at
from joanna.errors import UserError


@pytest.fixture
def run(tmp_path, song):
    return tiny_run(tmp_path, f"source={song}")


def save(run, arrays, **attributes):
    artifacts.save_arrays(run.frames_file, run, "preprocess", arrays, {"identity": "x", **attributes})


def load(run, shapes):
    return artifacts.load_arrays(run.frames_file, run, "preprocess", shapes)


def assert_refused(run, reason, shapes=None):
    with pytest.raises(UserError, match=reason) as refused:
        load(run, shapes or {})
    assert refused.value.rerun == "preprocess"


def test_arrays_of_other_shapes_are_refused(run):
    arrays = {"a": np.ones((3, 4), np.float32), "b": np.ones((3, 2), np.float32)}
    save(run, arrays, blocks=3)
    loaded, attributes = load(run, {"a": (None, 4), "b": (None, -1)})
    np.testing.assert_array_equal(loaded["a"], arrays["a"])
    assert attributes["blocks"] == 3
    for shapes in ({"a": (None, 5)}, {"a": (None,)}, {"a": (None, 4), "b": (2, None)}, {"c": (-1,)}):
        assert_refused(run, "is damaged", shapes)


@pytest.mark.parametrize("bad", [np.float32(np.nan), np.float32(np.inf), np.float64(1)])
def test_nan_inf_and_other_types_are_refused(run, bad):
    save(run, {"a": np.full((3, 4), bad)})
    assert_refused(run, "is damaged: a does not fit the settings", {"a": (None, 4)})


def test_files_of_other_settings_or_another_song_are_refused(run, tmp_path, song):
    save(run, {})
    other = tiny_run(tmp_path, f"source={song}", "overlap=4")
    assert_refused(other, r"overlap 2, the settings say 4 \(to keep it, set overlap=2 or another name=\)")
    load(tiny_run(tmp_path, f"source={song}", "dropout=0.1", "layer-count=1"), {})  # of later stages
    song.write_bytes(song.read_bytes() + b"1")
    assert_refused(run, "made from another recording")


def test_a_missing_source_is_the_one_of_the_frames_and_a_folder_that_lacks_a_file_another(tmp_path, song):
    (tmp_path / "album").mkdir()
    files = [shutil.copy(song, tmp_path / "album" / name) for name in ("a.wav", "b.wav")]
    run = tiny_run(tmp_path, "source=album")
    preprocess.main(run)
    made_from = artifacts.provenance(run, "lstm")
    os.remove(files[0])
    assert_refused(run, "made from another recording")
    os.remove(files[1])
    for source in ("album", "./album", tmp_path / "album"):  # without a recording, then without the folder
        assert artifacts.provenance(tiny_run(tmp_path, f"source={source}"), "lstm") == made_from
        shutil.rmtree(tmp_path / "album", ignore_errors=True)
    run.frames_file.unlink()
    with pytest.raises(UserError, match="album: no such file"):
        artifacts.provenance(run, "lstm")


@pytest.mark.parametrize("content", [None, b"", b"not hdf5", b"\x89HDF\r\n\x1a\n torn"])
def test_broken_files_are_refused(run, content):
    if content is not None:
        run.output.mkdir(parents=True)
        run.frames_file.write_bytes(content)
    assert_refused(run, r"frames.h5 is missing" if content is None else r"is damaged: cut off")


def test_frames_without_blocks_are_refused(run):
    preprocess.main(run)
    frames = artifacts.Frames.load(run)
    frames.blocks = 0
    frames.save(run)
    with pytest.raises(UserError, match="its section layout is missing"):
        artifacts.Frames.load(run)


def write_earlier_version(path, run, stage, arrays, attributes):
    """Write an HDF5 file as earlier versions did, with what they called recipe and identity."""

    def fill(path):
        with h5py.File(path, "w") as file:
            for name, array in arrays.items():
                file[name] = array
            recipe = artifacts.provenance(run, stage)
            del recipe["stereo"]
            file.attrs["recipe"] = json.dumps(recipe)
            file.attrs.update({"identity": "0123456789abcdef", **attributes})

    files.write(path, fill)


def test_files_of_earlier_versions_are_read(run, capsys):
    rng = np.random.default_rng(0)
    arrays = {"audio": rng.normal(size=3840).astype(np.float32)}
    latents = {}
    for name in ("phase", "magnitude"):
        arrays[f"{name}/frames"] = rng.normal(size=(119, 64)).astype(np.float32)
        arrays[f"{name}/mean"], arrays[f"{name}/deviation"] = rng.random((2, 64), dtype=np.float32)
        latents[name] = rng.normal(size=(119, 48)).astype(np.float32)
    write_earlier_version(run.frames_file, run, "preprocess", arrays, {"blocks": 60})
    write_earlier_version(run.latents_file, run, "autoencoder", latents, {"weights": ["aa", "bb"]})
    frames, coded = artifacts.Frames.load(run), artifacts.Latents.load(run)
    for name, component in frames.components.items():
        np.testing.assert_array_equal(component.frames, arrays[f"{name}/frames"])
        restored = component.restore(component.frames)
        expected = arrays[f"{name}/frames"] * arrays[f"{name}/deviation"] + arrays[f"{name}/mean"]
        np.testing.assert_allclose(restored, expected, rtol=1e-6)
        np.testing.assert_allclose(component.normalize(restored), component.frames, atol=1e-4)
        np.testing.assert_array_equal(coded.components[name], latents[name])
    assert (frames.blocks, len(frames), frames.digest) == (60, 119, "0123456789abcdef")
    assert (coded.weights, coded.digest) == ({"phase": "aa", "magnitude": "bb"}, "0123456789abcdef")
    preprocess.main(run)
    assert capsys.readouterr().out.startswith("up to date, skipped: ")
    with pytest.raises(UserError, match="made with stereo False, the settings say True"):
        artifacts.Frames.load(tiny_run(run.root, f"source={run.settings['source']}", "stereo=True"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["window-length=500"],
            "window-length is 500; the song has 119 frames, so expected at most 118",
        ),
        (
            ["sequence-lengths=[500]"],
            "sequence-lengths has 500; from seed-section 0 on the song has 119",
        ),
        (
            ["sequence-lengths=[4,80]", "seed-section=1"],
            "has 80; from seed-section 1 on the song has 59",
        ),
        (["seed-source=none.wav"], "none.wav: no such file"),
        (["seed-source=."], "a folder; expected one recording"),
        (["seed-source=short.wav"], r"short.wav lasts 0.02 s; .* has 8, which takes 0.07 s: choose a longer"),
        (["seed-source=silent.wav"], r"silent.wav: silent \(peak below"),
        (["section-count=1", "block-count=2"], "make 1 frames, too few"),
    ],
)
def test_settings_that_do_not_fit_the_song_are_refused_before_training(run, tmp_path, song, words, message):
    write_wav(tmp_path / "short.wav", tone(0.02))
    write_wav(tmp_path / "silent.wav", np.zeros(4000))
    for exists in (False, True):
        with pytest.raises(UserError, match=message):
            preprocess.main(tiny_run(tmp_path, f"source={song}", *words))
        assert run.frames_file.exists() == exists
        preprocess.main(run)


def test_windows_start_anywhere_and_hold_the_frames_that_follow():
    starts = random_windows(500, 30, 8, np.random.default_rng(0))
    assert set(starts) == set(range(23))
    windows = windows_at(np.arange(30.0)[:, None], starts, 8)
    np.testing.assert_array_equal(windows[:, :, 0], starts[:, None] + np.arange(8))
