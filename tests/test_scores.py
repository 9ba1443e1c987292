import numpy as np
from conftest import tone
from scipy.signal import butter, sosfilt

from joanna import scores


def test_correlation_ignores_loudness_and_hears_another_sound():
    muffled = butter(4, 2000, fs=16000, output="sos")  # as an old recording is
    song, other = (sosfilt(muffled, melody(seed=seed)) for seed in (0, 1))
    assert scores.mel_correlation(0.1 * song, song, 16000) > 0.9999
    assert abs(scores.mel_correlation(other, song, 16000)) < 0.4
    noise = sosfilt(muffled, np.random.default_rng(0).normal(size=len(song)))
    assert abs(scores.mel_correlation(noise, song, 16000)) < 0.2
    for pair in ((0 * song, song), (song, 0 * song)):
        assert abs(scores.mel_correlation(*pair, 16000)) < 1e-9


def test_a_tone_is_in_its_band_at_any_rate():
    for rate in (16000, 44100):
        t = np.arange(rate) / rate
        spectrogram = scores.log_mel(np.sin(2 * np.pi * 1000 * t), rate)
        assert spectrogram.shape[1] == 64
        band = spectrogram[10:-10].mean(axis=0).argmax()
        bins = np.fft.rfftfreq(1024, 1 / 16000)
        assert abs(bins[scores.mel_filters()[band].argmax()] - 1000) < 60


def test_the_picture_shows_each_signal():
    image = scores.picture([tone(1, 16000), tone(1, 16000, 880.0)], 16000)
    assert image.dtype == np.uint8
    assert image.shape[0] == 2 * 64 * 4 + 8
    assert not np.array_equal(image[:256], image[264:520])


def melody(seconds=12, rate=16000, seed=0):
    """Decaying notes, four a second, of random pitch from a pentatonic scale."""
    rng = np.random.default_rng(seed)
    audio = np.zeros(int(seconds * rate))
    t = np.arange(rate // 4) / rate
    for start in range(0, len(audio) - len(t) + 1, len(t)):
        pitch = 220 * 2 ** (rng.choice([0, 2, 4, 7, 9, 12, 14, 16]) / 12)
        note = sum(np.sin(2 * np.pi * k * pitch * t) / k for k in range(1, 6))
        audio[start : start + len(t)] = note * np.exp(-8 * t) * rng.uniform(0.3, 1)
    return audio + 1e-3 * rng.normal(size=len(audio))


def test_scores_of_a_copied_passage():
    song = melody()
    found = scores.Song(song, 16000, 0.064).score(song[3 * 16000 : 8 * 16000])
    assert found["copied"] == 1
    assert abs(found["copied-seconds"] - 5) < 0.2
    assert found["copied-at"] < 0.1
    assert abs(found["copied-from"] - 3) < 0.1
    assert found["harmony"] > 0.8


def test_scores_tell_another_sound_from_the_song():
    song = scores.Song(melody(), 16000, 0.064)
    again = song.score(melody(seed=1))
    noise = song.score(np.random.default_rng(0).normal(size=12 * 16000))
    assert again["copied"] < 0.5
    assert again["timbre"] < 0.5 * song.yardsticks["timbre-noise"] < noise["timbre"]
    assert again["spectrum"] < 3 < noise["spectrum"]
    assert again["harmony"] > noise["harmony"]
    assert abs(song.yardsticks["onsets"] - 4) < 0.5
    assert abs(again["onsets"] - 4) < 0.5
    # a quieter copy scores the same
    assert np.isclose(song.score(0.1 * melody(seed=1))["timbre"], again["timbre"])


def _loop(audio):
    mel = scores.log_mel(audio, 16000)
    return scores.loop(mel, mel.mean(axis=0))


def test_a_loop_is_heard_and_a_melody_is_none(monkeypatch):
    song = melody()
    assert _loop(song) < 2.5
    looped = np.tile(song[: 16000 * 3 // 2], 8)
    assert abs(_loop(looped) - 10.5) < 0.3
    monkeypatch.setattr(scores, "_LONGEST", 1000)  # 16 s
    noise = np.random.default_rng(0).normal(size=20 * 16000)
    assert abs(_loop(np.append(noise, looped)) - 10.5) < 0.3


def test_hop_buzz_is_heard():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=10 * 16000)
    buzz = noise * (1 + 0.5 * np.sin(2 * np.pi * 15.625 * np.arange(len(noise)) / 16000))
    assert abs(scores.hop_buzz(scores.prepare(noise, 16000), 0.064)) < 6
    assert scores.hop_buzz(scores.prepare(buzz, 16000), 0.064) > 15
    fast = noise * (1 + 0.5 * np.sin(2 * np.pi * 250 * np.arange(len(noise)) / 16000))
    assert scores.hop_buzz(scores.prepare(fast, 16000), 0.004) > 15


def test_a_song_without_treble_is_not_taken_for_its_own_copy():
    low = butter(8, 1500, fs=16000, output="sos")
    rng = np.random.default_rng(0)
    hiss = 1e-2 * rng.normal(size=(2, 12 * 16000))
    first, second = (sosfilt(low, melody(seed=seed) + hiss[seed]) for seed in (0, 1))
    song = scores.Song(first, 16000, 0.064)
    assert song.yardsticks["copied-halves"] < 0.1
    assert song.score(second)["copied"] < 0.1
    assert song.score(first + 0.01 * hiss[1])["copied"] > 0.9


def test_silence_is_neither_a_copy_nor_a_loop():
    song = melody()
    song[4 * 16000 : 7 * 16000] = 0
    found = scores.Song(song, 16000, 0.064).score(np.zeros(5 * 16000))
    assert (found["copied"], found["loop"], found["harmony"]) == (0, 0, 0)
    assert all(np.isfinite(value) for value in found.values())


def test_frechet_distance_of_known_gaussians():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 20000, 3))
    assert scores.frechet(first, first) < 1e-6
    # means 2 apart: 4; deviations 1 and 3: (3 - 1)^2 a number
    assert abs(scores.frechet(first, second + [2, 0, 0]) - 4) < 0.1
    assert abs(scores.frechet(first, 3 * second) - 12) < 0.3


def test_takes_are_ranked_by_timbre_loops_and_copies():
    melodies = melody(), melody(seed=1)
    song = scores.Song(melodies[0], 16000, 0.064)
    new, copy = song.score(melodies[1]), song.score(melodies[0])
    noise = song.score(np.random.default_rng(0).normal(size=16000 * 12))
    looping = song.score(np.tile(melodies[1][: 3 * 16000], 4))
    assert song.rank(new) < song.rank(noise)
    assert song.rank(new) < song.rank(looping)
    # the same timbre to the letter, but none of it new
    assert song.rank({**new, "copied": copy["copied"]}) > song.rank(new)


def test_hints_are_given_where_something_is_wrong():
    melodies = melody(), melody(seed=1)
    song = scores.Song(melodies[0], 16000, 0.064)

    def hints(audio):
        return [hint.split(":")[0] for hint in scores.advice(song.score(audio), song.yardsticks)]

    assert hints(melodies[1]) == []
    assert hints(melodies[0]) == ["it recites the song"]
    assert "it loops" in hints(np.tile(melodies[1][: 3 * 16000], 4))
    assert hints(np.random.default_rng(0).normal(size=16000 * 12))[-1].endswith("as to the song")


def test_clips_too_short_for_the_windows_are_scored():
    source = tone(2.0, scores.RATE)
    song = scores.Song(source, scores.RATE, 0.064)
    found = song.score(source[:1600])  # a tenth of a second
    assert all(np.isfinite(value) for value in found.values())
    assert scores.picture([source[:100]], scores.RATE).size > 0
