"""The report: its data and outline, and the page in a real browser, Debian's Chromium, headless."""

import csv
import importlib.util
import re
import shlex
import shutil
import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from helpers import page_data, tone, wait_for

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
            clips[-1] |= {"scores": values, "summary": reference.summary(values)}
            clips[-1] |= {"rows": reference.describe(values)}
    losses = {"magnitude </script><b>": [[second, second + 1, 1 / (second + 1)] for second in range(900)]}
    path = tmp_path_factory.mktemp("report") / "report.html"
    report.write(path, clips, losses, SETTINGS, {"training": "12 min"})
    return path


@pytest.fixture
def training(tmp_path):
    """Function that writes a report of a training in progress, with a preview after `epoch` epochs."""

    def write(epoch):
        clips = [report.clip(name, tone(4.0), RATE) for name in ("source", f"phase-spliced-epoch-{epoch:05}")]
        losses = {"phase spliced": [[0.5 * done, done, 1 / done] for done in range(1, epoch + 1)]}
        facts = {"so far": f"phase-spliced, epoch {epoch} of 75"}
        report.write(tmp_path / "report.html", clips, losses, load(["demo"]), facts, time.time() + 600)
        return tmp_path / "report.html"

    return write


@pytest.fixture(scope="module")
def chromium():
    """Chromium."""
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
    yield driver
    driver.quit()


@pytest.fixture
def browser(chromium, page):
    """Chromium with the report just opened, 1280 by 800 pixels."""
    resize(chromium, 1280, 800)
    chromium.get(page.as_uri())
    return chromium


def resize(browser, width, height):
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def count(browser, selector):
    return len(browser.find_elements("css selector", selector))


def messages(browser):
    """Warnings and errors of the browser's console."""
    return [entry for entry in browser.get_log("browser") if entry["level"] != "INFO"]


def test_the_report_is_one_file_that_loads_nothing(page):
    text = page.read_text()
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "</script><b>" not in text


class Outline(HTMLParser):
    """Tags with their attributes; the ids."""

    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.feed(text)
        self.ids = [attributes["id"] for _, attributes in self.tags if "id" in attributes]

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def named(self, name):
        return [attributes for tag, attributes in self.tags if tag == name]


def test_the_outline_of_the_page_has_language_landmark_headings_and_unique_ids(page):
    outline = Outline(page.read_text())
    assert outline.named("html")[0]["lang"] == "en"
    assert [len(outline.named(name)) for name in ("main", "h1", "title")] == [1, 1, 1]
    assert len(set(outline.ids)) == len(outline.ids)
    labels = [section["aria-labelledby"] for section in outline.named("section")]
    assert labels
    assert set(labels) < set(outline.ids)
    assert set(re.findall(r'byId\("([\w-]+)"\)', page.read_text())) <= {*outline.ids, "vote-", "choice-"}


def test_each_clip_has_a_sentence_and_the_command_for_more_like_it(page, tmp_path):
    source, reconstruction, copy, new = page_data(page)["clips"]
    assert source["summary"] == "The song."
    assert reconstruction["summary"] == "The song as the autoencoders reproduce it."
    assert "; 100% copied from the song; " in copy["summary"]
    assert copy["summary"][0].isupper()
    assert not source["more"] + reconstruction["more"]
    assert shlex.split(new["more"])[1:] == ["generate.py", "output/01/whole-4.wav", "takes=4"]
    plain = {**report.clip("part-4", tone(), RATE), "scores": {"copied": 0.4}, "summary": "no loops"}
    report.write(tmp_path / "report.html", [plain], {}, load(["variation=0"]), {})  # its takes would be equal
    assert page_data(tmp_path / "report.html")["clips"][0]["more"].endswith(" takes=4 variation=0.4")
    continued = load(["continue=True", "seed-source=a.wav", "generate-seconds=0.3"])
    report.write(tmp_path / "report.html", [plain], {}, continued, {})
    begins = page_data(tmp_path / "report.html")["clips"][0]["begins"]
    assert begins == pytest.approx(plain["seconds"] - 0.3)
    guided = {**plain, "name": "part-4-guided"}
    report.write(tmp_path / "report.html", [guided], {}, load(["guided=True"]), {})
    assert page_data(tmp_path / "report.html")["clips"][0]["summary"] == "Guided by the song; no loops."


@pytest.mark.parametrize(
    ("words", "auto"),
    [
        ([], True),
        (["hifi", "stereo=True"], True),
        (["sample-rate=8000", "dim-decrease=auto", "load-weights=False"], True),
        (["hifi", "frame-length=2048"], False),  # what auto gives by default
        (["sample-rate=8000", "frame-length=2048"], False),  # auto is refused
    ],
)
def test_the_command_repeats_the_settings_and_names_no_number_that_auto_gives(tmp_path, words, auto):
    settings = load(words)
    report.write(tmp_path / "report.html", [], {}, settings, {})
    _, *command = shlex.split(page_data(tmp_path / "report.html")["command"])
    assert load(command) == {**settings, "load-weights": True}
    assert auto != any(word.startswith("frame-length") for word in command)


def test_a_waveform_holds_the_peaks_in_order():
    signal = np.concatenate([np.zeros(9000), -0.5 * np.ones(3000)])
    peaks = report.clip("a", signal, RATE)["peaks"]
    assert peaks == [0] * 1500 + [50] * 500
    assert report.clip("a", signal[-3:], RATE)["peaks"] == [50] * 3
    assert report.clip("a", np.stack([signal, 0 * signal], axis=1), RATE)["peaks"] == [0] * 1500 + [25] * 500


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
    summary = browser.find_element("css selector", "#clip-part-4 .summary").text
    assert "copied from the song" in summary
    assert not browser.find_element("css selector", "#clip-part-4 dl").is_displayed()
    browser.find_element("css selector", "#clip-part-4 summary").click()
    labels = [term.text for term in browser.find_elements("css selector", "#clip-part-4 dt")]
    assert labels[:2] == ["timbre", "spectrum"]
    assert {"copied", "longest copy", "loop", "hop buzz", "hint"} <= set(labels)
    assert count(browser, "#clip-source dt") == 0
    assert "seed-section" in browser.find_element("id", "settings").get_attribute("textContent")
    program, *words = shlex.split(browser.find_element("id", "command").text)
    assert program == "./run.sh"
    assert load(words) == SETTINGS


def test_the_copied_passage_is_marked_in_clip_and_source_and_played_in_both(browser):
    assert count(browser, "#clip-part-4 .passage") == 1
    assert count(browser, "#clip-source .passage") >= 1
    playing = "return players.map(audio => !audio.paused).indexOf(true)"
    browser.find_element("css selector", "#clip-part-4 .copied").click()
    assert browser.execute_script(playing) == 2
    browser.execute_script("players[2].currentTime = 1.7")
    wait_for(lambda: browser.execute_script(playing) == 0)  # after the clip's 2 s, the source's
    assert browser.execute_script("return players[0].currentTime") == pytest.approx(1, abs=0.4)
    browser.execute_script("players[0].currentTime = 2.7")
    wait_for(lambda: browser.execute_script(playing) == -1)
    assert browser.execute_script("return players[0].currentTime") == pytest.approx(3, abs=0.5)
    left = browser.execute_script("return document.querySelector('#clip-source .playhead').style.left")
    assert float(left.rstrip("%")) > 20
    # one of them alone, next to the other
    browser.find_element("css selector", "#clip-part-4 summary").click()
    clip, source = browser.find_elements("css selector", "#clip-part-4 .cut")
    assert (clip.text, source.text) == ("part-4, 0.0 to 2.0 s", "source, 1.0 to 3.0 s")
    source.click()
    assert browser.execute_script(playing) == 0
    # paused and moved by the user, it plays on past the passage
    browser.execute_script("players[0].pause(); players[0].currentTime = 3.6; players[0].play()")
    wait_for(lambda: browser.execute_script("return players[0].currentTime > 3.8"))


def test_a_paused_passage_is_not_followed_by_the_other(browser):
    browser.find_element("css selector", "#clip-part-4 .copied").click()
    wait_for(lambda: browser.execute_script("return players[2].currentTime > 0.1"))
    browser.execute_script("players[2].pause(); players[2].currentTime = 1.6; players[2].play()")
    wait_for(lambda: browser.execute_script("return players[2].ended"))
    time.sleep(0.3)
    assert browser.execute_script("return players[0].paused")


def test_pictures_zoom_and_scroll_by_keyboard(browser):
    def sizes():
        view = "const {clientWidth, scrollWidth, scrollLeft} = document.querySelector('#clip-part-4 .view');"
        return browser.execute_script(view + "return [clientWidth, scrollWidth, scrollLeft]")

    width, whole, _ = sizes()
    assert whole == width
    assert browser.execute_script("return document.querySelectorAll('.view svg path').length") == 4
    browser.find_element("id", "zoom").send_keys("\ue014" * 3)  # arrow right
    assert sizes()[:2] == pytest.approx([width, 4 * width], abs=2)
    middle = sizes()[2]
    assert middle + width / 2 == pytest.approx(2 * width, abs=2)
    browser.find_element("css selector", "#clip-part-4 .view").send_keys("\ue014")
    wait_for(lambda: sizes()[2] > middle)
    browser.execute_script("players[2].currentTime = 0.1")  # the playhead comes into view
    wait_for(lambda: sizes()[2] < width / 2)


def test_one_scroll_on_a_laptop_shows_the_clips_of_a_run(browser):
    resize(browser, 1366, 625)  # a screen of 768 pixels without what surrounds a page
    tops = browser.execute_script("""return [...document.querySelectorAll('.clip, #compare')].map(
        each => each.getBoundingClientRect().top + scrollY)""")
    clip = tops[3] - tops[2]  # source, reconstruction, clip, clip, compare
    assert tops[2] + 4 * clip <= 2 * 625


def test_a_button_copies_the_command_for_more_or_selects_it(browser):
    more = page_data(Path(browser.current_url.removeprefix("file://")))["clips"][2]["more"]
    commands = []
    for blocked in ("", "Object.defineProperty(navigator, 'clipboard', {value: undefined})"):
        browser.execute_script(blocked)
        browser.find_element("css selector", "#clip-part-4 .more").click()
        status = browser.find_element("css selector", "#clip-part-4 [role=status]")
        wait_for(lambda status=status: status.text)
        commands.append(browser.find_element("css selector", "#clip-part-4 pre").text)
    assert status.text == "Press Ctrl+C to copy it."
    assert browser.execute_script("return getSelection().toString()").strip() == commands[1]
    assert commands == [more, more]


def test_all_clips_of_a_demo_fit_on_two_screens(browser):
    top, tallest = browser.execute_script(
        "const cards = [...document.querySelectorAll('.clip')].map(card => card.getBoundingClientRect());"
        "return [cards[0].top, Math.max(...cards.slice(1).map((card, i) => card.bottom - cards[i].bottom))]"
    )
    assert top + 6 * tallest <= 2 * 800


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
    play = browser.find_element("id", "play")
    play.send_keys("3")
    assert wait_for(lambda: browser.execute_script("return active === 2 && !tracks[2].paused"))
    play.click()
    assert browser.execute_script("return tracks.every(audio => audio.paused)")
    browser.find_element("id", "zoom").send_keys("1")  # elsewhere on the page a key is only a key
    assert browser.execute_script("return active") == 2
    # clips are compared to their end, even if the song is shorter
    script = "data.clips[0].seconds = 0.5; loadTracks(); return byId('position').max"
    assert float(browser.execute_script(script)) == pytest.approx(2, abs=0.01)
    # of a clip that continues a recording from what is generated on
    script = "data.clips[3].begins = 1.5; loadTracks(); selectTrack(2); return byId('clock').textContent"
    assert browser.execute_script(script) == "1.5 s"
    wait_for(lambda: browser.execute_script("return tracks[2].readyState > 0"))
    assert browser.execute_script("return tracks[2].currentTime") == 1.5


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


def test_a_blind_comparison_hides_names_counts_votes_and_saves_them(browser, tmp_path):
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
    folder = {"behavior": "allow", "downloadPath": str(tmp_path)}
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", folder)
    browser.find_element("id", "save-votes").click()
    saved = tmp_path / "votes-01.csv"
    wait_for(saved.exists)
    rows = list(csv.DictReader(saved.open()))
    assert len(rows) == 5
    assert {row["first"] for row in rows} | {row["second"] for row in rows} == {"part-4", "whole-4"}
    assert sum(row["preferred"] == "part-4" for row in rows) == expected["part-4"]
    browser.find_element("id", "blind").send_keys(" ")  # to choose another pair, which keeps the votes
    assert browser.find_element("id", "save-votes").is_displayed()
    assert not browser.find_element("id", "vote-0").is_enabled()
    assert browser.execute_script("return votes.length") == 5


def test_one_volume_for_all_players(browser):
    browser.execute_script("players[1].volume = 0.3")
    wait_for(lambda: browser.execute_script("return [...players, ...tracks].every(a => a.volume === 0.3)"))


@pytest.mark.parametrize("in_training", [False, True])
def test_the_keyboard_reaches_all_controls_with_a_visible_focus(browser, training, in_training):
    if in_training:
        browser.get(training(3).as_uri())
    unfold = "for (const each of document.querySelectorAll('details')) each.open = true;"
    browser.execute_script(unfold + "byId('zoom').value = 2; byId('zoom').oninput()")
    script = """const shown = [...document.querySelectorAll('button, select, input, audio, summary, .view')];
        return shown.filter(node => node.checkVisibility() && !node.disabled).length"""
    expected, reached = browser.execute_script(script), set()
    press = browser.switch_to.active_element.send_keys
    for _ in range(6 * expected):  # a player has several controls
        press("\ue004")  # tab
        element = browser.switch_to.active_element
        press = element.send_keys
        if element.tag_name == "body":
            break
        reached.add(element)
        style = "return getComputedStyle(arguments[0]).outlineStyle"
        assert browser.execute_script(style, element) == "solid", element.get_attribute("id") or element.text
    assert len(reached) == expected


def open_on_a_phone(browser, scheme, url):
    """Open a page at phone width in a color scheme, for `assert_accessible_on_a_phone`."""
    if not importlib.util.find_spec("axe_core_python"):
        pytest.skip("needs axe-core-python")
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    resize(browser, 360, 740)
    browser.get(url)


def assert_accessible_on_a_phone(browser):
    """axe-core finds nothing, nothing is wider than the screen, and the console is empty."""
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 360
    axe = Path(importlib.util.find_spec("axe_core_python").origin).parent / "axe.min.js"
    browser.execute_script(axe.read_text())
    violations = browser.execute_async_script("axe.run().then(arguments[0])")["violations"]
    assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in violations] == []
    assert messages(browser) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("in_training", [False, True])
def test_axe_finds_nothing_at_phone_width_in_both_color_schemes(browser, training, in_training, scheme):
    open_on_a_phone(browser, scheme, training(3).as_uri() if in_training else browser.current_url)
    browser.execute_script("""byId('zoom').value = 4; byId('zoom').oninput(); byId('blind').click();
        for (const each of document.querySelectorAll('details')) each.open = true;
        for (const each of document.querySelectorAll('.more')) each.click(); byId('vote-0').click()""")
    assert_accessible_on_a_phone(browser)


def test_the_report_of_a_training_in_progress(browser, training):
    path = training(1)
    browser.get(path.as_uri())
    script = "return [...document.querySelectorAll('#clips audio')].map(audio => audio.readyState > 1)"
    wait_for(lambda: browser.execute_script(script) == [True, True])
    assert "epoch 1 of 75" in browser.find_element("id", "facts").text
    assert "Time left: about 10 min" in browser.find_element("id", "in-training").text
    assert not browser.find_element("id", "losses-section").is_displayed()
    assert not browser.find_element("id", "compare").is_displayed()
    chosen = browser.execute_script("return [byId('choice-a').value, byId('choice-b').value]")
    assert chosen == ["0", "1"]  # of few clips, still two
    assert messages(browser) == []


def test_in_training_the_page_reloads_but_not_while_a_clip_plays(browser, training, page):
    path = training(3)
    browser.get(path.as_uri())
    resize(browser, 1280, 400)
    browser.execute_script("""players[1].volume = 0.5; byId('settings-details').open = true;
        byId('zoom').value = 3; byId('zoom').oninput(); players[1].currentTime = 1.5; players[1].loop = true;
        byId('settings-summary').focus(); scrollTo(0, 300); window.isOld = true; players[1].play()""")
    training(5)
    browser.execute_script("reload()")
    assert browser.execute_script("return window.isOld && !players[1].paused")
    browser.execute_script("players[1].pause(); players[1].currentTime = 1.5")
    browser.execute_script("byId('reload').checked = false; reload()")
    assert browser.execute_script("return window.isOld")
    browser.execute_script("byId('reload').checked = true; reload()")
    wait_for(lambda: browser.execute_script("return !window.isOld && document.readyState === 'complete'"))
    assert count(browser, "#clip-phase-spliced-epoch-00005") == 1
    assert "after 5 epochs" in browser.find_element("id", "losses").text
    kept = """return [players[1].volume, players[1].currentTime, byId('settings-details').open,
        byId('zoom').value, document.activeElement.id, scrollY]"""
    wait_for(lambda: browser.execute_script(kept) == [0.5, 1.5, True, "3", "settings-summary", 300])
    # the finished report does not reload
    shutil.copy(page, path)
    browser.execute_script("reload()")
    wait_for(lambda: browser.execute_script("return document.title") == "JOANNA: 01")
    assert not browser.find_element("id", "in-training").is_displayed()
    assert messages(browser) == []
