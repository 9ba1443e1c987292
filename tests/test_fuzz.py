"""Random and crafted input: read, or refused with a sentence; never anything else."""

import json
import random
import string

import h5py
import numpy as np
import pytest
import wavs
import yaml
from hypothesis import HealthCheck, given, settings, strategies

import config
from joanna import audio, dataset, store
from joanna import settings as settings_module
from joanna.errors import UserError

BOUNDED = settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.mark.parametrize("name", wavs.readable())
def test_every_wav_variant_gives_the_tone(tmp_path, name):
    path = tmp_path / "variant.wav"
    path.write_bytes(wavs.readable()[name])
    found, _ = audio.load_audio(path, wavs.RATE)
    assert len(found) == len(wavs.TONE)
    np.testing.assert_allclose(found, wavs.TONE, atol=1 / 127 if "PCM 8" in name else 1e-4)


@pytest.mark.parametrize("name", wavs.unreadable())
def test_what_is_no_wav_is_refused(tmp_path, name):
    path = tmp_path / "broken.wav"
    path.write_bytes(wavs.unreadable()[name])
    with pytest.raises(UserError, match="broken.wav") as refused:
        audio.load_audio(path, wavs.RATE)
    assert "\n" not in str(refused.value)


@BOUNDED
@given(seed=strategies.integers(0, 2**32))
def test_altered_wavs_are_read_or_refused(tmp_path, seed):
    path = tmp_path / "altered.wav"
    path.write_bytes(wavs.mutated(random.Random(seed)))
    try:
        found, _ = audio.load_audio(path, wavs.RATE)
    except UserError:
        return
    assert found.dtype == np.float32
    assert found.ndim == 1
    assert np.isfinite(found).all()


def accepted(words):
    """Load words as settings; whatever is accepted has to be within bounds and folders."""
    said, found = "", {}
    try:
        found = settings_module.load(words)
    except UserError as error:
        said = str(error)
    assert "\n" not in said
    assert len(said) < 2000
    if said:
        return
    assert set(found) == set(config.settings)
    for key in ("name", "coded-file", "lstm-file", "phase-encoder", "phase-result"):
        assert not set(found[key]) & set("/\\\0\n")
        assert found[key].strip(".")
    assert settings_module.bottleneck(found) >= 1


VALUES = strategies.one_of(
    strategies.text(max_size=30),
    strategies.text("0123456789.eE-+_xob:[]{}&*!, ", max_size=30),
    strategies.floats().map(str),
    strategies.integers().map(str),
    strategies.sampled_from(
        ["", "2001-99-99", "../x", "..", "/etc", ".nan", "-.inf", "0x" + "f" * 5000, "9" * 5000]
        + ["[" * 2000, "&a [*a]", "!!python/object/apply:os.system [true]", "~", "{}", "a\0b", "é" * 90]
    ),
)


@BOUNDED
@given(pairs=strategies.lists(strategies.tuples(strategies.sampled_from([*config.settings]), VALUES)))
def test_settings_are_taken_or_refused(pairs):
    accepted([f"{key}={value}" for key, value in pairs])


@BOUNDED
@given(words=strategies.lists(strategies.text(string.printable, max_size=20), max_size=4))
def test_words_are_taken_or_refused(words):
    accepted(words)


@BOUNDED
@given(
    text=strategies.one_of(
        strategies.binary(max_size=200),
        strategies.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")),
        strategies.dictionaries(strategies.sampled_from([*config.settings]), VALUES).map(
            lambda found: yaml.safe_dump(found).encode()
        ),
    )
)
def test_settings_files_are_taken_or_refused(tmp_path, text):
    path = tmp_path / "settings.yaml"
    path.write_bytes(text)
    accepted([str(path)])


def test_settings_files_that_would_run_or_swell_are_refused(tmp_path):
    path = tmp_path / "settings.yaml"
    bomb = "a: &a [1, 1]\n" + "".join(
        f"{b}: &{b} [{', '.join(['*' + a] * 9)}]\n"
        for a, b in zip(string.ascii_letters[:30], string.ascii_letters[1:31], strict=True)
    )
    touched = tmp_path / "touched"
    for text in (
        f"name: !!python/object/apply:os.system ['touch {touched}']",
        f"name: !!python/object/new:subprocess.Popen [['touch', '{touched}']]",
        bomb + "dropout: *z\n",
        bomb.replace("a:", "dropout:", 1),
        "[" * 100_000,
        "dropout: &x [*x]",
    ):
        path.write_text(text)
        with pytest.raises(UserError):
            settings_module.load([str(path)])
    assert not touched.exists()


@BOUNDED
@given(data=strategies.data())
def test_altered_files_of_a_run_are_refused(tmp_path, song, data):
    chosen = settings_module.load([f"source={song}"])
    path = tmp_path / "frames.h5"
    arrays = {"phase/frames": np.ones((3, 4), np.float32)}
    dataset.save_h5(path, arrays, chosen, "preprocess", identity="x")
    whole = path.read_bytes()
    place = data.draw(strategies.integers(0, len(whole) - 1))
    if data.draw(strategies.booleans()):
        path.write_bytes(whole[:place])
    else:
        byte = data.draw(strategies.integers(1, 255)) ^ whole[place]
        path.write_bytes(whole[:place] + bytes([byte]) + whole[place + 1 :])
    with pytest.raises(UserError, match=r"frames.h5 is damaged.*run: .*python preprocess.py"):
        dataset.load_h5(path, chosen, "preprocess", {})


@BOUNDED
@given(data=strategies.data())
def test_crafted_files_with_a_right_checksum_are_read_or_refused(tmp_path, song, data):
    """Altered before they are sealed, as somebody would who means harm."""
    chosen = settings_module.load([f"source={song}"])

    def fill(path):
        with h5py.File(path, "w") as file:
            file["phase/frames"] = np.ones((3, 4), np.float32)
            file.attrs["recipe"] = json.dumps(dataset.recipe(chosen, "preprocess"))
            file.attrs["identity"] = "x"
        whole = bytearray(path.read_bytes())
        for _ in range(data.draw(strategies.integers(1, 4))):
            place = data.draw(strategies.integers(0, len(whole) - 1))
            whole[place] = data.draw(strategies.integers(0, 255))
        path.write_bytes(whole)

    path = tmp_path / "crafted.h5"
    store.write(path, fill)
    try:
        arrays, _ = dataset.load_h5(path, chosen, "preprocess", {"phase/frames": (None, 4)})
    except UserError:
        return
    assert np.isfinite(arrays["phase/frames"]).all()
