import struct

import numpy as np
import pytest
from helpers import tiny_run, tone
from scipy.io import wavfile

import preprocess
from joanna import source
from joanna.errors import UserError

LOW = tone(1.2, pitch=300)
SETTINGS = {
    "sample-rate": 4000,
    "stereo": False,
    "frame-length": 64,
    "overlap": 2,
    "section-count": 2,
    "block-count": 20,
    "start": 0.0,
    "seconds": 0.0,
}


def settings(path, **changes):
    return {**SETTINGS, "source": str(path), **{key.replace("_", "-"): changes[key] for key in changes}}


def save(path, samples):
    wavfile.write(path, 4000, np.round(samples * 32767).astype(np.int16))


@pytest.fixture
def album(tmp_path):
    folder = tmp_path / "album"
    folder.mkdir()
    save(folder / "2.wav", tone(0.5))
    save(folder / "1.WAV", LOW)
    (folder / "cover.txt").write_text("not a recording")
    (folder / "._2.wav").write_text("written by macOS")
    return folder


def assert_joined(samples, *parts):
    """The samples are the parts in a row, each of which fades into the next within its first 10 ms."""
    assert len(samples) == sum(map(len, parts))
    position = 0
    for part in parts:
        faded = 40 * (position > 0)
        found = samples[position + faded : position + len(part)]
        np.testing.assert_allclose(found, part[faded:], atol=1e-4)
        position += len(part)


def test_section_count_auto_uses_all_of_a_source(tmp_path, song):
    auto = settings(song.name, section_count="auto")
    samples, notes, _ = source.load_source(tmp_path, auto)
    assert_joined(samples, tone())
    assert notes == []
    # 1.2 s at 4000 Hz are 150 blocks of 32 samples: sections of 20 at most
    assert source.choose_sections(len(samples), auto) == (8, 18)
    sections = source.cut_sections(samples, auto)
    assert (sections.section_count, sections.blocks, sections.notes) == (8, 18, [])
    assert_joined(sections.audio, tone()[: 8 * 18 * 32])


def test_a_folder_gives_equal_shares_by_name(tmp_path, album):
    samples, notes, _ = source.load_source(tmp_path, settings("album"))
    assert_joined(samples, LOW[:640], tone(0.5)[:640])
    assert notes == ["2 recordings, at most 0.2 s of each"]


def test_start_counts_in_each_recording_and_a_short_one_leaves_its_share(tmp_path, album):
    changes = {"start": 0.1, "section_count": 1, "block_count": 1000}
    samples, *_ = source.load_source(tmp_path, settings(album, seconds=1.3, **changes))
    assert_joined(samples, LOW[400:4040], tone(0.5)[400:1960])
    samples, *_ = source.load_source(tmp_path, settings(album, seconds=0.5, **changes))
    assert_joined(samples, LOW[400:1400], tone(0.5)[400:1400])


@pytest.mark.parametrize("changes", [{"start": 0.01}, {"section_count": "auto"}])
def test_recordings_are_joined_without_a_click(tmp_path, changes):
    low = tone(0.31, pitch=30)
    for name in ("1.wav", "2.wav"):
        save(tmp_path / name, low)
    samples, *_ = source.load_source(tmp_path, settings(".", **changes))
    assert np.abs(np.diff(samples)).max() < 1.1 * np.abs(np.diff(low)).max()


def test_what_silence_and_whole_blocks_leave_of_a_share_goes_to_the_other_recordings(tmp_path):
    save(tmp_path / "1.wav", np.concatenate([tone(0.5), np.zeros(2000)]))
    save(tmp_path / "2.wav", tone(2.03))
    save(tmp_path / "3.wav", tone(3.0))
    chosen = settings(".", section_count="auto", block_count=25, seconds=3.0)
    samples, *_ = source.load_source(tmp_path, chosen)
    assert len(samples) == 15 * 25 * 32
    samples, *_ = source.load_source(tmp_path, settings(".", section_count=15, block_count=25))
    assert len(samples) == 15 * 25 * 32
    # shorter than a block each
    assert len(source.load_source(tmp_path, {**chosen, "seconds": 0.01})[0]) == 32


def test_recordings_that_end_before_start_are_skipped_or_refused(tmp_path, album, song):
    samples, notes, _ = source.load_source(tmp_path, settings(album, start=0.6))
    assert_joined(samples, LOW[2400:3680])
    assert notes == ["2.wav lasts 0.5 s, ends before start 0.6: skipped"]
    with pytest.raises(UserError, match=r"^start is 5; my song.wav lasts 1.2 s: lower it"):
        source.load_source(tmp_path, settings(song, start=5))
    with pytest.raises(UserError, match=r"start is 5; 1.WAV lasts 1.2 s, 2.wav lasts 0.5 s: lower it"):
        source.load_source(tmp_path, settings(album, start=5))


def test_a_folder_includes_its_sub_folders_and_names_what_cannot_be_read(tmp_path, monkeypatch, album):
    monkeypatch.setenv("PATH", str(tmp_path))  # without ffmpeg
    for path in ("b/1.wav", "b/.hidden/1.wav", ".trash/1.wav"):
        (album / path).parent.mkdir(parents=True, exist_ok=True)
        save(album / path, tone(0.5, pitch=600))
    (album / "b" / "3.m4a").write_bytes(b"")
    names = [path.relative_to(album).as_posix() for path in source.source_files(tmp_path, settings("album"))]
    assert names == ["1.WAV", "2.wav", "b/1.wav"]
    notes = source.load_source(tmp_path, settings("album")).notes
    assert notes[-1] == "skipped 3.m4a: install ffmpeg, which reads it, or convert to wav"
    (tmp_path / "new").mkdir()
    (album / "b" / "3.m4a").rename(tmp_path / "new" / "3.m4a")
    with pytest.raises(UserError, match=r"no recordings in it that can be read \(3.m4a: install ffmpeg"):
        source.source_files(tmp_path, settings("new"))
    (tmp_path / "ffmpeg").write_text("")
    (tmp_path / "ffmpeg").chmod(0o755)
    assert source.source_files(tmp_path, settings("new")) == [tmp_path / "new" / "3.m4a"]


def test_recordings_of_a_folder_that_cannot_be_used_are_skipped(tmp_path, album, monkeypatch):
    save(album / "3.wav", np.zeros(8000))
    (album / "0.wav").write_bytes(b"RIFF, but no more")
    samples, notes, _ = source.load_source(tmp_path, settings("album"))
    assert_joined(samples, LOW[:640], tone(0.5)[:640])
    skipped = [note for note in notes if note.startswith(f"skipped source {album}")]
    assert [note.split("/")[-1][:6] for note in skipped] == ["0.wav:", "3.wav:"]
    assert "silent" in skipped[1]
    opened, load = [], source.load_audio
    monkeypatch.setattr(
        source, "load_audio", lambda path, *args, **kw: opened.append(path.name) or load(path, *args, **kw)
    )
    samples, *_ = source.load_source(tmp_path, settings("album", section_count="auto"))
    assert len(samples) == len(LOW) + 2000 - 40
    assert sorted(opened) == ["0.wav", "1.WAV", "2.wav", "3.wav"]  # an album takes minutes to read
    for name in ("1.WAV", "2.wav"):
        save(album / name, np.zeros(4000))
    with pytest.raises(UserError, match="silent"):
        source.load_source(tmp_path, settings("album"))
    with pytest.raises(UserError, match="silent"):
        source.load_source(tmp_path, settings("album", section_count="auto"))


def test_a_recording_without_a_stated_length_takes_part_in_a_folder(tmp_path, album):
    data = bytearray((album / "2.wav").read_bytes())
    data[40:44] = bytes(4)  # of a program that was stopped while it recorded
    (album / "2.wav").write_bytes(data)
    samples, *_ = source.load_source(tmp_path, settings("album"))
    assert_joined(samples, LOW[:640], tone(0.5)[:640])


def test_a_recording_too_long_for_the_memory_is_refused_before_it_is_loaded(tmp_path):
    path = tmp_path / "days.wav"
    save(path, tone(0.1))
    with path.open("r+b") as file:  # 149 hours, a sparse file
        for place, size in ((4, 2**32 - 200), (40, 2**32 - 236)):
            file.seek(place)
            file.write(struct.pack("<I", size))
        file.truncate(2**32 - 192)
    run = tiny_run(tmp_path, f"source={path}", "section-count=auto", "frame-length=512", "overlap=16")
    with pytest.raises(UserError, match=r"training with these settings takes about .* GB of memory"):
        preprocess.main(run)
    assert source.stated_frames(tmp_path, {**run.settings, "seconds": 2.0, "start": 1.0}) == 250


def test_a_missing_source_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    for path, reason in (("empty", "no recordings in it"), ("none.wav", "none.wav: no such file")):
        with pytest.raises(UserError, match=reason):
            source.source_files(tmp_path, settings(path))
    with pytest.raises(UserError, match="source is ~nobody-at-all/a.wav: no such home folder"):
        source.source_path(tmp_path, settings("~nobody-at-all/a.wav"))


def test_block_count_shrinks_for_short_audio():
    sections = source.cut_sections(tone()[:1000], settings("a.wav"))
    assert (sections.section_count, sections.blocks, len(sections.audio)) == (2, 15, 960)
    assert sections.notes == ["0.2 s make 2 sections of 15 blocks (block-count is 20)"]


def test_audio_too_short_or_silent_is_refused():
    short = (
        r"source a.wav with start 1 and seconds 2 lasts 0.04 s; two frames in each section need 0.05 s: "
        "choose a longer one, or lower section-count, or lower start, or raise seconds"
    )
    with pytest.raises(UserError, match=short):
        source.cut_sections(tone()[:170], settings("a.wav", start=1.0, seconds=2.0))
    assert source.cut_sections(tone()[:192], settings("a.wav")).blocks == 3
    for changes in ({}, {"section_count": 1}, {"section_count": "auto"}):
        with pytest.raises(UserError, match=r"source a.wav lasts 0.01 s; .*: choose a longer one"):
            source.cut_sections(tone()[:50], settings("a.wav", **changes))
    silence = np.append(np.zeros(1280), tone())
    with pytest.raises(UserError, match=r"source a.wav: the 0.3 s used are silent"):
        source.cut_sections(silence, settings("a.wav"))
