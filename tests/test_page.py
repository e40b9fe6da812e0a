"""The page of a report: what it holds is what was measured, it needs nothing else, and it is written whole or not."""

from __future__ import annotations

import base64
import io
import re
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image
from typer.testing import CliRunner

import fullyconv
from fullyconv import comparison, page
from fullyconv.cli import app
from fullyconv.colours import colour_table
from fullyconv.comparison import compare, has_windows
from fullyconv.page import embedded, figures, markup
from fullyconv.preprocessing import preprocess
from fullyconv.render import CellAxis, Scale

LABELS = ["ant", "bee & <b>wasp</b>", "cat", "dog"]


def classifier(padding: str = "valid", activation: str = "softmax", units: int = 4, pool: bool = False) -> keras.Model:
    """A classifier of windows of 12 x 10 pixels."""
    stack = [
        keras.Input((12, 10, 3)),
        layers.Conv2D(8, 3, padding=padding, activation="relu", bias_initializer="normal", name="conv"),
        layers.MaxPooling2D(2, name="pool"),
        layers.GlobalAveragePooling2D(name="mean") if pool else layers.Flatten(name="flatten"),
        layers.Dense(units, activation, bias_initializer="normal", name="logits"),
    ]
    return keras.Sequential(stack, name="small")


def photo(height: int = 30, width: int = 40) -> np.ndarray:
    """A picture with structure, so that its windows differ."""
    coarse = np.random.default_rng(0).integers(0, 255, (height // 5, width // 5, 3))
    return np.repeat(np.repeat(coarse, 5, 0), 5, 1).astype("uint8")


class Elements(HTMLParser):
    """The elements of a page: their names and attributes in order, and the text of those with an id."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, Any]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def all(self, tag: str, **wanted: str) -> list[dict[str, Any]]:
        """The attributes of the elements of a name."""
        return [a for name, a in self.found if name == tag and all(a.get(k) == v for k, v in wanted.items())]


def written(tmp_path: Path, model: keras.Model, image: Any = None, **options: Any) -> str:
    """The page of a report."""
    path = tmp_path / "report.html"
    fullyconv.write_report(model, photo() if image is None else image, path, preprocess="unit", **options)
    return path.read_text("utf-8")


def as_picture(address: str) -> Image.Image:
    """The picture in a data address."""
    return Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))


# --------------------------------------------------------------------------------------------------------- the page


def test_it_needs_nothing_else(tmp_path: Path):
    text = written(tmp_path, classifier("same"), labels=LABELS)
    found = Elements(text)
    addresses = [a[key] for _, a in found.found for key in ("src", "href", "data", "action") if a.get(key)]
    assert {re.sub(r"[,;].*", "", address) for address in addresses if not address.startswith("#")} == {
        "data:",
        "data:image/png",
    }
    assert not re.search(r"https?:|@import|url\((?!#)", re.sub(r'"data:[^"]*"', "", text))
    (policy,) = found.all("meta", **{"http-equiv": "Content-Security-Policy"})
    assert policy["content"].startswith("default-src 'none'; img-src data:;")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_what_was_measured_is_in_it(tmp_path: Path):
    model = classifier("same")
    text = written(tmp_path, model, labels=LABELS, classes=["ant", "dog"])
    assert "<title>small on a photograph</title>" in text
    fcn = fullyconv.convert(model)
    drawn = fullyconv.heatmap(fcn, photo(), ["ant", "dog"], "unit", LABELS)
    compared = compare(model, fcn, drawn, "unit")
    same = f"{compared.same.sum()} of {len(compared.cells)} ({compared.agreement:.0%})"
    assert f'Both name the same class</th><td class="number">{same}' in text
    limit = fullyconv.cost(model).multiply_adds * len(compared.cells) / fullyconv.cost(fcn.plan, (30, 40)).multiply_adds
    assert f"It takes {limit:.1f} times fewer multiply-adds" in text
    assert "This network is native: equal at the window; elsewhere cells see real neighbours" in text
    assert "conv pads" in text
    for best in drawn.top:
        (top, bottom), (left, right) = best.box
        assert f"in the window of rows {top} to {bottom}, columns {left} to {right}." in text
    found = Elements(text)
    assert [a["value"] for a in found.all("input", type="radio")] == [str(best.class_index) for best in drawn.top]
    assert len(found.all("input", type="range", min="0", max="100")) == 1
    rows = re.findall(r'<tr class="(same|new)"><th scope="row">(\w+)', text)
    assert rows == [("same", "conv"), ("same", "pool"), ("new", "flatten"), ("new", "logits")]


def test_every_control_has_a_name_and_every_figure_a_description(tmp_path: Path):
    found = Elements(written(tmp_path, classifier(), labels=LABELS))
    described = [a for a in found.all("svg") if a.get("aria-hidden") != "true"]
    assert len(described) == 3
    assert all(a["role"] == "img" and len(a["aria-label"]) > 40 for a in described)
    labelled = {a["for"] for a in found.all("label") if "for" in a}
    inside = [found.found[i - 1][0] for i, (tag, a) in enumerate(found.found) if tag == "input" and "id" not in a]
    assert labelled == {"opacity"}
    assert set(inside) == {"label"}
    assert found.all("html") == [{"lang": "en"}]
    ids = [a["id"] for _, a in found.found if "id" in a]
    assert len(ids) == len(set(ids))


def test_names_from_outside_are_text(tmp_path: Path):
    text = written(tmp_path, classifier(), labels=LABELS, classes=1)
    assert "bee &amp; &lt;b&gt;wasp&lt;/b&gt;" in text
    assert "<b>wasp" not in text


@pytest.mark.parametrize("options", [{"pool": "drop"}, {"pool": "global"}, {"until": "pool"}, {"until": "mean"}])
def test_cells_that_are_no_windows_are_not_compared(tmp_path: Path, options: dict[str, str]):
    model = classifier(pool=True)
    assert not has_windows(fullyconv.convert(model, **options))
    text = written(tmp_path, model, **options)
    assert "How long it takes" not in text
    assert "What each layer became" in text


@pytest.mark.parametrize(("units", "activation"), [(1, "sigmoid"), (1, "linear"), (4, "linear")])
def test_heads_of_one_unit_and_of_scores(tmp_path: Path, units: int, activation: str):
    text = written(tmp_path, classifier("same", activation, units))
    assert ("Both name the same class" in text) == (units > 1 or activation == "sigmoid")
    assert "where the classifier is sure" not in text


def test_a_plan_is_taken_for_its_classifier(tmp_path: Path):
    plan = fullyconv.plan(classifier(), stride=1)
    assert "one every 1 x 1 pixels" in written(tmp_path, plan)


# ------------------------------------------------------------------------------------------------------- comparison


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_the_comparison_is_with_the_classifier_on_every_window(padding: str):
    model = classifier(padding)
    fcn = fullyconv.convert(model)
    drawn = fullyconv.heatmap(fcn, photo(), preprocess="unit")
    compared = compare(model, fcn, drawn, "unit")
    cut = fullyconv.reference(model, preprocess(photo(), "unit"), fcn.grid.stride)
    assert (compared.windows, len(compared.cells)) == (cut[..., 0].size, cut[..., 0].size)
    np.testing.assert_array_equal(compared.same, (cut.argmax(-1) == drawn.map.argmax(-1)).ravel())
    np.testing.assert_array_equal(compared.sure, (cut.max(-1) > 0.5).ravel())
    np.testing.assert_allclose(compared.difference, np.abs(cut - drawn.map).max(-1).ravel(), atol=1e-5)
    assert (compared.difference.max() < 1e-4) == (padding == "valid")
    assert compared.seconds > 0
    assert compared.cut_seconds > 0


@pytest.mark.parametrize("highest", [0.4, 0.9])
def test_it_is_the_classifier_that_is_sure(highest: float):
    model = classifier()
    fcn = fullyconv.convert(model)
    drawn = fullyconv.heatmap(fcn, photo(), preprocess="unit")
    answer = np.array([highest, *[(1 - highest) / 3] * 3], "float32")

    def classify(windows: np.ndarray) -> np.ndarray:
        time.sleep(0.01)
        return np.tile(answer, (len(windows), 1))

    compared = compare(model, fcn, drawn, "unit", classify)
    np.testing.assert_array_equal(compared.sure, np.full(10 * 16, highest > 0.5))
    np.testing.assert_allclose(compared.difference, np.abs(drawn.map - answer).max(-1).ravel(), rtol=1e-6)
    assert compared.cut_seconds >= 0.01 * 10 * 16 / compared.batch


def test_of_many_windows_some_are_drawn(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(comparison, "MOST", 20)
    model = classifier()
    fcn = fullyconv.convert(model)
    drawn = fullyconv.heatmap(fcn, photo(), preprocess="unit")
    compared = compare(model, fcn, drawn, "unit")
    assert (compared.windows, len({*map(tuple, compared.cells.tolist())})) == (10 * 16, 20)
    assert compared.difference.max() < 1e-4
    assert len(np.unique(compared.cells[:, 0])) > 5
    assert len(np.unique(compared.cells[:, 1])) > 5


# --------------------------------------------------------------------------------------------------------- pictures


def test_the_heat_map_has_the_colours_of_the_values_at_the_centres():
    values = np.array([[0.0, 0.25, 1.0], [0.5, 0.75, 0.1]])
    axes = (CellAxis(20, 40, 2), CellAxis(30, 40, 3))
    picture = np.asarray(as_picture(embedded.heat(values, axes, (100, 200), Scale(0, 1, "probability"))).convert("RGB"))
    assert picture.shape == (320, 480, 3)  # rows 0 to 80 and columns 10 to 130, four pixels for each
    for (row, column), value in np.ndenumerate(values):
        at = picture[80 + 160 * row, 80 + 160 * column].astype(int)
        assert np.abs(at - colour_table()[round(value * 255)]).max() <= 4


@pytest.mark.parametrize(("shape", "size"), [((30, 40, 1), (40, 30)), ((1500, 3000, 3), (1200, 600))])
def test_the_photo_is_kept_in_a_sensible_size(shape: tuple[int, ...], size: tuple[int, int]):
    image = np.zeros(shape, "uint8")
    image[: shape[0] // 2] = 200
    picture = as_picture(embedded.photograph(image))
    assert picture.size == size
    pixels = np.asarray(picture.convert("RGB"), int)
    assert np.abs(pixels[size[1] // 4] - 200).max() <= 2
    assert pixels[-1].max() <= 2


def test_the_geometry_is_that_of_the_grid():
    fcn = fullyconv.convert(classifier("same"))
    drawn = fullyconv.heatmap(fcn, photo(), 0, "unit")
    (best,) = drawn.top
    text = markup.html(figures.geometry(drawn, best))
    for box, kind in (
        (fcn.grid.cell_to_box(best.cell), "window"),
        (fcn.grid.cell_to_box(best.cell, field=True), "field"),
    ):
        (top, bottom), (left, right) = box
        path = f"M{left} {top}h{right - left}v{bottom - top}h{left - right}z"
        assert f'<path class="{kind}" d="{path}"' in text
    dots = re.search(r'class="centre dot" d="([^"]*)"', text)[1]
    assert dots.count("h0") == 10 * 16
    assert dots.startswith("M5 6h0M7 6h0")
    assert figures.shows_field(drawn, best)


def test_many_centres_are_thinned_out():
    assert figures.spacing((CellAxis(0, 1, 60), CellAxis(0, 1, 60))) == 1
    assert figures.spacing((CellAxis(0, 1, 200), CellAxis(0, 1, 200))) == 4


# ----------------------------------------------------------------------------------------------------- wrong inputs


@pytest.mark.parametrize(
    ("image", "name", "message"),
    [
        ("no.png", "report.html", "There is no picture 'no.png'; check the path."),
        (
            np.zeros((11, 30, 3), "uint8"),
            "report.html",
            "The input is 11 x 30, smaller than the window of 12 x 10.\n"
            "The network was trained on 12 x 10: enlarge the image, or pad it, to at least that size.",
        ),
        (
            photo(),
            "report.pdf",
            "'report.pdf' cannot be written: its name must end in .html or .htm.\nGive another place for the page.",
        ),
        (
            photo(),
            "none/report.html",
            "'none/report.html' cannot be written: there is no folder 'none'.\nGive another place for the page.",
        ),
        (photo(), "dir.html", "'dir.html' cannot be written: it is a folder.\nGive another place for the page."),
    ],
)
def test_wrong_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image: Any, name: str, message: str):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(page, "convert", lambda _: pytest.fail("the network was built in vain"))
    Path("dir.html").mkdir()
    with pytest.raises(fullyconv.FullyConvError, match=f"^{re.escape(message)}$"):
        fullyconv.write_report(classifier(), image, name)
    assert [path.name for path in tmp_path.iterdir()] == ["dir.html"]


def test_a_failure_leaves_the_older_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "report.html"
    path.write_text("older")

    def full(self: Path, *_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    message = f"'{path}' cannot be written: no space left on device."
    with pytest.raises(fullyconv.OutputError, match=f"^{re.escape(message)}$"):
        fullyconv.write_report(classifier(), photo(), path)
    assert (path.read_text(), [p.name for p in tmp_path.iterdir()]) == ("older", ["report.html"])


def test_a_loaded_network_has_no_plan(tmp_path: Path):
    fullyconv.convert(classifier()).save(tmp_path / "fcn.keras")
    fcn = fullyconv.load(tmp_path / "fcn.keras")
    with pytest.raises(
        ValueError, match=r"^A page needs the plan of the conversion, and a network that was loaded has"
    ):
        page.find(fcn, fullyconv.heatmap(fcn, photo()), None)


# -------------------------------------------------------------------------------------------------------- the command


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder with a model, a photo and names of classes in it."""
    monkeypatch.chdir(tmp_path)
    classifier().save("small.keras")
    Image.fromarray(photo()).save("photo.png")
    Path("names.txt").write_text("ant\nbee\ncat\ndog\n")
    return tmp_path


def test_the_command(folder: Path):
    options = ["--labels", "names.txt", "--class", "bee", "--class", "3", "--preprocess", "unit", "--stride", "1"]
    done = CliRunner().invoke(app, ["report", "small.keras", "photo.png", "-o", "report.html", *options])
    assert done.exit_code == 0, done.stderr
    assert re.fullmatch(r"Wrote report\.html \(0\.\d MB\)\. Open it in a browser\.\n", done.stdout)
    text = Path("report.html").read_text("utf-8")
    assert "<title>small on photo.png</title>" in text
    assert {a["value"] for a in Elements(text).all("input", type="radio")} == {"1", "3"}
    assert "one every 1 x 1 pixels" in text
    assert "Preprocessing: x / 255" in text


def test_the_command_refuses_in_sentences(folder: Path):
    fullyconv.convert(classifier()).save("fcn.keras")
    before = sorted(path.name for path in folder.iterdir())
    for arguments, message in (
        (
            ("fcn.keras", "photo.png", "-o", "report.html"),
            "'fcn.keras' is converted already.\nGive the classifier that it was converted from as MODEL.",
        ),
        (
            ("small.keras", "photo.png", "-o", "report.png"),
            "'report.png' cannot be written: its name must end in .html or .htm.",
        ),
        (("small.keras", "no.png", "-o", "report.html"), "There is no picture 'no.png'; check the path."),
    ):
        done = CliRunner().invoke(app, ["report", *arguments])
        assert (done.exit_code, done.stderr.rstrip("\n")) == (1, f"Error: {message}")
    assert sorted(path.name for path in folder.iterdir()) == before
