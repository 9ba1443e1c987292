"""The four stages with stereo=True, at tiny width, in one process."""

import numpy as np
import pytest
import yaml
from helpers import page_data, tiny_run, tone, write_wav
from scipy.io import wavfile

import autoencoder
import generate
import lstm
import preprocess
from joanna import generation
from joanna.artifacts import Frames
from joanna.run import Run
from joanna.settings import load

LOW, HIGH = 440.0, 1000.0  # Hz, of the left and of the right channel; each has another tone at 1.5 times that
WORDS = ["source=song.wav", "stereo=True", "sequence-lengths=[4]"]
WORDS += ["method=part", "phase-method=all"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that has learned a song with a low tone on the left and a high one on the right."""
    root = tmp_path_factory.mktemp("stereo")
    write_wav(root / "song.wav", np.stack([tone(pitch=LOW), tone(pitch=HIGH)], axis=1))
    write_wav(root / "seed.wav", tone(pitch=LOW))
    run = tiny_run(root, *WORDS)
    for stage in (preprocess, autoencoder, lstm, generate):
        stage.main(run)
    return run


def panning(path):
    """Level of the left channel over the right one in dB, of the low and of the high tones of a wav."""
    rate, samples = wavfile.read(path)
    power = np.square(np.abs(np.fft.rfft(samples, axis=0)))
    frequencies = np.fft.rfftfreq(len(samples), 1 / rate)
    bands = [np.abs(frequencies / pitch - 1.25) < 0.3 for pitch in (LOW, HIGH)]
    return [10 * np.log10(np.divide(*power[band].sum(axis=0))) for band in bands]


@pytest.mark.parametrize("name", ["reconstruction", "part-4-network", "part-4-follow", "part-4-griffin-lim"])
def test_each_sound_keeps_its_place(run, name):
    low, high = panning(run.clip_file(name))
    assert low > 6
    assert high < -6


def test_the_outputs_are_stereo(run):
    rate, samples = wavfile.read(run.clip_file("part-4-follow"))
    assert samples.shape == (2000, 2)
    scores = yaml.safe_load((run.output / "scores.yaml").read_text())
    for figures in scores.values():
        assert figures["width"] == pytest.approx(0, abs=3)
    assert "in stereo" in dict(page_data(run.report_file)["facts"])["learned from"]


def test_a_mono_recording_is_continued_and_the_clip_made_again(run, capsys):
    words = ["seed-source=seed.wav", "continue=True", "phase-method=follow"]
    generate.main(tiny_run(run.root, *WORDS, *words))
    assert "seed-source: mono, so both channels are equal" in capsys.readouterr().out
    clip = run.clip_file("part-4-continued")
    _, samples = wavfile.read(clip)
    assert samples.shape == (4800 + 2000, 2)
    assert (samples[:4700, 0] == samples[:4700, 1]).all()
    assert np.corrcoef(samples[4800:].T)[0, 1] < 0.5
    generate.main(Run(load([str(clip)], generating=True), run.root), clip=str(clip))
    assert f"equals {clip}, byte for byte" in capsys.readouterr().out


def test_a_mono_song_gives_equal_channels_whatever_the_network_puts_out(tmp_path, capsys):
    write_wav(tmp_path / "song.wav", tone())
    run, rng = tiny_run(tmp_path, *WORDS), np.random.default_rng(0)
    preprocess.main(run)
    assert "source: mono, so both channels are equal" in capsys.readouterr().out
    song = Frames.load(run)
    frames = {name: rng.normal(size=part.frames.shape) for name, part in song.components.items()}
    left, right = generation.to_audio(run, song, frames).T
    assert left.std() > 0.01
    np.testing.assert_allclose(left, right, atol=1e-12)
