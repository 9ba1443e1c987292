from conftest import TINY

import config
from joanna import cost, settings


def test_a_long_run_says_what_it_takes_and_a_short_one_nothing(capsys, monkeypatch):
    cost.main(settings.load(TINY))
    assert capsys.readouterr().out == ""
    monkeypatch.setitem(config.presets, "demo", settings.load(TINY))
    cost.main(settings.load([*TINY, "ae-iteration=100000"]))
    said = capsys.readouterr().out
    assert "training takes about" in said
    assert "./run.sh demo trains for about" in said


def test_frames_trained_grow_with_the_schedule():
    def trained(*words):
        return cost.frames_trained(settings.load([*TINY, *words]))

    autoencoder, lstms = trained()
    assert trained("ae-iteration=4") == (2 * autoencoder, lstms)
    assert trained("lstm-epoch=3") == (autoencoder, 3 * lstms)


def test_where_lists_the_wavs(root, song, capsys):
    chosen = settings.load([*TINY, f"source={song}", "name=mine"])
    folder = settings.output_folder(chosen)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "part-4.wav").touch()
    cost.where(chosen)
    assert str(folder / "part-4.wav") in capsys.readouterr().out
