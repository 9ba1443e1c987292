from conftest import TINY

import config
from joanna import cost, settings, store


def test_a_long_run_says_what_it_takes_and_a_short_one_nothing(capsys, monkeypatch):
    cost.main(settings.load(TINY))
    assert capsys.readouterr().out == ""
    monkeypatch.setitem(config.presets, "demo", settings.load(TINY))
    # a section that only the run itself has is no reason to refuse the demo's estimate
    cost.main(settings.load([*TINY, "ae-iteration=100000", "section-count=3", "seed-section=2"]))
    said = capsys.readouterr().out
    assert "training takes about" in said
    assert "./run.sh demo source=./sources/harp.wav name=harp-demo trains for about" in said


def test_the_schedule_and_the_song_count(song):
    def chosen(*words):
        return settings.load([*TINY, f"source={song}", *words])

    autoencoder, lstms = cost.epochs(chosen())
    assert cost.epochs(chosen("ae-iteration=4")) == (2 * autoencoder, lstms)
    assert cost.epochs(chosen("lstm-epoch=3")) == (autoencoder, 3 * lstms)
    there = cost.frames_of_the_song(chosen("section-count=auto"))
    assert cost.frames_of_the_song(chosen("section-count=100")) == there  # there are no more
    assert cost.frames_of_the_song(chosen("section-count=1", "block-count=6")) == 6


def test_epochs_that_minutes_overrule_are_named(capsys, monkeypatch):
    for words, said in (
        (["minutes=60", "ae-epoch=4", "lstm-iteration=3"], "ae-epoch and lstm-iteration will have no"),
        (["minutes=60"], ""),
        (["ae-epoch=4"], ""),
    ):
        monkeypatch.setattr("sys.argv", ["cost.py", *words])
        cost.main(settings.load([*TINY, *words]))
        found = capsys.readouterr().out
        assert said in found if said else not found


def test_where_lists_the_wavs(root, song, capsys):
    chosen = settings.load([*TINY, f"source={song}", "name=mine"])
    folder = settings.output_folder(chosen)
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("part-4.wav", "part-4-take-1.wav"):
        (folder / name).touch()
    store.note(folder / ".generated.json", {}, [folder / "part-4.wav"])
    cost.where(chosen)
    said = capsys.readouterr().out
    assert str(folder / "part-4.wav") in said
    assert "take" not in said  # of an earlier run
