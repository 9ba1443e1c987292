"""The report in a real browser: Debian's Chromium, headless."""

import shlex
import shutil
import time

import numpy as np
import pytest
from helpers import tone

from joanna import report, scores
from joanna.settings import load

RATE = 4000
SETTINGS = load(["demo", "source=./a #1.wav", "name=01", "learning-rate=1e-5", "tensorboard=False"])


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A report of a source and three clips, one of which copies the source."""
    pitches = 200, 300, 250, 400, 350, 500, 450, 600
    source = np.concatenate([tone(0.5, pitch=pitch) for pitch in pitches])
    signals = {
        "source": source,
        "reconstruction": 0.9 * source,
        "part-4": source[4000:12000],
        "whole-4": tone(3.0, pitch=300),
    }
    reference = scores.Reference(source, RATE, 0.008)
    clips = []
    for name, signal in signals.items():
        clips.append(report.clip(name, signal, RATE))
        if "4" in name:
            values = reference.score(signal)
            clips[-1] |= {"scores": values, "rows": reference.describe(values)}
    losses = {"magnitude </script><b>": [[second, second + 1, 1 / (second + 1)] for second in range(900)]}
    path = tmp_path_factory.mktemp("report") / "report.html"
    report.write(path, clips, losses, SETTINGS, {"training": "12 min"})
    return path


@pytest.fixture(scope="module")
def browser(page):
    """Chromium with the report."""
    chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and chromedriver):
        pytest.skip("needs Debian's chromium and chromium-driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("headless=new", "no-sandbox", "disable-gpu", "mute-audio", "window-size=900,1200"):
        options.add_argument("--" + argument)
    options.add_argument("--autoplay-policy=no-user-gesture-required")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(chromedriver))
    driver.get(page.as_uri())
    yield driver
    driver.quit()


def wait_for(condition, seconds=20):
    """The first true value of `condition()`."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "timed out"
        time.sleep(0.05)
    return value


def count(browser, selector):
    return len(browser.find_elements("css selector", selector))


def messages(browser):
    """Warnings and errors of the browser's console."""
    return [entry for entry in browser.get_log("browser") if entry["level"] != "INFO"]


def test_the_report_is_one_file_that_loads_nothing(page):
    text = page.read_text()
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "</script><b>" not in text


def test_players_load_and_spectrograms_are_drawn(browser):
    script = "return [...document.querySelectorAll('#clips audio')].map(a => a.readyState > 1 && a.duration)"
    wait_for(lambda: all(browser.execute_script(script)))
    assert browser.execute_script(script) == pytest.approx([4, 4, 2, 3], abs=0.01)
    script = "return [...document.querySelectorAll('#clips img')].map(i => i.complete && i.naturalWidth > 50)"
    wait_for(lambda: browser.execute_script(script) == [True] * 4)
    names = browser.execute_script("return [...document.querySelectorAll('h3')].map(h => h.textContent)")
    assert names == ["source", "reconstruction", "part-4", "whole-4"]


def test_the_page_shows_title_scores_losses_settings_and_the_command(browser):
    assert browser.find_element("id", "title").text == "JOANNA: 01"
    assert count(browser, "#losses polyline") == 1
    assert "after 900 epochs" in browser.find_element("id", "losses").text
    labels = [term.text for term in browser.find_elements("css selector", "#clip-part-4 dt")]
    assert labels[:2] == ["timbre", "spectrum"]
    assert {"copied", "longest copy", "loop", "hop buzz", "hint"} <= set(labels)
    assert count(browser, "#clip-source dt") == 0
    assert "seed-section" in browser.find_element("id", "settings").get_attribute("textContent")
    program, *words = shlex.split(browser.find_element("id", "command").text)
    assert program == "./run.sh"
    assert load(words) == SETTINGS


def test_the_copied_passage_is_marked_in_clip_and_source_and_played(browser):
    assert count(browser, "#clip-part-4 .passage") == 1
    assert count(browser, "#clip-source .passage") >= 1
    button = browser.find_element("css selector", "#clip-part-4 .row button:last-child")
    browser.execute_script("arguments[0].click()", button)
    wait_for(lambda: browser.execute_script("return players[0].currentTime > 1 && !players[0].paused"))
    left = browser.execute_script("return document.querySelector('#clip-source .playhead').style.left")
    assert float(left.rstrip("%")) > 20
    # paused and moved by the user, it plays on past the passage
    browser.execute_script("players[0].pause(); players[0].currentTime = 3.6; players[0].play()")
    wait_for(lambda: browser.execute_script("return players[0].currentTime > 3.8"))
    browser.execute_script("pauseAllExcept(null)")


def test_switching_tracks_keeps_the_position(browser):
    assert not browser.find_element("id", "votes").is_displayed()
    browser.find_element("id", "play").click()
    wait_for(lambda: browser.execute_script("return tracks[0].currentTime > 0.3"))
    browser.find_elements("css selector", "#tracks button")[1].click()
    paused, other_paused, position = browser.execute_script(
        "return [tracks[0].paused, tracks[1].paused, tracks[1].currentTime]"
    )
    assert (paused, other_paused) == (True, False)
    assert 0.3 < position < 1.5
    browser.find_element("tag name", "body").send_keys("3")
    assert wait_for(lambda: browser.execute_script("return active === 2 && !tracks[2].paused"))
    browser.find_element("id", "play").click()
    assert browser.execute_script("return tracks.every(audio => audio.paused)")


def test_the_play_button_follows_players_ends_and_choices(browser):
    play = browser.find_element("id", "play")
    play.click()
    wait_for(lambda: play.text == "Pause")
    browser.execute_script("players[1].play()")
    wait_for(lambda: play.text == "Play")
    browser.execute_script("players[1].pause(); selectTrack(0); tracks[0].currentTime = 1.8; togglePlay()")
    # the source stops at the end of the shortest clip and restarts at 0
    wait_for(lambda: browser.execute_script("return tracks[0].paused"))
    assert browser.execute_script("return tracks[0].currentTime") > 1.9
    play.click()
    wait_for(lambda: browser.execute_script("return tracks[0].currentTime < 1.9 && !tracks[0].paused"))
    browser.find_element("id", "choice-b").send_keys("part-4")
    wait_for(lambda: browser.find_element("id", "clock").text == "0.0 s" and play.text == "Play")
    assert browser.find_element("id", "position").get_attribute("value") == "0"


def test_a_blind_comparison_hides_names_and_counts_votes(browser):
    browser.find_element("id", "blind").send_keys(" ")
    assert browser.find_element("id", "blind").is_selected()
    assert browser.execute_script("return tracks.every(audio => audio.paused)")
    labels = [button.text for button in browser.find_elements("css selector", "#tracks button")]
    assert labels == ["source", "first", "second"]
    browser.execute_script("byId('choice-b').value = 3; loadTracks()")
    expected, names = {"part-4": 0, "whole-4": 0}, {2: "part-4", 3: "whole-4"}  # by seconds
    script = "return tracks[1].readyState > 0 && Math.round(tracks[1].duration)"
    for _ in range(5):  # odd, so that swapped names show
        expected[names[wait_for(lambda: browser.execute_script(script))]] += 1
        browser.find_element("id", "vote-0").click()
    assert "5 votes counted" in browser.find_element("id", "vote-count").text
    browser.find_element("id", "reveal").click()
    parts = browser.find_element("id", "vote-count").text.split(", ")
    votes = {name: int(number) for name, number in (part.split(": ") for part in parts)}
    assert votes == {name: number for name, number in expected.items() if number}


def test_controls_have_labels_and_the_console_stays_empty(browser):
    script = """return [...document.querySelectorAll('button, select, input, audio, img')].filter(node =>
        !(node.textContent.trim() || node.alt || node.ariaLabel || node.labels?.length)).length"""
    assert browser.execute_script(script) == 0
    fits = browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    assert fits
    assert messages(browser) == []


def test_the_report_of_a_training_in_progress(browser, tmp_path):
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
    wait_for(lambda: browser.execute_script(script) == [True, True])
    assert "epoch 1 of 75" in browser.find_element("id", "facts").text
    assert browser.find_element("id", "in-training").is_displayed()
    assert not browser.find_element("id", "losses-section").is_displayed()
    assert not browser.find_element("id", "compare").is_displayed()
    assert messages(browser) == []
