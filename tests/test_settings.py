import re
import shlex
import subprocess
import sys

import pytest
import yaml
from conftest import PROJECT

import config
from joanna import settings as settings_module
from joanna.settings import UserError

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
    seed = dict(config.presets["seed"])
    assert seed.pop("source") == config.settings["source"]
    assert seed == CONTRACT


def test_preset_then_override():
    settings = settings_module.load(["demo", "dropout=0.2", "learning-rate=1"])
    assert settings["ae-iteration"] == config.presets["demo"]["ae-iteration"]
    assert settings["dropout"] == 0.2
    assert settings["learning-rate"] == 1.0
    assert settings_module.load(["learning-rate=1e-4"])["learning-rate"] == 1e-4
    assert config.settings["dropout"] == 0.4


@pytest.mark.parametrize("word", ["No #5", "Live: Paris", "01", "yes", "1e3"])
def test_words_are_taken_as_they_are(word):
    assert settings_module.load([f"source={word}"])["source"] == word
    assert settings_module.load([f"source={word}.wav"])["name"]


@pytest.mark.parametrize(
    ("stem", "name"),
    [("'Round Midnight", "Round-Midnight"), ("(live) song", "live--song"), ("...Baby", "Baby")],
)
def test_any_file_name_makes_a_name_for_the_run(stem, name):
    assert settings_module.load([f"source=./sources/{stem}.wav"])["name"] == name
    assert settings_module.load(["source=???.wav"])["name"]
    assert settings_module.load([f"source={'a' * 200}.wav"])["name"] == 100 * "a"


def test_saved_settings_repeat_the_run(root):
    settings = settings_module.load(["demo", "sequence-lengths=[3,5]", "name=again"])
    settings_module.save(settings)
    path = root / "output" / "again" / "settings.yaml"
    assert yaml.safe_load(path.read_text()) == settings
    assert settings_module.load([str(path)]) == settings


def test_help_lists_every_key():
    text = settings_module.help_text("about")
    for key in config.settings:
        assert f"\n  {key} " in text


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("dropuot=0.2", "did you mean 'dropout'"),
        ("dmeo", "did you mean 'demo'"),
        ("dropout=high", "expected a number such as 0.5, 0.0 to 0.99"),
        ("minutes=1:30", "minutes is '1:30'; expected a number"),
        ("--dropout=0.2", "settings take no dashes: dropout=VALUE"),
        ("dropout", "without spaces: dropout=VALUE"),
        ("24]", "lists are given without spaces"),
        ("my song.mp3", "to learn from a recording: source='my song.mp3'"),
        ("missing.wav", "To learn from a recording: source=PATH"),
        ("dropout=1", "expected 0.0 to 0.99"),
        ("dropout=.nan", "expected 0.0 to 0.99"),
        ("ae-epoch=1.5", "expected a whole number, 1 or more"),
        ("load-weights=2", "expected True or False"),
        ("overlap=1", "expected 2 to 64"),
        ("overlap=3", "does not divide frame-length"),
        ("dim-decrease=600", "leaves no units"),
        ("block-count=[", "cannot read the value"),
        ("name=../up", "expected a plain name"),
        ("phase-encoder=a/b", "expected a plain name"),
        ("phase-result=magnitude-result", "two files would be named"),
        ("sequence-lengths=12", "expected a list"),
        ("sequence-lengths=[0]", "whole numbers"),
        ("method=all", "expected part, whole, both"),
        ("seed-section=8", "expected 0 to 7"),
        ("missing.yaml", "cannot be read as settings"),
    ],
)
def test_mistakes_are_named(argument, words):
    with pytest.raises(UserError, match="(?s).*") as caught:
        settings_module.load([argument])
    assert words in str(caught.value)


def test_the_readme_lists_every_setting_with_its_default():
    readme = (settings_module.ROOT / "README.md").read_text()
    for line in settings_module.help_text("").splitlines():
        found = re.fullmatch(r"  ([\w-]+) +(.*) \[(.*)\]", line)
        if found:
            key, meaning, default = found.groups()
            assert f"| `{key}` | `{default}` | {meaning} |" in readme
    assert all(f"`{key}`" in readme for key in config.settings)


def test_scripts_without_their_packages_say_how_to_have_them():
    for script in ("preprocess", "autoencoder", "lstm", "generate"):
        command = [sys.executable, "-S", f"{script}.py", "demo", "name=a b"]
        result = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
        assert (result.returncode, result.stdout) == (2, "")
        assert f".venv/bin/python {script}.py demo 'name=a b'\n" in result.stderr
        assert result.stderr.count("\n") == 1


def test_each_help_says_what_it_does_and_its_examples_are_accepted():
    sections = {"preprocess": "block-count", "autoencoder": "ae-epoch", "lstm": "own-share"}
    sections |= {"generate": "variation"}
    for script, key in sections.items():
        command = [sys.executable, f"{script}.py", "--help"]
        said = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
        assert "eads " in said.split("presets:")[0]
        assert "writes" in said.split("presets:")[0]
        for other in sections.values():
            assert (f"\n  {other} " in said) == (other == key), (script, other)
        examples = re.findall(rf"    python {script}\.py (.*)", said)
        assert examples
        for example in examples:
            words = [word for word in shlex.split(example.split(" #")[0]) if "output/" not in word]
            for option in ("--out", "--from"):
                if option in words:
                    del words[words.index(option) :]
            settings_module.load(words)


def test_examples_in_the_readme_are_accepted():
    readme = (PROJECT / "README.md").read_text()
    commands = re.findall(r"(?:\./run\.sh|python \w+\.py) ([^`\n|#]*)", readme)
    assert len(commands) > 15
    for command in commands:
        words = [
            word for word in shlex.split(command) if not word.startswith(("output/", "best.", "--"))
        ]
        if "test" not in words:
            settings_module.load(words)
