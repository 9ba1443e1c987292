import pytest
from helpers import TINY, resource_handles, tiny_run

import autoencoder
import config
import lstm
import preprocess
from joanna import estimate
from joanna.settings import load, total_epochs


def test_a_long_run_prints_its_time_and_a_short_one_nothing(tmp_path, song, capsys, monkeypatch):
    estimate.print_estimate(tiny_run(tmp_path, f"source={song}"))
    assert capsys.readouterr().out == ""
    monkeypatch.setitem(config.presets, "demo", load(TINY))
    # the demo has no section 2, and its estimate must not fail for it
    words = ["ae-iteration=100000", "section-count=3", "seed-section=2"]
    estimate.print_estimate(tiny_run(tmp_path, f"source={song}", *words))
    output = capsys.readouterr().out
    assert "measuring this machine ...\ntraining takes about " in output
    assert f"./run.sh demo 'source={song}' name=my-song-demo trains for about " in output
    assert output.endswith("Stop this run with Ctrl-C; the same command resumes it\n")


def test_what_is_trained_already_is_not_counted(tmp_path, song, capsys, monkeypatch):
    words, run = [f"source={song}"], tiny_run(tmp_path, f"source={song}")
    preprocess.main(run)
    autoencoder.main(run)
    monkeypatch.setattr(estimate, "_LONG_RUN", 1)
    capsys.readouterr()
    estimate.print_estimate(tiny_run(tmp_path, *words, "ae-epoch=9"))
    assert "\nthe rest of the training takes about " in capsys.readouterr().out
    estimate.print_estimate(tiny_run(tmp_path, *words, "load-weights=False"))
    assert "\ntraining takes about " in capsys.readouterr().out
    lstm.main(run)
    capsys.readouterr()
    estimate.print_estimate(run)
    assert capsys.readouterr().out == ""


def test_the_networks_that_were_measured_are_freed(tmp_path):
    settings = tiny_run(tmp_path).settings
    estimate.seconds_per_frame(settings, 40)  # objects that Keras creates once
    before = resource_handles()
    estimate.seconds_per_frame(settings, 40)
    assert resource_handles() == before


def test_a_run_whose_sections_bound_it_is_judged_before_the_source_is_read(tmp_path, capsys):
    estimate.print_estimate(tiny_run(tmp_path, "source=none.wav"))
    assert capsys.readouterr().out == ""


def test_the_schedule_and_the_song_count(tmp_path, song):
    def run(*words):
        return tiny_run(tmp_path, f"source={song}", *words)

    chosen = run("ae-iteration=4", "lstm-epoch=3").settings
    assert [total_epochs(chosen, stage) for stage in ("autoencoder", "lstm")] == [8, 6]
    assert estimate.song_frames(run("section-count=auto")) == 4800 // 32
    assert estimate.song_frames(run("section-count=100")) == 4800 // 32
    assert estimate.song_frames(run("section-count=1", "block-count=6")) == 6


@pytest.mark.parametrize(
    ("minutes", "message"), [(0.1, "warning: minutes is 0.1; starting, saving"), (60, "")]
)
def test_too_few_minutes_are_named(tmp_path, capsys, minutes, message):
    estimate.print_estimate(tiny_run(tmp_path, f"minutes={minutes}"))
    output = capsys.readouterr().out
    assert output.startswith(message)
    assert bool(output) == bool(message)
