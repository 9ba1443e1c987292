import copy
import functools
import subprocess
import sys

import numpy as np
import pytest
from helpers import tone
from scipy.signal import butter, lfilter, sosfilt

from joanna import audio, scores
from joanna.run import PROJECT

RATE = scores.SAMPLE_RATE
HOP = 0.064  # seconds


def melody(seconds=12, seed=0):
    """Decaying notes, four per second, of random pitch from a pentatonic scale."""
    rng = np.random.default_rng(seed)
    audio = np.zeros(int(seconds * RATE))
    t = np.arange(RATE // 4) / RATE
    for start in range(0, len(audio) - len(t) + 1, len(t)):
        pitch = 220 * 2 ** (rng.choice([0, 2, 4, 7, 9, 12, 14, 16]) / 12)
        note = sum(np.sin(2 * np.pi * k * pitch * t) / k for k in range(1, 6))
        audio[start : start + len(t)] = note * np.exp(-8 * t) * rng.uniform(0.3, 1)
    return audio + 1e-3 * rng.normal(size=len(audio))


def white_noise(seconds=12):
    return np.random.default_rng(0).normal(size=seconds * RATE)


@functools.cache
def reference():
    return scores.Reference(melody(), RATE, HOP)


@functools.cache
def scored(sound):
    """Scores of a sound, in relation to the melody."""
    other = melody(seed=1)
    sounds = {"song": melody(), "new": other, "noise": white_noise()}
    sounds |= {"looping": np.tile(other[: 3 * RATE], 4), "passage": melody()[3 * RATE : 8 * RATE]}
    return reference().score(sounds[sound])


def own_reference(**baselines):
    """That of the melody, with other figures of the song."""
    changed = copy.copy(reference())
    changed.baselines = {**changed.baselines, **baselines}
    return changed


def loop_seconds(audio):
    mel = scores.log_mel(audio, RATE)
    return scores.loop(mel, mel.mean(axis=0))


def test_mel_correlation_ignores_loudness_and_detects_different_sounds():
    lowpass = butter(4, 2000, fs=RATE, output="sos")  # like an old recording
    song, other = (sosfilt(lowpass, melody(seed=seed)) for seed in (0, 1))
    assert scores.mel_correlation(0.1 * song, song, RATE) > 0.9999
    assert abs(scores.mel_correlation(other, song, RATE)) < 0.4
    noise = sosfilt(lowpass, white_noise())
    assert abs(scores.mel_correlation(noise, song, RATE)) < 0.2
    for pair in ((0 * song, song), (song, 0 * song)):
        assert abs(scores.mel_correlation(*pair, RATE)) < 1e-9


def test_a_tone_is_in_its_mel_band_at_any_sample_rate():
    for rate in (16000, 44100):
        t = np.arange(rate) / rate
        mel = scores.log_mel(np.sin(2 * np.pi * 1000 * t), rate)
        assert mel.shape[1] == 64
        band = mel[10:-10].mean(axis=0).argmax()
        frequencies = np.fft.rfftfreq(1024, 1 / 16000)
        assert abs(frequencies[scores.mel_filters()[band].argmax()] - 1000) < 60


def test_the_picture_shows_each_signal():
    image = scores.picture([tone(1, RATE), tone(1, RATE, 880.0)], RATE)
    assert image.dtype == np.uint8
    assert image.shape[0] == 2 * 64 * 4 + 8
    assert not np.array_equal(image[:256], image[264:520])


def test_the_picture_of_a_higher_sample_rate_shows_its_treble():
    def brightest_band(pitch):  # of a tone, and one at 1.5 times its pitch; 0 is the highest
        return scores.picture([tone(1, 44100, pitch)], 44100).sum(axis=(1, 2)).argmax() // 4

    assert [brightest_band(pitch) for pitch in (14000, 8000, 440)] == [7, 17, 56]


def test_treble_is_the_power_above_8_khz_where_the_sample_rate_has_any(monkeypatch):
    monkeypatch.setattr(scores, "_TREBLE_PART", 2**15)  # samples whose spectra are computed at a time
    noise = white_noise(4)
    reference = scores.Reference(noise, 32000, HOP)
    assert reference.baselines["treble"] == pytest.approx(-3, abs=0.1)
    both = np.stack([noise, np.zeros_like(noise)], axis=1)
    assert reference.score(both)["treble"] == pytest.approx(-3, abs=0.1)
    dull = reference.score(tone(1, 32000, 1000))
    assert dull["treble"] < -60
    assert f"treble {dull['treble']:.0f} dB (song -3 dB)" in reference.line(dull)
    assert "treble" in dict(reference.describe(dull))
    assert "treble" not in reference.score(np.ones(32000))  # a constant is no sound
    without = scores.Reference(noise, RATE, HOP)
    assert "treble" not in {**without.baselines, **without.score(noise)}


def test_sounds_that_flicker_have_less_sustain_than_those_that_last():
    blocks = melody().reshape(-1, RATE // 20)  # 50 ms
    flickering = np.random.default_rng(0).permutation(blocks).ravel()
    found, own = reference().score(flickering), reference().baselines["sustain"]
    assert found["sustain"] < 0.1 < 0.2 < own
    assert abs(scored("new")["sustain"] - own) < 0.1
    assert abs(scored("noise")["sustain"]) < 0.1
    assert f"sustain {found['sustain']:.2f} (song {own:.2f})" in reference().line(found)
    assert "sustain" not in reference().score(np.zeros(RATE))  # silence has none


def test_a_copied_passage_is_found():
    clip = scored("passage")
    assert clip["copied"] == 1
    assert abs(clip["copied-seconds"] - 5) < 0.2
    assert clip["copied-at"] < 0.1
    assert abs(clip["copied-from"] - 3) < 0.1
    assert clip["harmony"] > 0.8


def test_scores_distinguish_noise_from_the_songs_sound():
    similar, noise, own = scored("new"), scored("noise"), reference().baselines
    assert similar["copied"] < 0.5
    assert similar["timbre"] < 0.5 * own["timbre-noise"] < noise["timbre"]
    assert similar["spectrum"] < 3 < noise["spectrum"]
    assert similar["harmony"] > noise["harmony"]
    assert abs(own["onsets"] - 4) < 0.5
    assert abs(similar["onsets"] - 4) < 0.5
    # loudness does not matter
    assert np.isclose(reference().score(0.1 * melody(seed=1))["timbre"], similar["timbre"])


def test_loops_are_found_and_a_melody_is_none(monkeypatch):
    song = melody()
    assert loop_seconds(song) < 2.5
    looped = np.tile(song[: RATE * 3 // 2], 8)
    assert abs(loop_seconds(looped) - 10.5) < 0.3
    monkeypatch.setattr(scores, "_MAX_FRAMES", 1000)  # 16 s
    assert abs(loop_seconds(np.append(white_noise(20), looped)) - 10.5) < 0.3


def test_noise_is_no_loop_and_a_loop_of_brighter_sounds_is_one():
    brown = lfilter([1], [1, -0.99], white_noise())
    assert scored("noise")["loop"] == reference().score(brown)["loop"] == 0
    bright = np.diff(melody(seed=1), 2)
    assert reference().score(np.tile(bright[: RATE * 3 // 2], 8))["loop"] == pytest.approx(10.5, abs=0.3)


def test_hop_buzz_is_found_at_the_hop_rate():
    noise = white_noise(10)
    assert abs(scores.hop_buzz(scores.prepare(noise, RATE), HOP)) < 6
    for hop_seconds in (HOP, 0.004):
        modulation = np.sin(2 * np.pi / hop_seconds * np.arange(len(noise)) / RATE)
        buzz = noise * (1 + 0.5 * modulation)
        assert scores.hop_buzz(scores.prepare(buzz, RATE), hop_seconds) > 15


def test_songs_without_treble_do_not_count_as_copies_of_each_other():
    lowpass = butter(8, 1500, fs=RATE, output="sos")
    hiss = 1e-2 * np.random.default_rng(0).normal(size=(2, 12 * RATE))
    first, second = (sosfilt(lowpass, melody(seed=seed) + hiss[seed]) for seed in (0, 1))
    reference = scores.Reference(first, RATE, HOP)
    assert reference.baselines["copied-halves"] < 0.1
    assert reference.score(second)["copied"] < 0.1
    assert reference.score(first + 0.01 * hiss[1])["copied"] > 0.9


def test_silence_and_less_than_a_second_are_neither_a_copy_nor_new_and_no_loop():
    song = melody()
    song[4 * RATE : 7 * RATE] = 0
    reference = scores.Reference(song, RATE, HOP)
    silent = np.zeros(5 * RATE)
    for clip, words in (
        (silent, "silent, or too short to compare"),
        (song[: RATE * 9 // 10], "sounds like the song"),
    ):
        found = reference.score(clip)
        assert not {"copied", "copied-seconds", "loop"} & set(found)
        assert all(np.isfinite(value) for value in found.values())
        assert reference.summary(found) == words
        assert "copied" not in reference.line(found)
    assert reference.score(silent)["harmony"] == 0


def test_what_sounds_like_the_song_is_bounded_by_noise():
    album = np.append(melody(seed=2), 0.2 * np.sin(2 * np.pi * 3000 * np.arange(12 * RATE) / RATE))
    reference = scores.Reference(album, RATE, HOP)  # its halves are as far apart as noise
    own = reference.baselines
    assert own["timbre-halves"] > own["timbre-noise"] / 4
    noise = reference.score(white_noise())
    assert reference.summary({**noise, "timbre": own["timbre-noise"]}).startswith("does not sound like")
    repeated = scores.Reference(np.tile(melody(2), 6), RATE, HOP)
    own = repeated.baselines
    assert own["timbre-halves"] < own["timbre-noise"] / 100
    near = {**repeated.score(melody(seed=1)), "timbre": own["timbre-noise"] / 7}
    assert repeated.summary(near).startswith("sounds like the song")
    looping = {**near, "loop": own["loop"] + 8}
    assert repeated.ranking_key(looping) > 1.5 * repeated.ranking_key({**near, "copied": 0.0})


def test_frechet_distance_of_known_gaussians():
    first, second = np.random.default_rng(0).normal(size=(2, 20000, 3))
    assert scores.frechet(first, first) < 1e-6
    # means 2 apart: 4; std 1 and 3: (3 - 1)^2 per dimension
    assert abs(scores.frechet(first, second + [2, 0, 0]) - 4) < 0.1
    assert abs(scores.frechet(first, 3 * second) - 12) < 0.3


def test_takes_are_ranked_by_timbre_loops_and_copies():
    key, new = reference().ranking_key, scored("new")
    assert key(new) < key(scored("noise"))
    assert key(new) < key(scored("looping"))
    # the same timbre, but copied
    assert key({**new, "copied": scored("song")["copied"]}) > key(new)
    # of a song that repeats itself as much, neither counts
    repeating, alike = own_reference(loop=8.0, **{"copied-halves": 0.6}), {"loop": 8.0, "copied": 0.5}
    assert repeating.ranking_key({**new, **alike}) == repeating.ranking_key({**new, "loop": 0, "copied": 0})


def test_hints_name_what_is_wrong():
    def problems(sound):
        return [hint.split(":")[0] for hint in reference().hints(scored(sound))]

    assert problems("new") == []
    assert problems("song") == ["it copies the song"]
    assert "it loops" in problems("looping")
    assert problems("noise")[0] == "it is as close to noise as to the song"


def test_a_clip_is_summed_up_in_plain_words():
    def summary(sound, **values):
        return reference().summary({**scored(sound), **values})

    assert summary("new", loop=0) == "sounds like the song; new music, 0% copied; no loops"
    assert summary("song") == "sounds like the song; 100% copied from the song; no loops"
    assert summary("new", copied=0.44, loop=1.2) == (
        "sounds like the song; 44% copied from the song; no loops over 1.2 s"
    )
    noise = "does not sound like the song; new music, 0% copied"
    assert summary("noise", loop=0) == f"{noise}; no loops"
    assert summary("noise", loop=7.5) == f"{noise}; repeats a passage of 7.5 s"
    repeating = own_reference(**{"copied-halves": 0.6}).summary({**scored("new"), "copied": 0.44})
    assert "44% copied, but the song repeats 60% of itself" in repeating


def test_the_keys_of_scores_yaml_and_their_order():
    baselines = ["timbre-halves", "timbre-noise", "onsets", "sustain", "copied-halves", "loop", "hop-buzz"]
    assert list(reference().baselines) == baselines
    clip = scored("new")
    assert list(clip) == [
        *("timbre", "spectrum", "harmony", "onsets", "sustain", "copied", "copied-seconds"),
        *("copied-at", "copied-from", "loop", "hop-buzz", "drift"),
    ]
    assert {type(value) for values in (clip, reference().baselines) for value in values.values()} == {float}


def test_terminal_and_report_show_the_scores_with_their_baselines():
    song, passage, new = own_reference(onsets=4, **{"timbre-halves": 100}), scored("passage"), scored("new")
    assert "longest copy 5.0 s, copied from 3.0 s" in song.line(passage)
    assert ", onsets 3.8/s (song 4.0/s), " in song.line({**new, "onsets": 3.8})
    assert "longest copy" not in song.line({**new, "copied": 0.0})

    def rows(timbre, clip):
        return dict(song.describe({**clip, "timbre": timbre}))

    assert rows(50, passage)["longest copy"] == "5.0 s: at 0.0 s in the clip, 3.0 s in the song"
    assert rows(50, passage)["hint"].startswith("it copies the song")
    assert "longest copy" not in rows(50, {**new, "copied": 0.0})
    for timbre, closeness in (
        (50, "closer to the song than"),
        (100, "about as close to the song as"),
        (150, "less close to the song than"),
    ):
        assert f"{closeness} its two halves are to each other" in rows(timbre, new)["timbre"]


def test_a_row_of_the_table_is_all_that_a_new_score_needs(monkeypatch):
    peak = scores.Score(
        *("peak", "peak", "{:.1f} RMS", lambda pair: abs(pair.clip.signal).max(), "less is more even"),
        {"peak": ("song", lambda song: abs(song.signal).max())},
        verdict=lambda values, own: (f"peaks of {values['peak'] / own['peak']:.0f}", "limit it"),
    )
    monkeypatch.setattr(scores, "SCORES", (*scores.SCORES, peak))
    reference = scores.Reference(melody(), RATE, HOP)
    clip = reference.score(white_noise())
    assert type(clip["peak"]) is type(reference.baselines["peak"]) is float
    text = f"{clip['peak']:.1f} RMS (song {reference.baselines['peak']:.1f} RMS)"
    assert reference.line(clip).endswith(f", peak {text}")
    assert ("peak", f"{text}: less is more even") in reference.describe(clip)
    assert reference.summary(clip).endswith(f"; peaks of {clip['peak'] / reference.baselines['peak']:.0f}")
    assert reference.hints(clip)[-1] == "limit it"


def test_stereo_clips_have_a_width_and_the_scores_of_their_mix():
    sides = {"equal": (1, 1), "left": (1, 0), "opposite": (1, -1), "panned": (1, 0.5)}
    reference = scores.Reference(np.outer(melody(4), [1, 0.5]), RATE, HOP)
    clip = melody(2)
    found = {name: reference.score(np.outer(clip, gains)) for name, gains in sides.items()}
    widths = {name: round(values.pop("width"), 1) for name, values in found.items()}
    assert widths == {"equal": -80, "left": 0, "opposite": 80, "panned": -9.5}
    assert reference.baselines["width"] == pytest.approx(-9.54, abs=0.01)
    mono = scores.Reference(melody(4), RATE, HOP)
    assert mono.score(clip) == pytest.approx(found["left"])
    silent = reference.score(np.zeros((RATE, 2)))
    assert "width" not in {**mono.score(clip), **mono.baselines, **silent}


def test_clips_shorter_than_the_windows_are_scored():
    source = tone(2.0, RATE)
    clip = scores.Reference(source, RATE, HOP).score(source[: RATE // 10])
    assert all(np.isfinite(value) for value in clip.values())
    assert scores.picture([source[:100]], RATE).size > 0


def test_what_a_short_song_does_not_have_is_left_out():
    noise = white_noise()
    reference = scores.Reference(noise[: RATE // 5], RATE, HOP)
    clips = [reference.score(noise[start : start + RATE // 2]) for start in (RATE, 2 * RATE)]
    assert "timbre-halves" not in reference.baselines
    assert np.isfinite(
        [*reference.baselines.values(), *(value for clip in clips for value in clip.values())]
    ).all()
    assert "nan" not in str((reference.line(clips[0]), reference.describe(clips[0])))
    keys = [reference.ranking_key(clip) for clip in clips]
    assert sorted(keys) == sorted(keys, key=lambda key: clips[keys.index(key)]["timbre"])
    silent = {key: value for key, value in clips[0].items() if key != "timbre"}  # a clip may lack it, too
    assert reference.ranking_key(silent) > max(keys)
    assert "timbre" not in reference.line(silent)
    reference.hints(silent), reference.describe(silent)


def test_pauses_change_neither_levels_nor_timbre():
    song, clip = melody(), melody(seed=1)
    paused = np.concatenate([song[: 4 * RATE], np.zeros(8 * RATE), song[4 * RATE :]])
    plain, with_pause = (scores.Reference(signal, RATE, HOP) for signal in (song, paused))
    timbre = plain.score(clip)["timbre"]
    assert with_pause.score(clip)["timbre"] == pytest.approx(timbre, rel=0.3)
    silent = with_pause.score(1e-12 * clip)  # a generated pause, rounded
    assert "timbre" not in silent
    assert silent["onsets"] == 0
    assert with_pause.ranking_key(silent) > with_pause.ranking_key(with_pause.score(white_noise()))
    sound = scores.prepare(paused, RATE)
    np.testing.assert_allclose(
        np.delete(sound, slice(4 * RATE, 12 * RATE)), scores.prepare(song, RATE), rtol=0.02
    )


def test_scores_do_not_import_tensorflow():
    code = "import sys, joanna.scores; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=PROJECT).returncode == 0


def test_a_copy_with_other_phases_is_a_copy():
    assert scored("new")["copied"] < 0.1
    score = reference().score(melody(seed=1), melody())  # the clip's magnitudes with phases of the song
    assert (score["copied"], score["copied-seconds"]) == (1, pytest.approx(12, abs=0.2))


def test_drift_tells_a_clip_that_gets_lost():
    steady = melody(24, seed=1)
    lost = np.append(steady[: 14 * RATE], 0.3 * white_noise(10))
    song, *clips = (scores.Features(each, RATE, HOP) for each in (melody(24), steady, lost, lost[::-1]))
    drifts = [scores.drift(clip, song) for clip in clips]
    assert drifts[0] == pytest.approx(1, abs=0.5)
    assert drifts[1] > 5
    assert drifts[2] < 0.2
    assert scores.Reference(melody(24), RATE, HOP).score(lost)["drift"] == pytest.approx(drifts[1])


def test_a_long_song_analysed_in_parts_has_the_same_features(monkeypatch):
    song = np.random.default_rng(0).normal(size=70_000) * np.linspace(0.1, 1, 70_000)
    at_once, baselines = scores.Features(song, 16000, 0.032), scores.Reference(song, 16000, 0.032).baselines
    monkeypatch.setattr(scores, "_PART", 2**14)
    monkeypatch.setattr(audio, "_BLOCK", 10_000)
    in_parts = scores.Features(song, 16000, 0.032)
    np.testing.assert_allclose(in_parts.mel, at_once.mel, atol=1e-9)
    np.testing.assert_allclose(in_parts.chroma, at_once.chroma, atol=1e-9)
    np.testing.assert_allclose(in_parts.spectrum, at_once.spectrum, atol=1)
    assert scores.Reference(song, 16000, 0.032).baselines == pytest.approx(baselines, rel=0.15)
