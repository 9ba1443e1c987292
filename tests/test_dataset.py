import numpy as np
import pytest
from conftest import TINY

import preprocess
from joanna import dataset
from joanna.settings import UserError, load


def test_scaling_is_undone_by_its_statistics():
    frames = np.random.default_rng(0).normal(3, 5, size=(40, 6))
    frames[:, 2] = 7.0  # a bin that never changes
    scaled, mean, deviation = dataset.scale(frames)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(np.delete(scaled, 2, 1).std(axis=0), 1, rtol=1e-5)
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(scaled * deviation + mean, frames, rtol=1e-4, atol=1e-4)


def test_even_parts_hold_everything_and_keep_the_limit():
    for count, size, sizes in ((10, 4, [4, 3, 3]), (3, 32, [3]), (8, 4, [4, 4])):
        parts = dataset.even_parts(np.arange(count), size)
        assert [len(part) for part in parts] == sizes
        assert np.concatenate(parts).tolist() == list(range(count))


def test_windows_start_anywhere_and_hold_the_frames_that_follow():
    frames = np.arange(30.0)[:, None]
    starts = dataset.random_windows(500, 30, 8, np.random.default_rng(0))
    assert set(starts) == set(range(23))
    windows = dataset.cut(frames, starts, 8)
    assert windows.shape == (500, 8, 1)
    np.testing.assert_array_equal(windows[:, :, 0], starts[:, None] + np.arange(8))


def test_files_of_other_settings_or_another_song_are_refused(tmp_path, song):
    settings = load([f"source={song}"])
    path = tmp_path / "frames.h5"
    arrays = {"a": np.ones((3, 4), np.float32), "b": np.ones((3, 2), np.float32)}
    dataset.save_h5(path, arrays, settings, "preprocess", identity="x", blocks=3)
    found, attributes = dataset.load_h5(path, settings, "preprocess", {"a": (None, 4), "b": (None, 2)})
    np.testing.assert_array_equal(found["a"], arrays["a"])
    assert attributes["blocks"] == 3
    for shapes in ({"a": (None, 5)}, {"a": (None,)}, {"a": (None, 4), "b": (2, None)}, {"c": (-1,)}):
        with pytest.raises(UserError, match=r"is damaged.*run: .*python preprocess.py"):
            dataset.load_h5(path, settings, "preprocess", shapes)
    with pytest.raises(
        UserError,
        match=r"overlap 2, .* say 4; set overlap=2 .*python preprocess.py",
    ):
        dataset.load_h5(path, {**settings, "overlap": 4}, "preprocess", {})
    song.write_bytes(song.read_bytes() + b"1")
    with pytest.raises(UserError, match="another recording"):
        dataset.load_h5(path, settings, "preprocess", {})


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_none_are_refused(tmp_path, song, bad):
    settings = load([f"source={song}"])
    arrays = {"a": np.full((3, 4), bad, np.float32)}
    dataset.save_h5(tmp_path / "a.h5", arrays, settings, "preprocess", identity="x")
    with pytest.raises(UserError, match="its a is not as the settings say"):
        dataset.load_h5(tmp_path / "a.h5", settings, "preprocess", {"a": (None, 4)})


@pytest.mark.parametrize("content", [b"", b"not hdf5", b"\x89HDF\r\n\x1a\n torn"])
def test_broken_files_are_refused(tmp_path, song, content):
    path = tmp_path / "frames.h5"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"is damaged: it was cut off.*run: .*python preprocess.py"):
        dataset.load_h5(path, load([f"source={song}"]), "preprocess", {})


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("window-length=500", "window-length is 500; the song has 119 frames, so expected at most 118"),
        ("sequence-lengths=[500]", "sequence-lengths has 500; from seed-section 0 on the song has 119"),
        ("sequence-lengths=[4,80]", "sequence-lengths has 80; from seed-section 1 on the song has 59"),
        ("seed-source=none.wav", "no such file"),
        ("section-count=1", "make 1 frames, too few"),
    ],
)
def test_what_training_and_generating_would_refuse_is_refused_first(root, song, word, said):
    words = [*TINY, f"source={song}"]
    words += ["seed-section=1"] if "80" in word else []
    words += ["block-count=2"] if "section" in word else []
    for _ in range(2):  # before the frames are there, and after
        with pytest.raises(UserError, match=said):
            preprocess.main(load([*words, word]))
        if "section" not in word:
            preprocess.main(load(words))
