"""The documentation agrees with the code."""

import re
import shlex

import pytest

import config
from joanna import grid
from joanna.cli import make_parser
from joanna.run import PROJECT
from joanna.settings import load

PAGES = sorted([*PROJECT.glob("*.md"), *PROJECT.glob("docs/*.md")])
FILE_OPTIONS = ("--out", "--from")


def page_name(path):
    return str(path.relative_to(PROJECT))


def settings_words(command):
    """The words of a command that settings.load takes: no options, no files of a run, no comment."""
    words = shlex.split(command, comments=True)
    for option in FILE_OPTIONS:
        if option in words:
            index = words.index(option)
            del words[index : index + 2]
    return [word for word in words if not word.startswith(("output/", "--"))]


def test_settings_words():
    assert settings_words("demo 'a=[1,2]' --out x.wav b=1 # why") == ["demo", "a=[1,2]", "b=1"]
    assert settings_words("output/harp/settings.yaml name=again --help") == ["name=again"]


def test_the_reference_lists_every_setting_with_default_and_meaning():
    reference = (PROJECT / "docs" / "reference.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w-]+)` \| `(.*?)` \| (.*) \|$", reference, re.MULTILINE)
    listed = re.findall(r"^  ([\w-]+) +(.*) \[(.*)\]$", make_parser("").format_help(), re.MULTILINE)
    assert {key for key, _, _ in listed} == set(config.settings)
    assert rows == [(key, default, meaning) for key, meaning, default in listed]


def test_the_reference_lists_every_preset():
    reference = (PROJECT / "docs" / "reference.md").read_text(encoding="utf-8")
    for preset in config.presets:
        assert f"\n| `{preset}` | " in reference


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_example_commands_are_accepted(page):
    text = page.read_text(encoding="utf-8")
    for command in re.findall(r"(?:\./run\.sh|python \w+\.py) ([^`\n|]*)", text):
        words = settings_words(command)
        if words[:1] == ["sweep"]:
            grid.read([word for word in words[1:] if word != "each=True"])  # the folder does not exist
        elif words[:1] != ["test"]:
            load(words)


def test_the_readme_has_examples_and_is_short():
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    assert len(re.findall(r"(?:\./run\.sh|python \w+\.py) ", readme)) > 15
    assert len(readme.split()) < 1500


def test_the_changelog_is_short():
    lines = (PROJECT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "# Changelog"
    assert len([line for line in lines[1:] if line.strip()]) <= 20


def anchors(text):
    """Anchors of a page's headings, as forges make them."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_relative_links_point_to_files_and_headings(page):
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"", text):
        path, _, anchor = "".join(link).partition("#")
        if "://" in path:
            continue
        target = page.parent / path if path else page
        assert target.is_file(), path
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), f"{path}#{anchor}"


def test_every_test_named_in_the_faults_exists():
    text = (PROJECT / "docs" / "faults.md").read_text(encoding="utf-8")
    named = re.findall(r"`(?:tests/)?(test_\w+\.py)(?:::(\w+))?`", text)
    assert len(named) > 30
    missing = []
    for file, test in named:
        path = PROJECT / "tests" / file
        content = path.read_text(encoding="utf-8") if path.is_file() else ""
        if not re.search(rf"^def {test or 'test_'}", content, re.MULTILINE):
            missing.append(f"{file}::{test}")
    assert not missing
    for script in re.findall(r"`(benchmarks/\w+\.py)`", text):
        assert (PROJECT / script).is_file()
