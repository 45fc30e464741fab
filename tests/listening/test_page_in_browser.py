"""The listening page in Chromium, opened from disk as a user opens it (docs/report.md)."""

import os
import shutil

import numpy as np
import pytest

from gensep import report
from helpers import tinyrun

sync_api = pytest.importorskip("playwright.sync_api", reason="pip install -e '.[browser]'")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = ("--disable-gpu", "--no-sandbox")
UNCERTAINTY = {
    "samples": 12,
    "level": 0.8,
    "effective_samples": 2.3,
    "sources": {
        name: {
            "mean_sd_db": 4.0,
            "energy_db": [-3.2, -1.0],
            "judged_mean_sd_db": 1.5,
            "judged_energy_db": -2.0,
            "between_explanations": 0.86,
        }
        for name in ("low", "high")
    },
}


@pytest.fixture(scope="module")
def chromium():
    installed = next(filter(None, map(shutil.which, BROWSERS)), None)
    found = os.environ.get("GENSEP_CHROMIUM", installed)
    if not found:
        pytest.skip("no browser: install chromium or set GENSEP_CHROMIUM to one (docs/report.md)")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Return the page of two songs by two methods, as a file and as a folder."""
    folder = tmp_path_factory.mktemp("pages")
    for name, leak in (("one", 0.3), ("two", 0.1)):
        told = {"uncertainty": UNCERTAINTY} if name == "one" else {}
        run = tinyrun.write_run(folder, songs=("a", "b"), seconds=8.0, leak=leak, **told)
        run.rename(folder / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        np.savez(
            "one/a/uncertainty.npz",
            sd_db=np.full((2, 251, 16), 3, np.float16),
            names=np.array(["low", "high"]),
        )
        report.main(["one", "two", "--output", "page.html"])
        report.main(["one", "two", "--output", "folder", "--inline_limit", "0"])
    return {"file": folder / "page.html", "folder": folder / "folder/index.html"}


@pytest.fixture(params=["file", "folder"])
def opened(request, chromium, pages):
    """Open the page; at the end check for errors and for requests outside its folder."""
    context = chromium.new_context(viewport={"width": 1440, "height": 900})
    page, wrong = context.new_page(), []
    root = pages[request.param].as_uri().removesuffix("index.html")
    page.on("console", lambda m: m.type in ("error", "warning") and wrong.append(m.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda r: r.url.startswith((root, "data:", "blob:")) or wrong.append(r.url))
    page.goto(pages[request.param].as_uri())
    yield page
    assert wrong == []
    context.close()


def play(page):
    page.click("#play")
    page.wait_for_function("() => player.playing && player.position > 0")


def position(page):
    return page.evaluate("() => player.position")


def heard(page):
    return page.evaluate("() => [...player.heard]")


LOUDEST = """async () => {
  const analyser = new AnalyserNode(player.context, { fftSize: 8192, smoothingTimeConstant: 0 });
  player.output.connect(analyser);
  await new Promise((done) => setTimeout(done, 400));
  const bins = new Float32Array(analyser.frequencyBinCount);
  analyser.getFloatFrequencyData(bins);
  const hertz = (f) => bins[Math.round(f / player.context.sampleRate * 8192)];
  return [hertz(500), hertz(2000)];
}"""


def test_playing_switching_and_seeking(opened):
    assert opened.inner_text("#time") == "0:00.0 / 0:08.0"
    play(opened)
    assert opened.get_attribute("#play", "aria-label") == "Pause"
    first = position(opened)
    opened.wait_for_function("(first) => player.position > first + 0.3", arg=first)
    assert opened.inner_text("#time") != "0:00.0 / 0:08.0"
    # A/B: other tracks at the same instant
    assert heard(opened) == [0]
    before = opened.evaluate("() => [player.started, player.offset]")
    opened.click("[aria-label='Hear low, one alone']")
    assert heard(opened) == [1]
    opened.click("[aria-label='Hear low, reference alone']")
    assert heard(opened) == [3]
    opened.click("#swap")
    assert heard(opened) == [1]
    opened.click("[aria-label='Hear also low, reference']")
    assert heard(opened) == [1, 3]
    opened.click("[aria-label='Mute low, one']")
    assert heard(opened) == [3]
    assert opened.evaluate("() => [player.started, player.offset]") == before
    # a click on a spectrogram
    box = opened.locator(".view").nth(2).bounding_box()
    opened.mouse.click(box["x"] + 0.75 * box["width"], box["y"] + 20)
    assert 5.9 < position(opened) < 7.5
    opened.click("#play")
    at = position(opened)
    line = opened.locator(".line").first.bounding_box()
    panel = opened.locator(".view").first.bounding_box()
    assert (line["x"] + 1 - panel["x"]) / panel["width"] == pytest.approx(at / 8, abs=0.003)
    opened.mouse.click(box["x"] + 0.25 * box["width"], box["y"] + 20)
    assert position(opened) == pytest.approx(2, abs=0.05)
    assert opened.inner_text("#time").split(" ")[0] in ("0:01.9", "0:02.0")


def test_what_is_heard_is_the_chosen_track(opened):
    opened.keyboard.press("4")  # once before the tracks start, then while they play
    play(opened)
    assert [level > -45 for level in opened.evaluate(LOUDEST)] == [True, False]
    for key, low, high in (("4", True, False), ("9", False, True), ("1", True, True)):
        opened.keyboard.press(key)
        levels = opened.evaluate(LOUDEST)
        assert [level > -45 for level in levels] == [low, high], (key, levels)
    opened.keyboard.press("m")
    assert max(opened.evaluate(LOUDEST)) < -60


def test_all_tracks_have_one_clock(opened):
    play(opened)
    lengths = opened.evaluate("() => player.buffers.map((b) => b.length)")
    assert len(lengths) == 9
    assert len(set(lengths)) == 1
    # the references add up to the mixture, sample by sample
    off = opened.evaluate("""() => {
      const [mix, low, high] = [0, 3, 7].map((i) => player.buffers[i].getChannelData(0));
      return mix.reduce((most, x, n) => Math.max(most, Math.abs(x - low[n] - high[n])), 0);
    }""")
    assert off < 1e-4


def test_keys(opened):
    opened.keyboard.press(" ")
    opened.wait_for_function("() => player.playing")
    opened.keyboard.press("3")
    assert heard(opened) == [2]
    opened.keyboard.press("b")
    assert heard(opened) == [0]
    opened.keyboard.press(" ")
    opened.wait_for_function("() => !player.playing")
    at = position(opened)
    opened.keyboard.press("ArrowRight")
    assert position(opened) == pytest.approx(at + 2)
    opened.keyboard.press("ArrowLeft")
    assert position(opened) == pytest.approx(at)
    opened.keyboard.press("Shift+ArrowRight")
    assert position(opened) == pytest.approx(8, abs=0.05)
    for key, button in (("m", "#mute"), ("l", "#loop")):
        for pressed in ("true", "false"):
            opened.keyboard.press(key)
            assert opened.get_attribute(button, "aria-pressed") == pressed
    # from the keyboard alone: space presses what has the focus, and the focus can be seen
    opened.focus("#swap")
    opened.keyboard.press("Tab")
    assert opened.evaluate("() => document.activeElement.id") == "loop"
    assert opened.evaluate("() => getComputedStyle(document.activeElement).outlineStyle") == "solid"
    opened.keyboard.press(" ")
    assert opened.get_attribute("#loop", "aria-pressed") == "true"
    assert not opened.evaluate("() => player.playing")


def test_a_dragged_part_is_looped(opened):
    box = opened.locator(".view").first.bounding_box()
    opened.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 30)
    opened.mouse.down()
    opened.mouse.move(box["x"] + 0.55 * box["width"], box["y"] + 30, steps=4)
    opened.mouse.up()
    assert opened.evaluate("() => player.region") == pytest.approx([4, 4.4], abs=0.03)
    opened.click("#play")
    opened.wait_for_function(
        "() => player.playing && player.context.currentTime > player.started + 0.7"
    )
    assert 3.95 < position(opened) < 4.45
    opened.keyboard.press("Escape")
    opened.wait_for_function("() => player.position > 4.6")


def test_the_end_goes_back_to_the_start(opened):
    play(opened)
    opened.evaluate("() => player.seek(7.9)")
    opened.wait_for_function("() => !player.playing", timeout=5000)  # not the whole song again
    assert position(opened) == 0
    assert opened.get_attribute("#play", "aria-label") == "Play"


def test_another_song_and_its_uncertainty(opened):
    source = opened.get_attribute("img >> nth=1", "src")
    opened.click("[aria-label='Uncertainty of low, one']")
    assert opened.get_attribute("img >> nth=1", "src") != source
    rows = opened.locator("#runs tr").all_inner_texts()  # of the one run that recorded it
    assert [row.split("\t")[0] for row in rows] == ["Uncertainty", "Low", "High"]
    assert "4.0\t1.5\t86%" in rows[1]
    play(opened)
    opened.click("#songs >> text=b")
    assert opened.inner_text("#title") == "b"
    assert position(opened) == 0
    assert not opened.evaluate("() => player.playing")
    assert opened.locator(".sd:visible").count() == 0
    play(opened)
    rows = opened.locator("#songs tr").all_inner_texts()
    assert [row.split()[0] for row in rows] == ["Song", "a", "b", "Mean"]


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_the_screen(opened, width, scheme):
    opened.emulate_media(color_scheme=scheme)
    opened.set_viewport_size({"width": width, "height": 800})
    assert opened.evaluate("() => document.documentElement.scrollWidth") == width
    assert opened.evaluate("() => [...document.images].every((i) => i.naturalWidth > 0)")
    for name in ("#play", "#swap", "#loop", "#mute", ".solo >> nth=0", ".also >> nth=0"):
        box = opened.locator(name).bounding_box()
        assert min(box["width"], box["height"]) >= 44, name  # a finger's width
        assert box["x"] >= 0, name
        assert box["x"] + box["width"] <= width, name  # what is fixed never scrolls into view
    ink, paper = opened.evaluate("""() => ["color", "backgroundColor"].map((name) =>
        getComputedStyle(document.documentElement)[name].match(/\\d+/g).map(Number))""")
    assert (sum(ink) < sum(paper)) == (scheme == "light")
    unnamed = opened.evaluate("""() => [...document.querySelectorAll("button, input, img")].filter(
        (e) => !(e.ariaLabel || e.alt || e.textContent.trim())).length""")
    assert unnamed == 0
