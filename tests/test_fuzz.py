"""Random and crafted input is read, or refused with a sentence."""

import json
import os
import random
import re
import string

import h5py
import numpy as np
import pytest
import wavs
import yaml
from helpers import tiny_run
from hypothesis import HealthCheck, given, settings, strategies

import config
from joanna import artifacts, audio, files
from joanna.errors import UserError
from joanna.settings import bottleneck, load

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", 0))  # more than usual, at random
BOUNDED = settings(
    max_examples=EXAMPLES or 150,
    deadline=None,
    derandomize=not EXAMPLES,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.mark.parametrize("name", wavs.readable())
def test_every_wav_variant_gives_the_tone(tmp_path, name):
    path = tmp_path / "variant.wav"
    path.write_bytes(wavs.readable()[name])
    samples, notes, *_ = audio.load_audio(path, wavs.RATE)
    assert samples.dtype == np.float32
    tolerances = {"PCM 8": 1 / 127, "PCM 24": 1e-6, "PCM 32": 1e-6, "float": 1e-6}
    tolerance = next((value for key, value in tolerances.items() if key in name), 1e-4)
    np.testing.assert_allclose(samples, wavs.TONE, atol=tolerance)  # of as many samples
    if re.match("PCM .* 1 channels$|float ..$", name):
        assert notes == []


@pytest.mark.parametrize("name", wavs.unreadable())
def test_unreadable_files_are_refused(tmp_path, monkeypatch, name):
    monkeypatch.setenv("PATH", str(tmp_path))  # without ffmpeg, which reads one of them
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
        samples = audio.load_audio(path, wavs.RATE).audio
    except UserError:
        return
    assert samples.dtype == np.float32
    assert samples.ndim == 1
    assert np.isfinite(samples).all()


def assert_accepted_or_refused(words):
    """Load words as settings; those accepted are within their bounds and the run's folders."""
    message, accepted = "", {}
    try:
        accepted = load(words)
    except UserError as error:
        message = str(error)
    assert "\n" not in message
    assert len(message) < 2000
    if message:
        return
    assert set(accepted) == set(config.settings)
    for key in ("name", "coded-file", "lstm-file", "phase-encoder", "phase-result"):
        assert not set(accepted[key]) & set("/\\\0\n")
        assert accepted[key].strip(".")
    assert bottleneck(accepted) >= 1


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
PAIRS = strategies.tuples(strategies.sampled_from([*config.settings]), VALUES)


@BOUNDED
@given(pairs=strategies.lists(PAIRS, min_size=1, max_size=4))
def test_settings_are_accepted_or_refused(pairs):
    assert_accepted_or_refused([f"{key}={value}" for key, value in pairs])


@BOUNDED
@given(words=strategies.lists(strategies.text(string.printable, max_size=20), max_size=4))
def test_words_are_accepted_or_refused(words):
    assert_accepted_or_refused(words)


@BOUNDED
@given(
    text=strategies.one_of(
        strategies.binary(max_size=200),
        strategies.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")),
        strategies.lists(PAIRS, max_size=4).map(lambda pairs: yaml.safe_dump(dict(pairs)).encode()),
    )
)
def test_settings_files_are_accepted_or_refused(tmp_path, text):
    path = tmp_path / "settings.yaml"
    path.write_bytes(text)
    assert_accepted_or_refused([str(path)])


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
            load([str(path)])
    assert not touched.exists()


ARRAYS = {"phase/frames": np.ones((3, 4), np.float32)}


@pytest.fixture
def run(tmp_path, song):
    """A run with a file of frames."""
    run = tiny_run(tmp_path, f"source={song}")
    artifacts.save_arrays(run.frames_file, run, "preprocess", ARRAYS, {"identity": "x"})
    return run


@BOUNDED
@given(data=strategies.data())
def test_altered_files_of_a_run_are_refused(run, data):
    path = run.frames_file.with_name("altered.h5")
    whole = run.frames_file.read_bytes()
    index = data.draw(strategies.integers(0, len(whole) - 1))
    if data.draw(strategies.booleans()):
        path.write_bytes(whole[:index])
    else:
        byte = data.draw(strategies.integers(1, 255)) ^ whole[index]
        path.write_bytes(whole[:index] + bytes([byte]) + whole[index + 1 :])
    with pytest.raises(UserError, match=r"altered.h5 is damaged") as refused:
        artifacts.load_arrays(path, run, "preprocess", {})
    assert refused.value.rerun == "preprocess"


@BOUNDED
@given(data=strategies.data())
def test_crafted_files_with_a_right_checksum_are_read_or_refused(run, data):
    """Altered before their checksum is written, as an attacker would."""

    def fill(path):
        with h5py.File(path, "w") as file:
            file["phase/frames"] = ARRAYS["phase/frames"]
            file.attrs["recipe"] = json.dumps(artifacts.provenance(run, "preprocess"))
            file.attrs["identity"] = "x"
        whole = bytearray(path.read_bytes())
        for _ in range(data.draw(strategies.integers(1, 4))):
            index = data.draw(strategies.integers(0, len(whole) - 1))
            whole[index] = data.draw(strategies.integers(0, 255))
        path.write_bytes(whole)

    path = run.frames_file.with_name("crafted.h5")
    files.write(path, fill)
    try:
        arrays, _ = artifacts.load_arrays(path, run, "preprocess", {"phase/frames": (None, 4)})
    except UserError:
        return
    assert np.isfinite(arrays["phase/frames"]).all()
