import io
import json
import tracemalloc

import numpy as np
import pytest
from helpers import tone, write_wav
from scipy.io import wavfile
from scipy.signal import resample_poly

from joanna import audio
from joanna.errors import UserError
from joanna.run import PROJECT


def test_a_recording_of_a_lower_rate_lacks_treble_and_says_so(tmp_path):
    wavfile.write(tmp_path / "a.wav", 4000, tone())
    notes = audio.load_audio(tmp_path / "a.wav", 11025).notes
    assert notes == ["resampled from 4000 Hz to 11025 Hz; it has nothing above 2000 Hz"]


def test_channels_are_mixed_and_resampled_with_a_note(tmp_path):
    signal = tone(rate=11025)
    wavfile.write(tmp_path / "a.wav", 11025, np.stack([signal, 0.1 * signal, signal], axis=1))
    loaded, notes, *_ = audio.load_audio(tmp_path / "a.wav", 4000)
    assert notes == ["mixed 3 channels down to mono", "resampled from 11025 Hz to 4000 Hz"]
    inner = slice(100, 4600)
    np.testing.assert_allclose(loaded[inner], tone()[inner] * 0.7, atol=0.01)


@pytest.mark.parametrize(("rate", "target_rate"), [(44100, 16000), (10000, 16000), (44101, 4000)])
def test_resampling_in_blocks_gives_the_same_samples(rate, target_rate, monkeypatch):
    signal = np.random.default_rng(0).standard_normal(200_003).astype(np.float32)
    at_once = resample_poly(signal.astype(float), target_rate, rate)
    monkeypatch.setattr(audio, "_BLOCK", 50_000)
    np.testing.assert_array_equal(audio.resample(signal, rate, target_rate), at_once.astype(np.float32))


@pytest.mark.parametrize(
    ("channels", "result", "note"),
    [
        ([-1, 1], -1, "the channels cancel each other: used channel 1 of 2"),
        ([1, -0.8], 1, "the channels cancel each other: used channel 1 of 2"),  # the mix: 20 dB less
        ([0, 1], 1, "used channel 2 of 2; the others are silent"),
        ([1, 0, 0.5], 0.75, "mixed 2 of 3 channels down to mono; the others are silent"),
        ([1, *15 * [0]], 1, "used channel 1 of 16; the others are silent"),
    ],
)
def test_channels_that_cancel_each_other_or_are_silent_cost_no_sound(tmp_path, channels, result, note):
    wavfile.write(tmp_path / "a.wav", 4000, np.stack([gain * tone() for gain in channels], axis=1))
    loaded, notes, *_ = audio.load_audio(tmp_path / "a.wav", 4000)
    assert notes == [note]
    np.testing.assert_allclose(loaded, result * tone(), atol=1e-4)


@pytest.mark.parametrize(
    ("channels", "result", "notes"),
    [
        ([0.5], [0.5, 0.5], ["mono, so both channels are equal"]),
        ([1, 0.2], [1, 0.2], []),
        ([0, 1], [0, 1], []),
        ([1, -1], [1, 1], ["the channels cancel each other: inverted one of them"]),
        ([0, 1, 0.5, 1], [1, 0.5], ["used channels 2 and 3 of 4"]),
        ([0, 0, 1], [1, 1], ["used channel 3 of 3", "mono, so both channels are equal"]),
    ],
)
def test_two_channels_are_kept_in_stereo(tmp_path, channels, result, notes):
    signal = tone(2.4, 8000)
    wavfile.write(tmp_path / "a.wav", 8000, np.stack([gain * signal for gain in channels], axis=1))
    loaded = audio.load_audio(tmp_path / "a.wav", 4000, limit=4000, stereo=True)
    assert loaded.notes == [*notes, "resampled from 8000 Hz to 4000 Hz"]
    assert (loaded.audio.shape, loaded.audio.dtype) == ((4000, 2), np.float32)
    expected = np.outer(tone(2.4, 4000)[:4000], result)
    np.testing.assert_allclose(loaded.audio[100:], expected[100:], atol=1e-3)


def test_in_stereo_silence_offset_and_peak_are_those_of_both_channels(tmp_path):
    late = np.concatenate([np.zeros(4000), tone()])
    signal = np.stack([np.concatenate([tone(), np.zeros(4000)]), 6 * late + 0.3], axis=1)
    padded = np.concatenate([np.zeros((4000, 2)), signal, np.zeros((8000, 2))]).astype(np.float32)
    wavfile.write(tmp_path / "a.wav", 4000, padded)
    loaded = audio.load_audio(tmp_path / "a.wav", 4000, stereo=True)
    assert loaded.notes == [
        "left out silence: 1.0 s at the beginning, 2.0 s at the end",
        "removed a constant offset of 0.3 of full scale",
        "peak scaled from 2.85 to 0.99 of full scale",
    ]
    expected = signal - [0, 0.3]
    np.testing.assert_allclose(loaded.audio, 0.99 * expected / np.abs(expected).max(), atol=2e-3)


@pytest.mark.parametrize("offset", [0.02, 0.3, -0.3])
def test_a_constant_offset_is_removed_and_said(tmp_path, offset):
    wavfile.write(tmp_path / "a.wav", 4000, (tone() + offset).astype(np.float32))
    loaded, notes, *_ = audio.load_audio(tmp_path / "a.wav", 4000)
    assert notes == [f"removed a constant offset of {offset:.2g} of full scale"]
    np.testing.assert_allclose(loaded, tone() - tone().mean(), atol=1e-4)
    # pauses of digital silence do not have it
    song = np.concatenate([tone() + offset, np.zeros(8000), tone() + offset])
    wavfile.write(tmp_path / "a.wav", 4000, song.astype(np.float32))
    loaded, notes, *_ = audio.load_audio(tmp_path / "a.wav", 4000)
    assert notes == [f"removed a constant offset of {offset:.2g} of full scale"]
    assert not loaded[4800:12800].any()
    np.testing.assert_allclose(loaded[:4800], tone() - tone().mean(), atol=1e-4)


def pause(seconds, level=1e-5):
    """A pause with noise, of which nothing is heard."""
    return level * np.random.default_rng(0).standard_normal(round(4000 * seconds))


@pytest.mark.parametrize("level", [0.0, 1e-5])
def test_silence_at_the_beginning_and_the_end_is_left_out_and_said(tmp_path, level):
    song = np.concatenate([tone(), pause(4, level), tone()])
    padded = np.concatenate([pause(6, level), song, pause(23, level)]) + 0.1
    wavfile.write(tmp_path / "a.wav", 4000, padded.astype(np.float32))
    loaded, notes, seconds, _ = audio.load_audio(tmp_path / "a.wav", 4000)
    assert seconds == pytest.approx(len(padded) / 4000)
    assert notes[0] == "left out silence: 6.0 s at the beginning, 23.0 s at the end"
    notes = audio.load_audio(tmp_path / "a.wav", 4000, limit=30000).notes  # the limit is in the silence
    assert notes[0] == "left out silence: 6.0 s at the beginning, 23.0 s at the end"
    np.testing.assert_allclose(loaded, song - song.mean(), atol=1e-3)
    # what is left out is read further on, within the limit; a pause stays
    loaded, notes, *_ = audio.load_audio(tmp_path / "a.wav", 4000, start=1, limit=10000)
    assert notes[0] == "left out silence: 5.0 s at the beginning"
    np.testing.assert_allclose(loaded, (song[:10000] - song[:10000].mean()), atol=1e-2)


def test_silence_up_to_the_end_is_left_out_where_the_limit_lies_in_it_and_a_pause_stays(tmp_path):
    for after, kept in ((0, 4800), (0.1, 8000)):
        song = np.concatenate([tone(), np.zeros(100_000), after * tone()])
        wavfile.write(tmp_path / "a.wav", 4000, song.astype(np.float32))
        loaded = audio.load_audio(tmp_path / "a.wav", 4000, limit=8000)
        assert len(loaded.audio) == kept


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e10, 1e30])
def test_a_value_that_is_no_sound_is_refused(tmp_path, value):
    samples = tone().astype(np.float32)
    samples[2000] = value
    wavfile.write(tmp_path / "a.wav", 4000, samples)
    with pytest.raises(UserError, match="contains NaN, Inf or values far beyond full scale"):
        audio.load_audio(tmp_path / "a.wav", 4000)


def test_only_what_is_wanted_is_read(tmp_path):
    """Reading a part of a long recording takes the memory of that part, and gives its audio."""
    signal = tone(300, 22050)
    path = write_wav(tmp_path / "long.wav", signal, 22050)
    whole = audio.load_audio(path, 4000).audio
    tracemalloc.start()
    part = audio.load_audio(path, 4000, start=200, limit=4000)
    memory = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert memory < 8 * len(signal) / 10
    assert (len(part.audio), part.seconds) == (4000, 300)
    np.testing.assert_allclose(part.audio[100:], whole[800100:804000], atol=1e-3)


@pytest.mark.parametrize("peak", [3.0, 0.003])
def test_peaks_beyond_or_far_below_full_scale_are_scaled(tmp_path, peak):
    wavfile.write(tmp_path / "a.wav", 4000, (peak * tone() / np.abs(tone()).max()).astype(np.float32))
    loaded, notes, *_ = audio.load_audio(tmp_path / "a.wav", 4000)
    assert notes == [f"peak scaled from {peak:g} to 0.99 of full scale"]
    np.testing.assert_allclose(loaded, 0.99 * tone() / np.abs(tone()).max(), atol=1e-5)


def _write(path, samples):
    wavfile.write(path, 4000, samples)
    return path


BAD = {
    "no such file": lambda path: path,
    "not a readable": lambda path: path.write_bytes(b"hello, not audio") and path,
    "contains no samples": lambda path: _write(path, np.zeros(0, np.int16)),
    "silent": lambda path: _write(path, np.zeros(4000, np.int16)),
    "silent (peak below": lambda path: _write(path, np.full(4000, 0.3, np.float32)),  # a constant
}


@pytest.mark.parametrize("reason", BAD)
def test_bad_files_are_refused(tmp_path, reason):
    path = tmp_path / "bad.wav"
    BAD[reason](path)
    with pytest.raises(UserError) as caught:
        audio.load_audio(path, 4000)
    assert reason in str(caught.value)
    assert str(path) in str(caught.value)


def test_saved_audio_is_16_bit(tmp_path):
    (tmp_path / "a.wav").write_bytes(audio.wav_bytes(tone(), 4000))
    rate, samples = wavfile.read(tmp_path / "a.wav")
    assert (rate, samples.dtype) == (4000, np.int16)
    np.testing.assert_allclose(samples / 32767, tone(), atol=1e-4)


def test_the_shipped_wavs_are_readable():
    shipped = [path for folder in ("docs", "sources") for path in (PROJECT / folder).glob("*.wav")]
    assert len(shipped) >= 2
    for path in shipped:
        assert wavfile.read(path)[1].any(), path


def test_a_comment_is_read_back_and_changes_no_sample(tmp_path):
    plain, path = tmp_path / "plain.wav", tmp_path / "a.wav"
    plain.write_bytes(audio.wav_bytes(tone(), 4000))
    for comment in ("", "x", "metadata: {é}" * 100):
        path.write_bytes(audio.wav_bytes(tone(), 4000, comment))
        assert audio.read_comment(path) == comment
        np.testing.assert_array_equal(wavfile.read(path)[1], wavfile.read(plain)[1])
        assert audio.load_audio(path, 4000)[1] == []


METADATA = {"settings": {}, "random-seed": 1, "weights": [], "seed": None, "name": "part-24", "take": 1}


def test_a_wav_beyond_full_scale_is_clipped():
    _, samples = wavfile.read(io.BytesIO(audio.wav_bytes(np.array([1.5, 0, -1.5]), 4000)))
    assert samples.tolist() == [32767, 0, -32767]


def test_clip_metadata_is_read_back(tmp_path):
    (tmp_path / "a.wav").write_bytes(audio.wav_bytes(tone(), 4000, json.dumps(METADATA)))
    assert audio.read_clip_metadata(str(tmp_path / "a.wav")) == METADATA


@pytest.mark.parametrize(
    "comment",
    ["", "text", "[]", "{}", "[" * 100_000, "9" * 5000]
    + [json.dumps({**METADATA, **wrong}) for wrong in ({"name": "../a"}, {"take": "1"}, {"weights": {}})]
    + [json.dumps({key: METADATA[key] for key in METADATA if key != "seed"})],
    ids=len,
)
def test_wavs_without_clip_metadata_are_refused(tmp_path, comment):
    path = tmp_path / "a.wav"
    path.write_bytes(audio.wav_bytes(tone(), 4000, comment))
    with pytest.raises(UserError, match="a.wav: holds no metadata of a clip; .*: source="):
        audio.read_clip_metadata(str(path))
    with pytest.raises(UserError, match=r"none.wav: cannot be read \(No such file"):
        audio.read_clip_metadata(str(tmp_path / "none.wav"))


@pytest.mark.parametrize(("peak", "rms"), [(0.4, 0.1), (1e-3, 0.1), (1.0, 0.99 / 2)])
def test_match_loudness_keeps_the_peak_below_full_scale(peak, rms):
    signal = np.array([peak, 0, 0, 0])
    matched = audio.match_loudness(signal, np.full(10, 0.1 if peak < 1 else 0.6))
    assert audio.rms(matched) == pytest.approx(rms)
    assert not audio.match_loudness(np.zeros(4), signal).any()
