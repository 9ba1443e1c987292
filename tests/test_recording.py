"""Files of other programs are read to their end, or a sentence says what is missing."""

import io
import os
import re
import shlex
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import wavs
from helpers import tone

from joanna import audio
from joanna.errors import UserError
from joanna.recording import Recording

soundfile = pytest.importorskip("soundfile")
RATE = 44100
SONG = 0.9 * tone(3, RATE)
PADDING = {"IMA_ADPCM": 0.07, "MS_ADPCM": 0.07}  # seconds


def encode(format, subtype="PCM_16", signal=SONG, **options):
    file = io.BytesIO()
    soundfile.write(file, signal, RATE, format=format, subtype=subtype, **options)
    return file.getvalue()


def encode_mp3(**options):
    return encode("MP3", "MPEG_LAYER_III", **options)


def without_length(mp3):
    """An mp3 without its first frame, which holds nothing but the length."""
    kilobits = [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320][mp3[2] >> 4]
    return mp3[144000 * kilobits // RATE + (mp3[2] >> 1 & 1) :]


def unstated(flac):
    """A flac that does not state its length, as it is written to a pipe."""
    return flac[:21] + bytes([flac[21] & 0xF0]) + bytes(4) + flac[26:]


def read(tmp_path, data):
    """Audio and notes of a recording, read to its end."""
    path = tmp_path / "a.bin"
    path.write_bytes(data)
    with Recording(path, "source") as recording:
        samples = recording.read(10**9)
        assert recording.ended
        assert recording.seconds == len(samples) / recording.rate
        return samples.mean(axis=1), recording.notes


def assert_song(samples, times=1, seconds=0.0):
    """The samples are the song, several times; each time some `seconds` of it may lack or be added."""
    assert abs(len(samples) - times * len(SONG)) <= times * seconds * RATE
    for part in np.array_split(samples, times):
        level, expected = (np.square(signal).cumsum() for signal in (part, SONG))
        level = np.interp(np.linspace(0, len(part), 100), np.arange(len(part)), level)
        expected = np.interp(np.linspace(0, len(SONG), 100), np.arange(len(SONG)), expected)
        np.testing.assert_allclose(level, expected, atol=0.08 * expected[-1])


@pytest.mark.parametrize(
    ("format", "subtype"),
    [("WAV", name) for name in ("ALAW", "ULAW", "IMA_ADPCM", "MS_ADPCM")]
    + [(name, "PCM_16") for name in ("AIFF", "AU", "CAF", "W64", "RF64", "FLAC")]
    + [("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III")],
)
def test_formats_of_libsndfile_are_read(tmp_path, format, subtype):
    samples, notes = read(tmp_path, encode(format, subtype))
    assert notes == []
    assert_song(samples, seconds=PADDING.get(subtype, 0))


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_32", "FLOAT"])
def test_big_endian_wavs_are_read(tmp_path, subtype):
    data = encode("WAV", subtype, endian="BIG")
    assert data[:4] == b"RIFX"
    samples, _ = read(tmp_path, data)
    np.testing.assert_allclose(samples, SONG, atol=1e-4)


def test_odd_data_without_a_pad_byte_are_whole(tmp_path):
    data = b"data" + struct.pack("<I", 1599) + wavs.tone_bytes(8)[:1599]
    samples, notes = read(tmp_path, wavs.wav(wavs.format_chunk(1, 1, 8), data))
    assert (len(samples), notes) == (1599, [])


MP3 = encode_mp3()
VARIABLE = encode_mp3(bitrate_mode="VARIABLE", compression_level=0.2)
TAG = b"ID3\4\0\0\0\1\0\0" + bytes(2**14)
BEYOND = {
    "mp3 with a large tag": (TAG + MP3, 1),
    "variable mp3 without a length": (without_length(VARIABLE), 1),
    "constant mp3 without a length": (without_length(MP3), 1),
    "joined mp3": (MP3 + MP3, 2),
    "joined mp3 with LAME's name of the tag": (2 * MP3.replace(b"Xing", b"Info"), 2),
    "mp3 behind other bytes": (bytes(3000) + MP3, 1),
    "mp3 from the middle of a frame": (MP3[300:], 1),
    "mp3 behind a padded tag": (TAG + bytes(3000) + MP3, 1),
    "joined mp3 with tags": (TAG + VARIABLE + TAG + VARIABLE, 2),
    "chained ogg": (2 * encode("OGG", "VORBIS"), 2),
    "flac of unknown length": (unstated(encode("FLAC")), 1),
    "wav of unknown length": (
        encode("WAV").replace(b"data" + struct.pack("<I", 2 * len(SONG)), b"data\0\0\0\0"),
        1,
    ),
}


@pytest.mark.parametrize("name", BEYOND)
def test_files_that_do_not_state_their_whole_length_are_read_to_the_end(tmp_path, name):
    data, times = BEYOND[name]
    samples, notes = read(tmp_path, data)
    assert notes == []
    assert_song(samples, times, 0.1 if "mp3" in name else 0)


@pytest.mark.parametrize(
    ("name", "note"),
    [(name, "cut off: holds 1.5 of 3.0 s") for name in ("RIFF", "RIFX", "RF64", "AIFF", "W64", "AU")]
    + [(name, "cut off or damaged: read 1.[4-9] of 3.0 s") for name in ("FLAC", "MP3")]
    + [("OGG", r"cut off or damaged: read [0-2]\.\d s \(its last page is missing\)")],
)
def test_files_that_are_cut_off_are_read_as_far_as_they_go(tmp_path, name, note):
    data = {
        "RIFF": lambda: encode("WAV"),
        "RIFX": lambda: encode("WAV", endian="BIG"),
        "MP3": lambda: MP3,
        "OGG": lambda: encode("OGG", "VORBIS"),
    }.get(name, lambda: encode(name))()
    samples, notes = read(tmp_path, data[: len(data) // 2])
    assert len(notes) == 1
    assert re.fullmatch(note, notes[0])
    if name != "OGG":  # of another precision
        assert_song(np.append(samples, SONG[len(samples) :]), seconds=0.02)


@pytest.mark.parametrize(
    "name",
    ["variable mp3 without a length", "chained ogg", "flac of unknown length", "wav of unknown length"],
)
def test_reading_goes_on_where_skip_ends(tmp_path, name):
    path = tmp_path / "a.bin"
    path.write_bytes(BEYOND[name][0])
    with Recording(path, "source") as recording:
        whole = recording.read(10**9)
    for start in (0, 1000, len(whole) - 50000):
        with Recording(path, "source") as recording:
            recording.skip(start)
            parts = [recording.read(count) for count in (5, 9000, 20000)]
            assert not recording.ended
        np.testing.assert_allclose(np.concatenate(parts), whole[start : start + 29005], atol=1e-4)
    with Recording(path, "source") as recording:
        recording.skip(len(whole) + 1000)
        assert not len(recording.read(1000))


def test_what_is_not_read_to_the_end_is_said(tmp_path):
    song = np.random.default_rng(0).normal(0, 0.2, 20 * RATE)
    mp3 = without_length(encode_mp3(signal=song))
    mp3 += without_length(encode_mp3(signal=np.stack([song, song], axis=1)))  # of two channels
    ogg = encode("OGG", "VORBIS")
    for data in (mp3, ogg + bytes(100) + ogg):
        _, notes = read(tmp_path, data)
        assert re.match(
            r"damaged, or of several parts: read .* MB of the file; replace it by a wav", notes[0]
        )


def test_streams_of_another_rate_in_a_row_are_refused(tmp_path):
    path, other = tmp_path / "a b.ogg", io.BytesIO()
    soundfile.write(other, SONG, 22050, format="OGG", subtype="VORBIS")
    path.write_bytes(encode("OGG", "VORBIS") + other.getvalue())
    command = re.escape(f"ffmpeg -i '{path}' '{path.with_suffix('.wav')}'")
    with pytest.raises(UserError, match=f"its rate or its channels change.* {command}"):
        Recording(path, "source")


STEREO = np.stack([SONG, -0.5 * SONG], axis=1).astype(np.float32)


@pytest.fixture
def no_ffmpeg(monkeypatch, tmp_path):
    """A folder that is alone on the PATH."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


@pytest.fixture
def stand_in(no_ffmpeg):
    """Write a file of shell commands, which a program in the place of ffmpeg runs; AU is a stereo song."""
    program, song = no_ffmpeg / "ffmpeg", no_ffmpeg / "a.au"
    program.write_text('#!/bin/sh\nwhile [ "$1" != -i ]; do shift; done\neval "$(/bin/cat < "${2#file:}")"\n')
    program.chmod(0o755)
    header = struct.pack(">4s5I4x", b".snd", 28, 2**32 - 1, 6, RATE, 2)
    song.write_bytes(header + STEREO.astype(">f4").tobytes())

    def write(path, commands):
        path.write_text(f": ....ftyp\n{commands.replace('AU', shlex.quote(str(song)))}\n")
        return path

    return write


@pytest.mark.parametrize("name", ["a.m4a", "-i.mp4", "http:a 'b.mkv"])
def test_ffmpeg_decodes_what_libsndfile_does_not_read(tmp_path, monkeypatch, stand_in, name):
    monkeypatch.chdir(tmp_path)
    path = stand_in(Path(name), "exec /bin/cat AU")
    with Recording(path, "source") as recording:
        assert (recording.rate, recording.channels) == (RATE, 2)
        np.testing.assert_array_equal(recording.read(10**9), STEREO)
        assert (recording.ended, recording.seconds, recording.notes) == (True, 3, [])
    with Recording(path, "source") as recording:
        recording.skip(50000)
        parts = [recording.read(count) for count in (5, 9000)]
    np.testing.assert_array_equal(np.concatenate(parts), STEREO[50000:59005])


def test_ffmpeg_ends_when_reading_does(tmp_path, stand_in):
    endless = stand_in(tmp_path / "a.m4a", f"echo $$ > '{tmp_path}/id'; while :; do /bin/cat AU; done")
    open_files = len(os.listdir("/dev/fd"))
    with Recording(endless, "source") as recording:
        assert len(recording.read(10**6)) == 10**6
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "id").read_text()), 0)
    with pytest.raises(UserError):
        Recording(stand_in(tmp_path / "b.m4a", "read line; echo $line >&2"), "source")
    assert len(os.listdir("/dev/fd")) == open_files


@pytest.mark.parametrize(
    ("commands", "reason"),
    [
        ("echo '[in#0 @ 0x1] moov atom not found\nError opening' >&2; exit 1", "moov atom not found"),
        ("echo 'Output file #0 does not contain any stream' >&2; exit 1", "no audio in it"),
        ("exit 3", "ended with code 3"),
    ],
)
def test_what_ffmpeg_cannot_read_is_refused_with_its_reason(tmp_path, stand_in, commands, reason):
    with pytest.raises(UserError) as refused:
        Recording(stand_in(tmp_path / "a.m4a", commands), "source a.m4a")
    words = "source a.m4a: not a readable recording (Format not recognised; ffmpeg: {}); choose another file"
    assert str(refused.value).startswith(words.format(reason))


def test_what_ffmpeg_reports_of_a_damaged_file_is_said(tmp_path, stand_in):
    errors = "echo '[mov @ 0x1] partial file' >&2; for i in $(/usr/bin/seq 20000); do echo error >&2; done"
    with Recording(stand_in(tmp_path / "a.m4a", f"{errors}; exec /bin/cat AU"), "source") as recording:
        assert len(recording.read(10**9)) == len(SONG)
        assert recording.notes == ["cut off or damaged: read 3.0 s (ffmpeg: partial file)"]


def test_without_ffmpeg_a_sentence_names_it(tmp_path, no_ffmpeg):
    path = tmp_path / "a.m4a"
    # by chance it has what looks like a frame of an mp3
    path.write_bytes(b"1234ftypM4A ".ljust(2**16 - 100, b"\0") + b"\xff\xfb\x90\0".ljust(1000, b"\0"))
    for data in (path.read_bytes(), b"hello, not audio"):
        path.write_bytes(data)
        with pytest.raises(UserError, match=r"a.m4a: not a .*\); ffmpeg, which reads m4a, .*: install it"):
            Recording(path, f"source {path}")


needs_ffmpeg = pytest.mark.skipif(not shutil.which("ffmpeg"), reason="needs ffmpeg")
PICTURE = ["-f", "lavfi", "-i", "color=size=64x48:rate=5:duration=3"]


def encode_with_ffmpeg(path, *pictures):
    """A file of the song, in the format of its suffix."""
    song = path.with_name("song.wav")
    song.write_bytes(encode("WAV"))
    command = ["ffmpeg", "-v", "error", "-i", song, *pictures, path]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return path.read_bytes()


@needs_ffmpeg
@pytest.mark.parametrize("suffix", ["m4a", "aac", "wma", "mp4", "mov", "mkv"])
def test_files_of_ffmpeg_itself_are_read(tmp_path, suffix):
    data = encode_with_ffmpeg(tmp_path / f"a.{suffix}", *PICTURE * suffix.startswith("m"))
    samples, notes = read(tmp_path, data)
    assert notes == []
    assert_song(samples, seconds=0.1)


@needs_ffmpeg
def test_ffmpeg_says_what_is_wrong_with_a_file(tmp_path):
    path = tmp_path / "a.mkv"
    data = encode_with_ffmpeg(path)
    samples, notes = read(tmp_path, data[: len(data) // 2])
    assert 0 < len(samples) < 2 * RATE
    assert re.fullmatch(r"cut off or damaged: read [01].\d s \(ffmpeg: .*ended prematurely.*\)", notes[0])
    data = encode_with_ffmpeg(tmp_path / "a.m4a")  # its index is at the end
    with pytest.raises(UserError, match=r"; ffmpeg: moov atom not found\)"):
        read(tmp_path, data[: len(data) // 2])
    subprocess.run(["ffmpeg", "-v", "error", "-y", *PICTURE, path], check=True, stdin=subprocess.DEVNULL)
    with pytest.raises(UserError, match=r"; ffmpeg: no audio in it\)"):
        Recording(path, "source")


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
def test_without_libsndfile_plain_wavs_are_read_and_others_refused(tmp_path, monkeypatch, no_ffmpeg, bits):
    monkeypatch.setitem(sys.modules, "soundfile", None)
    path = tmp_path / "a.wav"
    path.write_bytes(wavs.wav(wavs.format_chunk(1, 2, bits), wavs.chunk(b"data", wavs.tone_bytes(bits, 2))))
    loaded = audio.load_audio(path, wavs.RATE)
    np.testing.assert_allclose(loaded.audio, wavs.TONE, atol=1e-2)
    path.write_bytes(MP3)
    with pytest.raises(
        UserError, match="a.wav: not a .*; soundfile, which reads other formats, cannot be loaded: .*install"
    ):
        audio.load_audio(path, wavs.RATE)
