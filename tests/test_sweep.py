"""Sweeps: the grid, the tree of stages, the runs one after the other, and the page in Chromium."""

import csv
import fcntl
import importlib
import importlib.util
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest
import yaml
from helpers import TINY, copy_project, page_data, tiny_run, tone, wait_for, write_wav
from test_report import (  # noqa: F401 - a fixture
    assert_accessible_on_a_phone,
    chromium,
    count,
    messages,
    open_on_a_phone,
    resize,
)

from joanna import grid, sweep, sweep_report, tree
from joanna.artifacts import STAGES
from joanna.errors import UserError
from joanna.settings import load

WORDS = [*TINY, "source=./sources/song.wav", "method=part", "name=s", "sequence-lengths=[4]"]


def names(found):
    return [run.output.name for run in found.points]


def test_lists_make_a_grid_of_runs(tmp_path):
    found = grid.read([*WORDS, "dropout=[0,0.2]", "sequence-lengths=[[4],[4,8]]", "guided=True"], tmp_path)
    assert names(found) == [f"dropout-{rate}-sequence-lengths-{lengths}" for rate, lengths in
                            (("0", "4"), ("0", "4-8"), ("0.2", "4"), ("0.2", "4-8"))]  # fmt: skip
    settings = [run.settings for run in found.points]
    assert [(each["dropout"], each["sequence-lengths"]) for each in settings] == [
        (0.0, [4]), (0.0, [4, 8]), (0.2, [4]), (0.2, [4, 8])]  # fmt: skip
    assert all(each["guided"] for each in settings)
    run = next(iter(found.points))
    assert run.output == tmp_path / "output" / "sweeps" / "s" / "dropout-0-sequence-lengths-4"
    assert run.settings["name"] == "sweeps/s/dropout-0-sequence-lengths-4"
    assert load([f"name={run.settings['name']}"])["name"] == run.settings["name"]  # as settings.yaml has it
    assert names(grid.read(WORDS, tmp_path)) == ["run"]
    # values as on the command line; equal ones once
    found = grid.read([*WORDS, "start=[0:01,1:30]", 'variation=["0:0,20:0.4",0.40,0.4]'], tmp_path)
    assert [run.settings["start"] for run in found.points] == [1.0, 1.0, 90.0, 90.0]
    assert names(found)[:2] == ["start-0-01-variation-0-0-20-0.4", "start-0-01-variation-0.40"]


def test_an_album_is_a_run_a_recording(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))  # without ffmpeg
    (tmp_path / "sources" / "two").mkdir(parents=True)
    for name in ("a.wav", "No #5.wav", "two/a.wav"):
        write_wav(tmp_path / "sources" / name, tone())
    (tmp_path / "sources" / "b.m4a").write_bytes(b"")
    found = grid.read([*TINY, "source=./sources", "each=True"], tmp_path)
    assert capsys.readouterr().out == "skipped b.m4a: install ffmpeg, which reads it, or convert to wav\n"
    assert found.name == "sources"
    sources = ["./sources/No #5.wav", "./sources/a.wav", "./sources/two/a.wav"]
    assert [run.settings["source"] for run in found.points] == sources
    assert re.fullmatch(r"No-5 a-\w{6} a-\w{6}", " ".join(names(found)))
    assert len(set(names(found))) == 3
    listed = grid.read([*TINY, "source=[./sources/a.wav,'./sources/No #5.wav']"], tmp_path)
    assert [run.settings["source"] for run in listed.points] == [sources[1], sources[0]]
    assert names(listed) == ["a", "No-5"]


def test_random_draws_from_the_grid_by_random_seed(tmp_path):
    words = [*WORDS, "dropout=[0,0.1,0.2]", "variation=[0.1,0.2,0.3]"]
    whole, drawn = (names(grid.read([*words, *more], tmp_path)) for more in ([], ["random=4"]))
    assert len(drawn) == 4
    assert drawn == [name for name in whole if name in drawn]
    assert drawn == names(grid.read([*words, "random=4"], tmp_path))
    assert drawn != names(grid.read([*words, "random=4", "random-seed=3"], tmp_path))
    assert names(grid.read([*words, "random=20"], tmp_path)) == whole
    numbers = "[" + ",".join(map(str, range(1, 101))) + "]"
    large = [f"{key}={numbers}" for key in ("ae-epoch", "lstm-epoch", "takes", "window-batch")]
    assert len(grid.read([*WORDS, *large, "random=3"], tmp_path).points) == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["droput=[0,0.2]"], "unknown setting 'droput'; did you mean 'dropout'"),
        (["dropout=[0,0.2,4]", "random=1"], "dropout is 4.0; expected 0.0 to 0.99"),
        (["dropout=[0,[0.2]]"], "dropout is .*; expected a number"),
        (["dropout=[]"], "dropout is .*; expected a number"),
        (["sequence-lengths=[[4],8]"], "sequence-lengths is .*; expected 1 to 100 whole numbers"),
        (["overlap=[2,3]"], "overlap is 3, which does not divide"),
        (["random=0"], "random is '0'; expected a whole number from 1"),
        (["cores=two"], "cores is 'two'; expected a whole number"),
        (["gpus=0.5"], "gpus is 0.5, but without address the runs follow one another"),
        (["gpus=08"], "gpus is '08'; expected a whole number, or a fraction"),
        (["variation=[0.2,0:0,20:0.4]"], r"put quotes around a curve: 'variation=\["),
        (
            ["address=ray://host:10001"],
            "address is 'ray://host:10001'; expected auto or HOST:PORT, or nothing",
        ),
        *(
            (["address=auto", f"seed-source={path}"], f"seed-source is {path}; on a cluster, expected a path")
            for path in ("/a.wav", "../a.wav", "~root/a.wav")
        ),
        (["load-weights=False"], "load-weights is False"),
        (["load-weights=[True,False]"], "load-weights is False"),
        (["name=[a,b]"], r"name is '\[a,b\]'; expected a plain name"),
        (["source=[a.wav,b.wav]", "each=True"], "each is True, but source is a list; leave out each"),
        ([f"source={__file__}", "each=True"], "each is True, but source is not a folder: .*test_sweep.py"),
        (["source=none", "each=True"], "none: no such file"),
        ([f"{key}={list(range(1, 30))}" for key in ("takes", "ae-epoch", "lstm-epoch")], "has 24,389 runs"),
        (["demmo"], "unknown preset 'demmo'"),
    ],
)
def test_mistakes_are_refused_before_anything_runs(tmp_path, words, message):
    with pytest.raises(UserError, match=message):
        grid.read([*WORDS, *(word.replace(", ", ",") for word in words)], tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_address_takes_the_place_of_a_wrong_ray_address(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "ray://host:10001")
    assert grid.read([*WORDS, "address="], tmp_path).options["address"] == ""
    with pytest.raises(UserError, match="^RAY_ADDRESS is 'ray://host:10001'; expected auto or HOST:PORT"):
        grid.read(WORDS, tmp_path)


def test_runs_keep_their_folders_if_another_setting_changes(tmp_path):
    words = [*WORDS, "source=[a/x.wav,b/x.wav]"]
    found = names(grid.read(words, tmp_path))
    assert len(set(found)) == 2
    assert names(grid.read([*words, "generate-seconds=5"], tmp_path)) == found


def test_a_wrong_source_leaves_nothing_behind(tmp_path):
    found = grid.read([*WORDS, "dropout=[0,0.2]"], tmp_path)
    with pytest.raises(UserError, match="song.wav: no such file"):
        sweep.run_sweep(found)
    assert not [path for path in tmp_path.rglob("*") if path.name != "sweeps" and path.parent != tmp_path]


def test_frames_are_shared_and_each_run_has_its_settings(tmp_path, monkeypatch):
    (tmp_path / "sources").mkdir()
    write_wav(tmp_path / "sources" / "song.wav", tone())
    runs = list(grid.read([*WORDS, "dropout=[0,0.2]"], tmp_path).points)
    assert list(tree.make_frames(runs)) == []
    assert [yaml.safe_load(run.settings_file.read_text()) for run in runs] == [run.settings for run in runs]
    first, second = (run.frames_file for run in runs)
    assert first.samefile(second)

    def link(*_):
        raise OSError("no hard links")

    monkeypatch.setattr(os, "link", link)
    tree.share(*runs, ("preprocess",))
    assert not first.samefile(second)
    assert first.read_bytes() == second.read_bytes()


def test_too_little_memory_is_one_sentence(project, monkeypatch):
    (project / "hungry.py").write_text("def main(run):\n    bytearray(2**62)\n")
    monkeypatch.setattr(tree, "PROJECT", project)
    (run,) = grid.read([*WORDS, "name=hungry"], project).points
    with pytest.raises(UserError, match="^too little memory; close other programs"):
        tree.run_stages(run, ("hungry",))


@pytest.mark.parametrize(
    ("error", "reason"),
    [(MemoryError(), "too little memory; "), (PermissionError(13, "denied", "/x"), "/x: denied")],
)
def test_a_run_whose_frames_cannot_be_made_fails_in_a_sentence(tmp_path, monkeypatch, error, reason):
    def main(run):
        if not run.settings["dropout"]:
            raise error

    monkeypatch.setattr(importlib.import_module("preprocess"), "main", main)
    runs = list(grid.read([*WORDS, "dropout=[0,0.2]"], tmp_path).points)
    ((failed, message),) = tree.make_frames(runs)
    assert failed is runs[0]  # the other goes on
    assert message.startswith(reason)


def shape(nodes):
    """A tree of stages as nested tuples of their initials and run names."""
    return [
        ("".join(stage[0] for stage in node.stages), shape(node.children) or node.run.output.name)
        for node in nodes
    ]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["variation=[0,0.4]"], [("al", [("g", "variation-0"), ("g", "variation-0.4")])]),
        (["lstm-epoch=[1,2]"], [("a", [("lg", "lstm-epoch-1"), ("lg", "lstm-epoch-2")])]),
        (["ae-epoch=[1,2]"], [("alg", "ae-epoch-1"), ("alg", "ae-epoch-2")]),
        (["phase-method=[network,follow]", "minutes=1"],
         [("alg", "phase-method-network"), ("alg", "phase-method-follow")]),
        (["block-count=[30,60]"], [("alg", "block-count-30"), ("alg", "block-count-60")]),
        (["own-share=[0,1]", "takes=[1,2]"],
         [("a", [("l", [("g", f"own-share-{share}-takes-{n}") for n in (1, 2)]) for share in (0, 1)])]),
    ],
)  # fmt: skip
def test_runs_share_the_stages_before_the_first_setting_that_differs(tmp_path, words, expected):
    assert shape(tree.plan(list(grid.read([*WORDS, *words], tmp_path).points))) == expected


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project with a song."""
    folder = copy_project(tmp_path_factory.mktemp("sweep") / "my project")
    write_wav(folder / "sources" / "song.wav", tone())
    return folder


def start(folder, *words):
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return subprocess.Popen(
        [sys.executable, "-m", "joanna.sweep", *WORDS, *words],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run_to_end(folder, *words):
    """Exit code, output and errors of a sweep."""
    process = start(folder, *words)
    output, errors = process.communicate(timeout=300)
    return process.returncode, output, errors


GRID = ["variation=[0.2,0.4]", "sequence-lengths=[[4],[500]]"]
RUNS = [f"variation-{rate}-sequence-lengths-4" for rate in (0.2, 0.4)]


@pytest.fixture(scope="module")
def first(project):
    """The results of a sweep of four runs, what it printed, and its exit code: two are refused, one fails."""
    folder = project / "output" / "sweeps" / "s"
    (folder / RUNS[1] / "part-4.wav").mkdir(parents=True)
    weights = project / "weights" / "sweeps" / "s" / RUNS[0] / "phase-encoder.weights.h5"
    weights.parent.mkdir(parents=True)
    weights.write_text("of another program")
    (folder / "earlier").mkdir()
    (folder / "earlier" / ".sweep.json").touch()
    code, output, errors = run_to_end(project, *GRID)
    return folder, output, errors, code


def test_runs_that_fail_say_why_and_the_others_go_on(first):
    folder, output, errors, code = first
    assert code == 2
    refused = "sequence-lengths has 500; from seed-section 0 on the song has 119 frames: lower one of them"
    failed = f"{folder / RUNS[1] / 'part-4.wav'} could not be written (Is a directory); make room"
    lines = errors.splitlines()
    assert lines[:2] == [f"run.sh: variation-{rate}-sequence-lengths-500: {refused}" for rate in (0.2, 0.4)]
    assert lines[2].startswith(f"run.sh: {RUNS[1]}: {failed}")
    assert lines[3] == "run.sh: 3 of 4 runs failed; the same command tries them again"
    assert len(lines) == 4
    assert "4 runs, 0 finished; autoencoder 1, lstm 1, generate 2 left" in output
    assert re.findall(r"^== .*(?: of |: [a-z]).*", output, re.MULTILINE)[1:2] == [f"== {RUNS[0]}: generate"]
    assert output.count("phase autoencoder: epoch") == 1  # trained once
    assert f"{RUNS[0]}: no weights fit the settings: starting a new training; the previous weights" in output
    replaced = "report.html and scores.csv of 's' are replaced and leave out 1 run of an earlier sweep"
    assert output.count(replaced) == 1
    assert [path.parent.name for path in folder.glob("*/scores.yaml")] == RUNS[:1]


def test_a_run_of_a_sweep_gives_the_bytes_of_the_run_alone_and_the_same_command_does_what_is_left(
    first, project, tmp_path
):
    folder, _, _, _ = first
    before = {path: path.read_bytes() for path in (folder / RUNS[0]).glob("*.[!l]*")}
    (folder / RUNS[1] / "part-4.wav").rmdir()
    code, output, errors = run_to_end(project, *GRID)
    assert (code, errors.count("\n")) == (2, 3)
    assert "4 runs, 1 finished; autoencoder 1, lstm 1, generate 1 left" in output
    assert "epoch" not in output
    assert {path: path.read_bytes() for path in (folder / RUNS[0]).glob("*.[!l]*")} == before
    shutil.copytree(project / "sources", tmp_path / "sources")
    run = next(run for run in grid.read([*WORDS, *GRID], tmp_path).points if run.output.name == RUNS[1])
    for stage in STAGES:
        importlib.import_module(stage).main(run)
    for name in ("part-4.wav", "reconstruction.wav", "scores.yaml", "settings.yaml"):
        assert (run.output / name).read_bytes() == (folder / RUNS[1] / name).read_bytes()
    assert yaml.safe_load((folder / RUNS[1] / "settings.yaml").read_text()) == run.settings
    rows = list(csv.DictReader((folder / "scores.csv").open()))
    assert sorted(row["run"] for row in rows) == RUNS
    assert [float(row["score"]) for row in rows] == sorted(float(row["score"]) for row in rows)
    assert {row["run"]: row["variation"] for row in rows} == dict(zip(RUNS, ("0.2", "0.4"), strict=True))
    scores = yaml.safe_load((folder / RUNS[1] / "scores.yaml").read_text())["part-4"]
    assert next(float(row["timbre"]) for row in rows if row["run"] == RUNS[1]) == scores["timbre"]


def test_too_few_minutes_are_named_with_the_command_that_trains_further(project, capsys):
    words = ["source=./sources/song.wav", "name=sweeps/m/run", "minutes=0.01"]
    run = tiny_run(project, *words)
    assert list(tree.make_frames([run])) == []
    tree.run_stages(run, ("autoencoder",))
    further = "Run ./run.sh output/sweeps/m/run/settings.yaml to train it further, or raise minutes"
    line = rf"run: phase autoencoder: no time is left of the 0.01 minutes; .* {re.escape(further)}"
    output = capsys.readouterr().out
    assert re.search(line, output)
    assert "run: warning: minutes is 0.01; starting, saving and generating take" in output


def test_ctrl_c_saves_and_the_same_command_resumes_and_a_killed_sweep_leaves_no_process(project):
    words = ["name=stopped", "random-seed=[0,1]", "ae-epoch=5000"]
    weights = project / "weights" / "sweeps" / "stopped" / "random-seed-0" / "phase-encoder.weights.h5"
    process = start(project, *words)
    while not weights.exists() and process.poll() is None:
        time.sleep(0.1)
    code, _, errors = run_to_end(project, *words, "takes=2")
    message = f"run.sh: process {process.pid} is working on 'sweeps/stopped'; wait for it, stop it, or"
    assert (code, errors.startswith(message)) == (2, True), errors
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    message, command = errors.split("; to resume: ")
    assert message == "run.sh: stopped"
    assert shlex.split(command) == ["./run.sh", "sweep", *WORDS, *words]
    process = start(project, *words)
    while not (line := process.stdout.readline()).startswith("random-seed-0: resuming from"):
        assert line
    process.kill()
    lock = (project / "output" / "sweeps" / "stopped" / "random-seed-0" / ".lock").open()
    end = time.monotonic() + 20
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:  # the training has not ended yet
            assert time.monotonic() < end
            time.sleep(0.1)


BASELINES = {"timbre-halves": 2.0, "copied-halves": 0.0, "loop": 0.0, "onsets": 3.0}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page of a sweep of six runs, of which one failed; the best clip of run n has the score 1 + n."""
    root = tmp_path_factory.mktemp("page")
    found = grid.read(
        [*WORDS, "dropout=[0,0.2,0.4]", "phase-method=[network,follow]", "source=<b>.wav"], root
    )
    runs = list(found.points)
    for index, run in enumerate(runs[:5]):
        run.output.mkdir(parents=True)
        scores = {"copied": 0.0, "loop": 0.0, "spectrum": 1.0, "copied-seconds": 0.0}
        clips = {f"part-{n}": {**scores, "timbre": 2.0 * (index + n)} for n in (4, 1, 2, 3)}
        clips["silent"] = {key: value for key, value in scores.items() if key != "timbre"}
        (run.output / "scores.yaml").write_text(
            yaml.safe_dump({"source": BASELINES, **clips}, sort_keys=False)
        )
        for number, name in enumerate(clips):
            write_wav(run.clip_file(name), tone(1.0 + index + number / 10))
    sweep_report.write(found.output, found.points, set(runs[:5]), {runs[5]: "no room on </script><b>"})
    return found.output / "report.html"


@pytest.fixture
def browser(chromium, page):  # noqa: F811
    resize(chromium, 1280, 900)
    chromium.get(page.as_uri())
    return chromium


def test_the_page_is_one_file_with_the_best_three_clips_of_each_run(page):
    text = page.read_text()
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "</script><b>" not in text
    data = page_data(page)
    assert [[clip["name"] for clip in run["clips"]] for run in data["runs"]] == [
        ["part-1", "part-2", "part-3"]
    ] * 5
    assert [run["clips"][0]["score"] for run in data["runs"]] == [1, 2, 3, 4, 5]
    rows = list(csv.DictReader((page.parent / "scores.csv").open()))
    assert len(rows) == 25
    assert [row["clip"] for row in rows[:5]] == ["part-1", "part-2", "part-3", "part-4", "silent"]
    assert (rows[0]["dropout"], rows[0]["phase-method"], rows[0]["score"]) == ("0", "network", "1.0")


def test_the_page_shows_runs_settings_players_and_what_failed(browser):
    cells = [row.text for row in browser.find_elements("css selector", "#runs tbody tr")]
    assert len(cells) == 5
    assert cells[0].startswith("1 1.00 0 network part-1: ")
    link = browser.find_element("css selector", "#runs a").get_attribute("href")
    assert link.endswith("/s/dropout-0-phase-method-network/report.html")
    assert browser.find_element("id", "failures").text == (
        "dropout-0.4-phase-method-follow failed: no room on </script><b>"
    )
    assert [count(browser, "#diagrams " + shape) for shape in ("svg", "circle", "polyline")] == [2, 10, 2]
    assert count(browser, "#clips audio") == 9  # of the best three runs; the others are made when opened
    browser.find_elements("css selector", "#clips summary")[4].click()
    wait_for(lambda: count(browser, "#clips audio") == 12)
    script = "return players.map(audio => Math.round(10 * audio.duration))"
    wait_for(lambda: browser.execute_script(script) == [11, 12, 13, 21, 22, 23, 31, 32, 33, 51, 52, 53])


def test_a_tournament_is_blind_and_its_result_can_be_saved(browser, tmp_path):
    def press(name):
        browser.find_element("id", name).click()

    assert not browser.find_element("id", "pair").is_displayed()
    browser.execute_script("byId('entrants').value = 5")
    press("start")
    for number in range(4):  # of five clips; the longest one, of the worst run, is preferred each time
        names = browser.find_element("id", "tournament").text
        assert "dropout" not in names
        assert f"{number + 1} of 4 comparisons" in names
        script = "return sides.every(audio => audio.readyState > 0) && sides.map(audio => audio.duration)"
        lengths = wait_for(lambda script=script: browser.execute_script(script))
        press(f"play-{lengths.index(max(lengths))}")
        wait_for(lambda: browser.execute_script("return sides.some(audio => audio.currentTime > 0.1)"))
        browser.find_element("id", "play-0").send_keys("1" if lengths[0] < lengths[1] else "2")
        playing = browser.execute_script("return sides.map(audio => !audio.paused)")
        assert playing.index(True) == lengths.index(min(lengths))  # one of them, from the same position
        assert browser.execute_script("return Math.min(...sides.map(audio => audio.currentTime))") > 0.05
        press(f"prefer-{lengths.index(max(lengths))}")
    last = "dropout-0.4-phase-method-network/part-1"
    assert browser.find_element("id", "winner").text == f"Winner: {last}"
    assert count(browser, "#result li") == 5
    folder = {"behavior": "allow", "downloadPath": str(tmp_path)}
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", folder)
    press("save")
    saved = tmp_path / "tournament-s.csv"
    wait_for(saved.exists)
    rows = list(csv.DictReader(saved.open()))
    assert [row["round"] for row in rows] == ["1", "1", "2", "3"]
    assert rows[-1]["preferred"] == last
    assert all(row["preferred"] in (row["first"], row["second"]) for row in rows)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_the_page_at_phone_width(browser, scheme):
    open_on_a_phone(browser, scheme, browser.current_url)
    browser.execute_script(
        "for (const each of document.querySelectorAll('details')) each.open = true; byId('start').click()"
    )
    assert_accessible_on_a_phone(browser)
