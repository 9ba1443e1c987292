"""The report in a real browser: Debian's Chromium, headless."""

import json
import shlex
import shutil
import time

import numpy as np
import pytest
from conftest import tone

from joanna import report, scores
from joanna.settings import load

RATE = 4000
SETTINGS = load(["demo", "source=./a #1.wav", "name=01", "learning-rate=1e-5", "tensorboard=False"])


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A report of a source and three clips, one of which copies the source."""
    pitches = 200, 300, 250, 400, 350, 500, 450, 600
    source = np.concatenate([tone(0.5, pitch=pitch) for pitch in pitches])
    other = tone(3.0, pitch=300)
    signals = {
        "source": source,
        "reconstruction": 0.9 * source,
        "part-4": source[4000:12000],
        "whole-4": other,
    }
    song = scores.Song(source, RATE, 0.008)
    clips = []
    for name, signal in signals.items():
        clips.append(report.clip(name, signal, RATE))
        if "4" in name:
            found = song.score(signal)
            clips[-1] |= {"found": found, "scores": report.describe(found, song.yardsticks)}
    losses = {
        "magnitude </script><b>": [[second, second + 1, 1 / (second + 1)] for second in range(900)]
    }
    path = tmp_path_factory.mktemp("report") / "report.html"
    report.write(path, clips, losses, SETTINGS, {"training": "12 min"})
    return path


@pytest.fixture(scope="module")
def browser(page):
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("needs Debian's chromium and chromium-driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("headless=new", "no-sandbox", "disable-gpu", "mute-audio", "window-size=900,1200"):
        options.add_argument("--" + argument)
    options.add_argument("--autoplay-policy=no-user-gesture-required")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    found = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    found.get(page.as_uri())
    yield found
    found.quit()


def until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "the page did not get there"
        time.sleep(0.05)
    return value


def test_one_file_that_loads_nothing(page):
    text = page.read_text()
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "</script><b>" not in text


def test_players_load_and_spectrograms_are_drawn(browser):
    script = (
        "return [...document.querySelectorAll('#clips audio')].map(a => a.readyState > 1 && a.duration)"
    )
    until(lambda: all(browser.execute_script(script)))
    assert browser.execute_script(script) == pytest.approx([4, 4, 2, 3], abs=0.01)
    script = (
        "return [...document.querySelectorAll('#clips img')].map(i => i.complete && i.naturalWidth > 50)"
    )
    until(lambda: browser.execute_script(script) == [True] * 4)
    names = browser.execute_script("return [...document.querySelectorAll('h3')].map(h => h.textContent)")
    assert names == ["source", "reconstruction", "part-4", "whole-4"]
    assert browser.find_element("id", "title").text == "JOANNA: 01"
    assert browser.execute_script("return document.querySelectorAll('#losses polyline').length") == 1
    assert "seed-section" in browser.find_element("id", "settings").get_attribute("textContent")
    program, *words = shlex.split(browser.find_element("id", "command").text)
    assert program == "./run.sh"
    assert load(words) == SETTINGS


def test_the_passage_alike_is_marked_in_both_and_played(browser):
    assert (
        browser.execute_script("return document.querySelectorAll('#clip-part-4 .passage').length") == 1
    )
    assert (
        browser.execute_script("return document.querySelectorAll('#clip-source .passage').length") >= 1
    )
    button = browser.find_element("css selector", "#clip-part-4 .row button:last-child")
    browser.execute_script("arguments[0].click()", button)
    until(lambda: browser.execute_script("return players[0].currentTime > 1 && !players[0].paused"))
    left = browser.execute_script("return document.querySelector('#clip-source .head').style.left")
    assert float(left.rstrip("%")) > 20
    # stopped and moved on by hand it goes on beyond the passage
    browser.execute_script("players[0].pause(); players[0].currentTime = 3.6; players[0].play()")
    until(lambda: browser.execute_script("return players[0].currentTime > 3.8"))
    browser.execute_script("stopAll()")


def test_the_switch_goes_on_from_the_same_moment(browser):
    assert not browser.find_element("id", "votes").is_displayed()
    browser.find_element("id", "play").click()
    until(lambda: browser.execute_script("return heard[0].currentTime > 0.3"))
    browser.find_elements("css selector", "#switch button")[1].click()
    state = browser.execute_script("return [heard[0].paused, heard[1].paused, heard[1].currentTime]")
    assert state[:2] == [True, False]
    assert 0.3 < state[2] < 1.5
    browser.find_element("tag name", "body").send_keys("3")
    assert until(lambda: browser.execute_script("return now === 2 && !heard[2].paused"))
    browser.find_element("id", "play").click()
    assert browser.execute_script("return heard.every(audio => audio.paused)")
    # a player below takes over, and the button says so
    play = browser.find_element("id", "play")
    play.click()
    until(lambda: play.text == "Pause")
    browser.execute_script("players[1].play()")
    until(lambda: play.text == "Play")
    browser.execute_script("players[1].pause(); change(0); heard[0].currentTime = 1.8; toggle()")
    # the source stops where the shorter clip does, and begins anew
    until(lambda: browser.execute_script("return heard[0].paused"))
    assert browser.execute_script("return heard[0].currentTime") > 1.9
    play.click()
    until(lambda: browser.execute_script("return heard[0].currentTime < 1.9 && !heard[0].paused"))
    select = browser.find_element("id", "choice-b")
    select.send_keys("part-4")
    until(lambda: browser.find_element("id", "clock").text == "0.0 s" and play.text == "Play")
    assert browser.find_element("id", "moment").get_attribute("value") == "0"


def test_blind_hides_the_names_and_counts(browser):
    browser.find_element("id", "blind").send_keys(" ")
    assert browser.find_element("id", "blind").is_selected()
    assert browser.execute_script("return heard.every(audio => audio.paused)")
    labels = [button.text for button in browser.find_elements("css selector", "#switch button")]
    assert labels == ["source", "first", "second"]
    for _ in range(3):
        browser.find_element("id", "vote-0").click()
    assert "3 choices counted" in browser.find_element("id", "tally").text
    browser.find_element("id", "reveal").click()
    told = dict(part.split(": ") for part in browser.find_element("id", "tally").text.split(", "))
    assert sum(map(int, told.values())) == 3
    assert set(told) <= {"part-4", "whole-4"}


def test_everything_is_labelled_and_nothing_is_complained_of(browser):
    script = """return [...document.querySelectorAll('button, select, input, audio, img')].filter(node =>
        !(node.textContent.trim() || node.alt || node.ariaLabel || node.labels?.length)).length"""
    assert browser.execute_script(script) == 0
    narrow = browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    assert narrow
    entries = [entry for entry in browser.get_log("browser") if entry["level"] != "INFO"]
    assert entries == [], json.dumps(entries)


def test_the_report_so_far_of_a_training(browser, tmp_path):
    source = tone(4.0)
    clips = [
        report.clip("source", source, RATE),
        report.clip("phase-autoencoder-epoch-00001", source, RATE),
    ]
    path = tmp_path / "report.html"
    losses = {"phase autoencoder": [[0.5, 1, 1.0]]}
    report.write(path, clips, losses, load(["demo"]), {"so far": "phase-autoencoder, epoch 1 of 75"})
    browser.get(path.as_uri())
    script = "return [...document.querySelectorAll('#clips audio')].map(audio => audio.readyState > 1)"
    until(lambda: browser.execute_script(script) == [True, True])
    assert "epoch 1 of 75" in browser.find_element("id", "facts").text
    assert browser.find_element("id", "soon").is_displayed()
    assert not browser.find_element("id", "losses-section").is_displayed()
    assert not browser.find_element("id", "compare").is_displayed()
    entries = [entry for entry in browser.get_log("browser") if entry["level"] != "INFO"]
    assert entries == [], json.dumps(entries)
