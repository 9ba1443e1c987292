import json
import math
import re

import numpy as np
import pytest
import yaml
from helpers import tiny_run

import config
from joanna.audio import wav_bytes
from joanna.errors import UserError
from joanna.run import Run
from joanna.settings import SETTINGS, bottleneck, curve, load

CONTRACT = {
    "overlap": 2,
    "coded-file": "coded-file",
    "lstm-file": "lstm-file",
    "phase-encoder": "phase-encoder",
    "magnitude-encoder": "magnitude-encoder",
    "phase-result": "phase-result",
    "magnitude-result": "magnitude-result",
    "lstm-epoch": 200,
    "lstm-iteration": 30,
    "ae-epoch": 200,
    "ae-iteration": 40,
    "section-count": 8,
    "block-count": 175,
    "layer-count": 4,
    "sample-rate": 16000,
    "dim-decrease": 250,
    "load-weights": True,
    "dropout": 0.4,
}


def test_the_contract_keys_have_their_defaults():
    assert {key: config.settings[key] for key in CONTRACT} == CONTRACT
    assert config.presets["seed"] == {"source": config.settings["source"], **CONTRACT}
    assert set(SETTINGS) == set(config.settings)


def test_preset_then_override():
    settings = load(["dropout=0.2", "demo", "learning-rate=1"])
    assert settings["ae-iteration"] == config.presets["demo"]["ae-iteration"]
    assert settings["dropout"] == 0.2
    assert (settings["learning-rate"], type(settings["learning-rate"])) == (1.0, float)
    assert load(["learning-rate=1e-4"])["learning-rate"] == 1e-4
    assert load(["section-count=auto"])["section-count"] == "auto"
    assert config.settings["dropout"] == 0.4


def test_saved_settings_repeat_the_run(tmp_path):
    run = tiny_run(tmp_path, "sequence-lengths=[3,5]", "name=again", "source=Ü.wav", "load-weights=False")
    run.save_settings()
    assert load([str(run.settings_file)]) == {**run.settings, "load-weights": True}
    assert load(["dropout=0.3", str(run.settings_file)])["dropout"] == 0.3


def test_a_clip_has_the_seeds_of_its_training_and_of_its_generation(tmp_path):
    settings = {"dropout": 0.1, "random-seed": 3}
    metadata = {
        "settings": settings,
        "random-seed": 4,
        "weights": [],
        "seed": None,
        "name": "a",
        "take": 1,
    }
    (tmp_path / "a.wav").write_bytes(wav_bytes(np.ones(9), 4000, json.dumps(metadata)))
    for generating, seed in ((False, 3), (True, 4)):
        loaded = load([str(tmp_path / "a.wav")], generating)
        assert (loaded["dropout"], loaded["random-seed"]) == (0.1, seed)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1:30", 90), ("0:20", 20), ("1:30.1", 90.1), ("01:05", 65), ("1:02:03", 3723), ("90:00", 5400)]
    + [("90", 90), ("1e2", 100), ("0.5", 0.5)],
)
def test_seconds_may_be_given_as_minutes_and_seconds(tmp_path, monkeypatch, text, seconds):
    keys, path = ("start", "seconds", "generate-seconds"), tmp_path / "settings.yaml"
    path.write_text("".join(f"{key}: {text}\n" for key in keys))
    runs = [Run(load(words), tmp_path) for words in ([f"{key}={text}" for key in keys], [str(path)])]
    monkeypatch.setattr(config, "settings", {**config.settings, **dict.fromkeys(keys, text)})
    for run in (*runs, Run(load([]), tmp_path)):
        run.save_settings()
        saved = yaml.safe_load(run.settings_file.read_text())
        assert [saved[key] for key in keys] == [run.settings[key] for key in keys] == 3 * [seconds]


def test_a_number_may_begin_with_zeros():
    found = load(["block-count=060", "sequence-lengths=[012,24]", "dropout=00.25", "learning-rate=1e-04"])
    assert (found["block-count"], found["sequence-lengths"], found["dropout"]) == (60, [12, 24], 0.25)
    assert found["learning-rate"] == 1e-4


@pytest.mark.parametrize(
    "text", ["0:0,20:0.4", "10:0.4", "0.5:1e-2,1:0", "0:0.4,1:0.9,repeat", "0:0.4, 1:0.9, repeat"]
)
def test_a_curve_is_kept_as_it_was_given(tmp_path, text):
    run = tiny_run(tmp_path, f"variation={text}")
    run.save_settings()
    assert load([str(run.settings_file)])["variation"] == run.settings["variation"] == text
    assert curve("0.5:1e-2,1:0") == ((0.5, 1), (0.01, 0), math.inf)
    assert curve(0.25).values == (0.25,)


def test_a_curve_stays_at_its_last_value_or_repeats():
    times = np.array([-1, 0, 0.5, 1, 1.5, 2, 2.5, 7])
    np.testing.assert_allclose(curve("0:0,2:0.4").at(times), [0, 0, 0.1, 0.2, 0.3, 0.4, 0.4, 0.4])
    np.testing.assert_allclose(curve("0:0,2:0.4,repeat").at(times), [0, 0, 0.1, 0.2, 0.3, 0, 0.1, 0.2])


@pytest.mark.parametrize(
    ("words", "width", "units"),
    [
        ([], 2048, 1048),
        (["overlap=4"], 2048, 1048),
        (["overlap=3"], 2112, 1112),
        (["overlap=64"], 2048, 1048),
        (["sample-rate=11025"], 1408, 408),
        (["sample-rate=8000", "dim-decrease=auto"], 1024, 524),
        (["hifi"], 5632, 1048),
        (["hifi", "sample-rate=48000"], 6144, 1048),
        (["hifi", "sample-rate=32000"], 4096, 1048),
        (["sample-rate=44100", "frame-length=2048"], 2048, 1048),
    ],
)
def test_frames_last_128_ms_at_any_rate_and_files_hold_their_length(tmp_path, words, width, units):
    run = Run(load(words), tmp_path)
    run.save_settings()
    saved = load([str(run.settings_file)])
    assert (run.settings["frame-length"], bottleneck(run.settings)) == (width, units)
    assert (saved["frame-length"], saved["dim-decrease"]) == (width, run.settings["dim-decrease"])
    # a file of settings keeps its frames at another rate
    assert load([str(run.settings_file), "sample-rate=22050"])["frame-length"] == width


@pytest.mark.parametrize("text", ["No #5", "Live: Paris", "01", "yes", "1e3"])
def test_text_is_not_parsed(text):
    assert load([f"source={text}"])["source"] == text


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("'Round Midnight", "Round-Midnight"),
        ("(live) song", "live--song"),
        ("...Baby", "Baby"),
        ("???", "song"),
        (200 * "a", 100 * "a"),
    ],
)
def test_any_file_name_makes_a_name_for_the_run(stem, name):
    assert load([f"source=./sources/{stem}.wav"])["name"] == name


def test_a_folder_gives_its_whole_name():
    assert load(["source=./sources/Mozart K.331"])["name"] == "Mozart-K.331"


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("dropuot=0.2", "unknown setting 'dropuot'; did you mean 'dropout'? (--help lists"),
        ("dmeo", "did you mean 'demo'"),
        ("Sweep", "unknown preset 'Sweep'; expected ./run.sh sweep, then its words"),
        ("dropout=high", "expected a number, 0.0 to 0.99"),
        ("minutes=1:30", "minutes is '1:30'; expected a number"),
        ("start=1:75", "start is '1:75'; expected a number of seconds, or minutes:seconds, 0.0 to 86400.0"),
        ("start=1:", "start is '1:'; expected a number of seconds, or minutes:seconds"),
        ("seconds=-1:30", "seconds is '-1:30'; expected a number of seconds, or minutes:seconds"),
        ("seconds=", "seconds is ''; expected a number of seconds"),
        ("start=1:2:3:4", "expected a number of seconds, or minutes:seconds"),
        ("start=25:00:00", "start is 90000.0; expected 0.0 to 86400.0"),
        ("generate-seconds=0:00", "generate-seconds is 0.0; expected 0.1 to 86400.0"),
        ("--dropout=0.2", "settings take no dashes: dropout=VALUE"),
        ("--dropuot", "unknown option '--dropuot'; --help lists the options"),
        ("dropout", "without spaces: dropout=VALUE"),
        ("24]", "lists are given without spaces"),
        ("my song.mp3", "to learn from a recording: source='my song.mp3'"),
        ("missing.wav", "To learn from a recording: source=PATH"),
        ("source=", "expected the path of a recording"),
        ("dropout=1", "expected 0.0 to 0.99"),
        ("dropout=.nan", "expected 0.0 to 0.99"),
        ("ae-epoch=1.5", "expected a whole number, 1 to 1000000"),
        ("load-weights=2", "expected True or False"),
        ("overlap=1", "expected 2 to 64"),
        ("frame-length=2047", "does not divide frame-length"),
        ("section-count=all", "expected a whole number, 1 to 100000, or auto"),
        ("dim-decrease=600", "leaves no units"),
        (
            "sample-rate=8000",
            "makes frames of 1024 samples, too few for layer-count 4 x dim-decrease 250: set",
        ),
        ("block-count=[", "cannot read the value"),
        ("name=../up", "expected a plain name"),
        ("name=sweeps/a/../b", "expected a plain name"),
        ("phase-encoder=a/b", "expected a plain name"),
        ("phase-result=magnitude-result", "two files would be named"),
        ("phase-encoder=phase-lstm-file", "two files would be named"),
        ("phase-encoder=magnitude-encoder.Old", "two files would be named 'magnitude-encoder.old'"),
        ("variation=1", "variation is 1.0; expected 0.0 to 0.99"),
        (
            "variation=a",
            "expected a number, 0.0 to 0.99, or seconds:number pairs in order, such as 0:0,20:0.4",
        ),
        (
            "variation=0:0,20",
            "variation is '0:0,20'; expected a number, 0.0 to 0.99, or seconds:number pairs",
        ),
        ("variation=0:0,20:1.4", "variation is '0:0,20:1.4'; expected a number, 0.0 to 0.99, or seconds"),
        ("variation=20:0,0:0.4", "seconds:number pairs in order"),
        ("variation=-1:0,2:0.4", "seconds:number pairs in order"),
        ("variation=0:0,nan:0.4", "seconds:number pairs in order"),
        ("variation=0:0:1,1:0:1", "seconds:number pairs in order"),
        ("variation=0:0.4,repeat", "such as 0:0,20:0.4 or 0:0,20:0.4,repeat"),
        ("variation=0.4,repeat", "seconds:number pairs in order"),
        ("variation=0:0,1:0.4,again", "seconds:number pairs in order"),
        ("sequence-lengths=12", "expected a list"),
        ("sequence-lengths=[0]", "whole numbers from 1 to 65536"),
        ("method=all", "expected part, whole or both"),
        ("seed-section=8", "expected 0 to 7"),
        ("missing.yaml", "cannot be read as settings"),
    ],
)
def test_mistakes_are_named(argument, words):
    with pytest.raises(UserError) as caught:
        load([argument])
    assert words in str(caught.value)


def test_a_mistake_in_a_file_names_it_and_its_text_stays_text(tmp_path):
    path = tmp_path / "mine.yaml"
    for text, message in (
        ("dropout: 3", "dropout is 3.0; expected"),
        ("dropuot: 0.3", "unknown setting 'dropuot'"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=f"^{re.escape(str(path))}: {message}"):
            load([str(path)])
    path.write_text(
        "name: 01\nvariation: 1:0.4\ngenerate-seconds: 1:30\nwhole-variation: 0.2\nsource:  07.wav\n"
    )
    keys = "name", "variation", "generate-seconds", "whole-variation", "source"
    assert [load([str(path)])[key] for key in keys] == ["01", "1:0.4", 90.0, 0.2, "07.wav"]


def test_two_presets_or_files_are_refused(tmp_path):
    path = tmp_path / "a=b.yaml"
    path.write_text("dropout: 0.2\nseed-source:\n")
    assert load([str(path), "takes=2"]) == {**load([]), "dropout": 0.2, "takes": 2}
    for words in (["demo", "evening"], ["demo", "takes=2", str(path)], [str(path), "demo"], ["demo"] * 2):
        with pytest.raises(UserError, match="expected one preset, settings.yaml or clip, not .* and "):
            load(words)
    for words in (["demo", "takes", "2"], ["demo", "24]"], ["demo", "my.mp3"]):  # named before
        with pytest.raises(UserError, match="unknown preset .*(without spaces|learn from a recording)"):
            load(words)


def test_settings_of_an_earlier_version_make_the_same_clips(tmp_path):
    old = {key: value for key, value in load([]).items() if key not in ("guided", "jumps")}
    path = tmp_path / "settings.yaml"
    path.write_text(yaml.safe_dump({**old, "variation": 0.2}))
    loaded = load([str(path)])
    assert (loaded["guided"], loaded["jumps"], loaded["variation"]) == (True, 0.2, 0)
    del old["variation"]  # still older: its own output as its input
    path.write_text(yaml.safe_dump(old))
    assert (load([str(path)])["guided"], load([str(path)])["variation"]) == (False, 0)
    path.write_text("match-statistics: True\nvariation: 0.4\n")  # written by hand
    assert (load([str(path)])["guided"], load([str(path)])["variation"]) == (False, 0.4)
    path.write_text(yaml.safe_dump({**load([]), "variation": 0.2}))
    assert (load([str(path)])["guided"], load([str(path)])["variation"]) == (False, 0.2)
    path.write_text(
        yaml.safe_dump({key: value for key, value in load([]).items() if key != "phase-iterations"})
    )
    assert load([str(path)])["phase-iterations"] == 0


def test_impossible_combinations_are_refused():
    with pytest.raises(UserError, match="all takes of a clip would be equal: raise variation"):
        load(["takes=2", "variation=0"])
    with pytest.raises(UserError, match="all takes of a clip would be equal: raise variation"):
        load(["takes=2", "variation=0:0,20:0"])
    with pytest.raises(UserError, match="would be equal"):  # it rises after the end of the clip
        load(["takes=2", "variation=10:0,20:0.4", "generate-seconds=5"])
    with pytest.raises(UserError, match="all takes of a clip would be equal: raise variation"):
        load(["takes=2", "variation=0:0,5:0,repeat"])
    assert load(["demo", "takes=2", "variation=0:0,10:0.1,repeat"])["generate-seconds"] == 10
    assert load(["takes=2", "variation=0:0,5:0.1,repeat", "generate-seconds=0.5"])["takes"] == 2
    assert load(["takes=2", "variation=0:0,20:0.1"])["takes"] == 2
    with pytest.raises(UserError, match="would be equal"):
        load(["takes=2", "whole-variation=0"])
    assert load(["takes=2", "whole-variation=0", "method=part"])["takes"] == 2
    assert load(["takes=2", "variation=0", "guided=True"])["takes"] == 2
    with pytest.raises(UserError, match="continue is True, but seed-source is empty; set it to the recordin"):
        load(["continue=True"])
    with pytest.raises(UserError, match="block-count is 2; a single frame takes overlap"):
        load(["block-count=2", "overlap=4"])
