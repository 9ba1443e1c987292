import numpy as np
import pytest
from helpers import tone, write_wav
from scipy.io import wavfile

from joanna.excerpts import Excerpts, closest
from joanna.recording import Recording
from joanna.source import load_source

RATE = 4000
SETTINGS = {
    "sample-rate": RATE,
    "stereo": False,
    "frame-length": 64,
    "overlap": 2,
    "section-count": "auto",
    "block-count": 125,  # 1 s
    "start": 0.0,
    "seconds": 2.0,
}


def pitches(samples):
    """The loudest frequency of each second, Hz."""
    seconds = samples[: len(samples) // RATE * RATE].reshape(-1, RATE)
    return np.abs(np.fft.rfft(seconds)).argmax(axis=1).tolist()


@pytest.fixture
def song(tmp_path):
    """A second of silence, an introduction of 2 s, 6 s of a pitch and 6 s of another."""
    lengths = {1900: 2, 300: 6, 900: 6}
    parts = [tone(seconds, pitch=pitch) for pitch, seconds in lengths.items()]
    return write_wav(tmp_path / "song.wav", np.concatenate([np.zeros(RATE), *parts]))


@pytest.mark.parametrize(("start", "first"), [(0.0, 2), (5.0, 5)])
def test_the_sections_closest_to_all_of_a_longer_song_are_chosen(song, start, first):
    settings = {**SETTINGS, "source": str(song), "start": start}
    samples, notes, seconds = load_source(song.parent, settings)
    assert pitches(samples) == [300, 900]
    assert len(samples) == 2 * RATE
    assert seconds == pytest.approx(min(14, 15 - start), abs=0.1)  # without the silence
    place, other = notes[-1].removeprefix("source: sections from 0:").split(", 0:")
    assert first <= int(place) < int(other) < 15
    assert np.array_equal(load_source(song.parent, settings)[0], samples)
    # the beginning of each half is no closer to it than any other part; a given count takes the beginning
    assert pitches(load_source(song.parent, {**settings, "section-count": 2, "start": 0.0})[0]) == [1900] * 2


def test_each_recording_of_a_folder_gives_its_share_of_sections(song):
    write_wav(song.parent / "z.wav", tone(0.5, pitch=500))
    samples, notes, _ = load_source(song.parent, {**SETTINGS, "source": ".", "seconds": 2.5})
    assert pitches(samples[: 2 * RATE]) == [300, 900]
    assert pitches(np.pad(samples[2 * RATE :], (0, RATE))) == [500]
    assert sum("sections from" in note for note in notes) == 1


@pytest.mark.parametrize("seconds", [14.0, 14.5, 60.0])
def test_a_song_that_is_not_longer_is_read_as_without_seconds(song, seconds):
    every, several = (
        load_source(song.parent, {**SETTINGS, "source": str(song), "start": 1.0, "seconds": seconds})
        for seconds in (0.0, seconds)
    )
    assert np.array_equal(every.samples[: round(seconds * RATE)], several.samples)
    assert not any("sections" in note for note in several.notes)


@pytest.mark.parametrize(("count", "size"), [(1, RATE), (5, RATE), (13, RATE), (14, RATE), (27, 2000)])
def test_sections_do_not_overlap_and_always_find_room(song, count, size):
    with Recording(song, "song") as recording:
        starts, sound = closest(recording, count, size, RATE / 2)
    assert sound == pytest.approx(14 * RATE, abs=500)
    assert len(starts) == count
    assert (np.diff(starts) >= size).all()
    assert starts.min() >= 0.9 * RATE
    assert starts.max() + size <= 15 * RATE
    with Recording(song, "song") as recording:  # longer than the sound
        assert not len(closest(recording, 15, RATE, RATE / 2)[0])


def test_sections_side_by_side_have_no_join_and_others_no_click(tmp_path):
    samples = tone(2.0, pitch=100).astype(np.float32)
    wavfile.write(tmp_path / "a.wav", RATE, np.stack([samples, -samples], axis=1))
    starts = np.array([100, 1100, 3333])
    with Excerpts(tmp_path / "a.wav", "a", starts, 1000) as excerpts:
        joined = np.concatenate([excerpts.read(700.5), excerpts.read(9999)])
        assert not len(excerpts.read(1))
    assert np.array_equal(joined[:, 0], -joined[:, 1])
    assert np.array_equal(joined[:2000, 0], samples[100:2100])
    assert np.array_equal(joined[2040:, 0], samples[3373:4333])
    assert np.abs(np.diff(joined[:, 0])).max() < 1.5 * np.abs(np.diff(samples)).max()
    assert abs(samples[2100] - samples[3333]) > 2.5 * np.abs(np.diff(samples)).max()  # without the fade


def test_a_pause_at_the_edge_of_a_section_stays(tmp_path):
    pauses = [np.concatenate([np.zeros(RATE * 37 // 100), tone(0.8, pitch=300 + n)]) for n in range(25)]
    song = write_wav(tmp_path / "song.wav", np.concatenate(pauses))
    for seconds in (3.0, 4.0, 5.0):
        settings = {**SETTINGS, "source": str(song), "seconds": seconds}
        samples, notes, _ = load_source(tmp_path, settings)
        assert len(samples) == seconds * RATE
        assert not any("left out" in note for note in notes)
