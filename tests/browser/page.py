"""The report as a person meets it: opened from a file in headless Chromium, by mouse and by keyboard.

Run by `make browser`; not collected by `make test`, since it needs a Chromium. Leaves screenshots in `build/browser/`.
"""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from keras import layers
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, sync_playwright

import fullyconv
from fullyconv import pretrained

SHOTS = Path(__file__).parents[2] / "build" / "browser"
WIDE, NARROW = {"width": 1200, "height": 900}, {"width": 360, "height": 740}
PHOTO = "coffee"


@dataclass
class Opened:
    """A page that is open, and what it did since it was."""

    page: Page
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def clean(self) -> bool:
        """Whether it logged nothing, failed nowhere, and asked for nothing but itself."""
        return not self.said and all(url.startswith(("file:", "data:", "about:")) for url in self.asked)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a trained network on a photo."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    fullyconv.write_report(
        pretrained.efficientnet_lite0(),
        pretrained.sample_path(PHOTO),
        path,
        preprocess=pretrained.LITE0_PREPROCESS,
        labels=pretrained.imagenet_labels(),
    )
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    SHOTS.mkdir(parents=True, exist_ok=True)
    names = ("chromium", "chromium-browser", "google-chrome")
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    assert found, "no Chromium on the PATH: install one (apt-get install chromium), or give its path in CHROMIUM"
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=found)
        yield running
        running.close()


@pytest.fixture
def opened(browser: Browser, report: Path, request: pytest.FixtureRequest) -> Iterator[Opened]:
    """The report in a new window, without a network; a test's parameter says how the window is."""
    scheme, size = getattr(request, "param", ("light", WIDE))
    context = browser.new_context(viewport=size, color_scheme=scheme, offline=True)
    it = Opened(context.new_page())
    it.page.on("console", lambda message: it.said.append(message.text))
    it.page.on("pageerror", lambda error: it.said.append(str(error)))
    it.page.on("request", lambda made: it.asked.append(made.url))
    it.page.goto(report.as_uri())
    yield it
    context.close()
    assert it.clean(), (it.said, [url[:80] for url in it.asked])


@pytest.fixture
def of_many_windows(tmp_path: Path) -> Path:
    """The report of a network of random weights whose windows are too many to cut them all."""
    stack = [keras.Input((16, 16, 3)), layers.Conv2D(4, 3, padding="same"), layers.Flatten(), layers.Dense(6)]
    image = np.random.default_rng(0).integers(0, 255, (90, 120, 3), "uint8")
    fullyconv.write_report(
        keras.Sequential(stack, name="a_name_without_any_place_to_break_it"), image, tmp_path / "it.html"
    )
    return tmp_path / "it.html"


def pixels(part: Locator) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(part.screenshot())).convert("RGB"), np.float32)


def heat(opened: Opened) -> Locator:
    return opened.page.locator("#what-it-sees svg").first


def shown_classes(opened: Opened) -> list[str]:
    """The classes whose heat map is visible."""
    groups = opened.page.locator("svg g[data-class]").all()
    return [group.get_attribute("data-class") for group in groups if group.is_visible()]


@pytest.mark.parametrize(
    "opened", [("light", WIDE), ("dark", WIDE), ("light", NARROW), ("dark", NARROW)], indirect=True
)
def test_it_opens_without_a_word_and_fits_the_window(opened: Opened, request: pytest.FixtureRequest):
    assert opened.page.title() == "efficientnet_lite0 on coffee.png"
    assert opened.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    scheme, size = request.node.callspec.params["opened"]
    opened.page.screenshot(path=SHOTS / f"{scheme}-{size['width']}.png", full_page=True)
    paper = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
    light = min(int(n) for n in paper.removeprefix("rgb(").removesuffix(")").split(",")) > 128
    assert light == (scheme == "light")


@pytest.mark.parametrize("opened", [("dark", NARROW)], indirect=True)
def test_long_names_and_large_numbers_fit_a_narrow_window(opened: Opened, of_many_windows: Path):
    opened.page.goto(of_many_windows.as_uri())
    assert "256 of 7,875" in opened.page.locator("main").inner_text()
    assert opened.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    opened.page.screenshot(path=SHOTS / "many-windows.png", full_page=True)


@pytest.mark.parametrize("opened", [("light", WIDE), ("dark", WIDE), ("light", NARROW)], indirect=True)
def test_it_is_accessible(opened: Opened):
    found = Axe().run(opened.page)
    assert found.violations_count == 0, found.generate_report()


def test_the_photo_is_drawn(opened: Opened):
    opened.page.locator("#opacity").fill("0")
    drawn = pixels(heat(opened))
    photo = Image.open(pretrained.sample_path(PHOTO)).convert("RGB").resize(drawn.shape[1::-1])
    middle = tuple(slice(n // 3, 2 * n // 3) for n in drawn.shape[:2])
    assert np.corrcoef(drawn[middle].ravel(), np.asarray(photo, np.float32)[middle].ravel())[0, 1] > 0.9


def test_the_class_is_switched_by_the_keyboard_and_by_the_mouse(opened: Opened):
    buttons = opened.page.get_by_role("radio")
    values = [button.get_attribute("value") for button in buttons.all()]
    assert len(values) == 5
    assert shown_classes(opened) == values[:1]
    before = pixels(heat(opened))
    buttons.first.focus()
    opened.page.keyboard.press("ArrowDown")
    assert shown_classes(opened) == values[1:2]
    assert np.abs(pixels(heat(opened)) - before).mean() > 1
    opened.page.locator("label", has_text="ladle").click()
    assert shown_classes(opened) == [buttons.nth(3).get_attribute("value")]
    assert buttons.nth(3).is_checked()
    words = opened.page.locator("[aria-live] p:visible").inner_text()
    assert words.startswith("In the frame: ladle: probability 0.")


def test_the_slider_changes_the_opacity(opened: Opened):
    slider = opened.page.get_by_label("Opacity of the heat map")
    drawn = opened.page.locator("svg g[data-class]:not(.off) .heat")
    opacity = "element => Number(getComputedStyle(element).opacity)"
    assert drawn.evaluate(opacity) == pytest.approx(0.65)
    slider.focus()
    for _ in range(5):
        opened.page.keyboard.press("ArrowRight")
    assert drawn.evaluate(opacity) == pytest.approx(0.70)
    assert opened.page.locator("output").inner_text() == "70 %"
    pictures = {}
    for percent in ("0", "50", "100"):
        slider.fill(percent)
        assert drawn.evaluate(opacity) == pytest.approx(int(percent) / 100)
        pictures[percent] = pixels(heat(opened))
    assert min(np.abs(pictures["50"] - pictures[other]).mean() for other in ("0", "100")) > 1


@pytest.mark.parametrize("part", ["window", "field", "lattice", "stride"])
def test_parts_of_the_geometry_can_be_left_out(opened: Opened, part: str):
    box = opened.page.locator(f"input[value={part}]")
    figure = opened.page.locator("#where-it-looks svg").first
    before = pixels(figure)
    box.focus()
    opened.page.keyboard.press("Space")
    assert not box.is_checked()
    assert not opened.page.locator(f"[data-part={part}]").is_visible()
    assert np.abs(pixels(figure) - before).max() > 50


def test_layers_that_stay_can_be_left_out(opened: Opened):
    rows = opened.page.locator("#layers tbody tr")
    every = rows.count()
    opened.page.get_by_label("layers that change").check()
    left = [row for row in rows.all() if row.is_visible()]
    assert 0 < len(left) < every
    assert f"Only the {len(left)} of {every} layers" in opened.page.locator("#what-each-layer-became").inner_text()


def test_the_links_lead_to_the_parts(opened: Opened):
    for link in opened.page.get_by_role("navigation").get_by_role("link").all():
        link.click()
        target = opened.page.locator(link.get_attribute("href"))
        assert target.locator("h2").inner_text() == link.inner_text()
        assert target.bounding_box()["y"] < WIDE["height"]


def test_controls_show_their_state_when_a_page_is_opened_again(opened: Opened):
    opened.page.get_by_role("radio").nth(1).check()
    opened.page.goto("about:blank")
    opened.page.go_back()
    chosen = opened.page.locator("input[name=class]:checked").get_attribute("value")
    assert shown_classes(opened) == [chosen]
