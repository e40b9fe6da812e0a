"""Heat maps: the right cells, the right classes by any name, honest legends, and what is assumed is said."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import pytest
from PIL import Image

from fullyconv.errors import ImageError, InputTooSmallError, LabelError
from fullyconv.geometry import Axis, Grid
from fullyconv.heatmap import Heatmap, heatmap
from fullyconv.labels import find_class, read_labels

WINDOW, STRIDE = 8, 4
CATS = ("tabby cat", "Egyptian cat", "dog")


class Net:
    """Stands in for a FullyConv: the mean of each window's red, green and blue, through a head."""

    labels: tuple[str, ...] | None = CATS
    preprocess = "unit"
    options: Mapping[str, object] = MappingProxyType({})

    def __init__(self, head=lambda z: z / z.sum(-1, keepdims=True), data_format="channels_last", activation=None):
        axis = Axis(WINDOW).slide(WINDOW, STRIDE, right=2)  # returns a cell whose window leaves the picture
        self.grid = Grid((axis, axis), channels_first=data_format == "channels_first")
        self.head, self.data_format = head, data_format
        last = type("Layer", (), {"activation": activation})()
        shape = (None, None, None, 3) if data_format == "channels_last" else (None, 3, None, None)
        self.model = type("Model", (), {"layers": [last], "input_shape": shape})()
        self.seen: np.ndarray | None = None

    def predict(self, x):
        self.seen = x
        x = x if self.data_format == "channels_last" else np.moveaxis(x, 1, -1)
        if min(x.shape[1:3]) < WINDOW:
            raise InputTooSmallError(x.shape[1:3], (WINDOW, WINDOW))
        rows, columns = self.grid.cells(x.shape[1:3])
        cells = [
            x[0, STRIDE * i : STRIDE * i + WINDOW, STRIDE * j : STRIDE * j + WINDOW].mean((0, 1))
            for i in range(rows)
            for j in range(columns)
        ]
        y = self.head(np.array(cells, np.float64).reshape(1, rows, columns, 3) + 1e-3)
        return (y if self.data_format == "channels_last" else np.moveaxis(y, -1, 1)).astype(np.float32)


@pytest.fixture
def picture() -> np.ndarray:
    """Green on the left, a red square at rows 8..16, columns 20..28, blue elsewhere."""
    image = np.zeros((22, 30, 3), np.uint8)
    image[:, :12, 1] = 200
    image[:, 12:, 2] = 200
    image[8:16, 20:28] = (255, 0, 0)
    return image


# ------------------------------------------------------------------------------------------------------- the map


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_map_has_the_windows_inside_and_the_best_one_is_where_the_object_is(picture, data_format):
    result = heatmap(Net(data_format=data_format), picture, classes=0)
    assert result.grid.cells((22, 30)) == (5, 7)
    assert (result.map.shape, result.map.dtype) == ((4, 6, 3), np.float32)
    (best,) = result.top
    assert (best.class_index, best.label, best.cell) == (0, "tabby cat", (2, 5))
    assert best.box == ((8, 16), (20, 28))
    assert best.probability == pytest.approx(1, abs=0.01)
    np.testing.assert_array_equal(result.image, picture)


def test_pixels_are_prepared_as_the_model_says_or_as_told(picture):
    net = Net()
    result = heatmap(net, picture)
    np.testing.assert_allclose(net.seen[0], picture / 255, rtol=1e-6)
    assert result.notes == ("Preprocessing: x / 255 ('unit'), as the model says.",)
    result = heatmap(net, picture, preprocess="none")
    np.testing.assert_array_equal(net.seen[0], picture)
    assert result.notes == ("Preprocessing: x as it is, 0 to 255 ('none').",)
    net.preprocess = None
    assert heatmap(net, Image.fromarray(picture[..., 0])).notes == (
        "The picture has 1 channel, grey: it was repeated to the 3 channels of the model.",
        "No preprocessing was given, and the model names none: the pixels went in as they are, 0 to 255. If it was "
        "trained on another range, this map is wrong: give it, such as preprocess='tf'.",
    )


def test_channels_first_preprocessing(picture):
    net = Net(data_format="channels_first")
    heatmap(net, picture, preprocess={"offset": [0, 0, 7], "bgr": True})
    np.testing.assert_array_equal(net.seen[0, 2], picture[..., 0] + 7.0)


def test_top_without_classes_lists_the_highest_first(picture):
    result = heatmap(Net(), picture)
    assert sorted(peak.label for peak in result.top) == sorted(CATS)
    values = [peak.probability for peak in result.top]
    assert values == sorted(values, reverse=True)
    assert result.classes is None
    assert repr(result).startswith("<Heatmap of 4 x 6 cells, 3 classes; best: ")


def test_a_picture_as_large_as_the_window_has_one_cell(picture):
    assert heatmap(Net(), picture[:WINDOW, :WINDOW]).map.shape == (1, 1, 3)


def test_too_small_goes_through(picture):
    with pytest.raises(InputTooSmallError, match="The input is 7 x 30, smaller than the window of 8 x 8"):
        heatmap(Net(), picture[: WINDOW - 1])


def test_networks_that_take_no_picture(picture):
    net = Net()
    net.grid = Grid((Axis(8).slide(8),))
    with pytest.raises(ImageError, match=r"\.") as caught:
        heatmap(net, picture)
    assert str(caught.value) == (
        "A heat map needs a network for pictures, and this one has 1 spatial axis; use fcn.predict."
    )
    net = Net()
    net.model.input_shape = [(None, None, None, 3), (None, 4)]
    with pytest.raises(ImageError, match=r"\.") as caught:
        heatmap(net, picture)
    assert str(caught.value) == "A heat map needs a network with one input, and this one has 2; use fcn.predict."


# ------------------------------------------------------------------------------------------- probability or score


def linear(x):
    return x


@pytest.mark.parametrize(
    ("head", "activation", "kind"),
    [
        (lambda z: z / z.sum(-1, keepdims=True), None, "probability"),
        (lambda z: 10 * z - 3, None, "score"),
        (lambda z: z / 3, None, "score"),
        (lambda z: z[..., :1].clip(0, 1), None, "probability"),
        (lambda z: z[..., :1].clip(0, 1), linear, "score"),
    ],
)
def test_only_probabilities_are_called_so(picture, head, activation, kind):
    net = Net(head, activation=activation)
    net.labels = None
    result = heatmap(net, picture)
    assert result.kind == kind
    assert result.picture().width > 400


def test_a_sigmoid_unit_is_named_by_its_second_label(picture):
    net = Net(lambda z: z[..., :1].clip(0, 1))
    assert heatmap(net, picture, labels=["no cat", "cat"]).top[0].label == "cat"
    assert heatmap(net, picture, labels=["cat"]).top[0].label == "cat"
    net.labels = None
    assert heatmap(net, picture).top[0].label == "class 0"


# -------------------------------------------------------------------------------------------------------- classes


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        (1, (1,)),
        (np.int64(2), (2,)),
        ("2", (2,)),
        ("Egyptian cat", (1,)),
        ("egyptian CAT", (1,)),
        ("tabby", (0,)),
        (["dog", 0, "tabby cat"], (2, 0)),
    ],
)
def test_classes_by_index_and_by_name(picture, wanted, chosen):
    result = heatmap(Net(), picture, classes=wanted)
    assert result.classes == chosen
    assert {peak.class_index for peak in result.top} == set(chosen)


def refused(wanted, labels=CATS, count=3) -> str:
    with pytest.raises(LabelError, match=r"\.") as caught:
        find_class(wanted, labels, count)
    return str(caught.value)


def test_classes_that_are_none():
    assert refused(3) == refused("3") == "There is no class 3; the model has 3, numbered from 0 to 2."
    assert refused(-1) == "There is no class -1; the model has 3, numbered from 0 to 2."
    assert refused("cat") == (
        "'cat' fits 2 classes: 'tabby cat' (0), 'Egyptian cat' (1); give a whole name, or an index."
    )
    assert refused("egiptian cat") == (
        "There is no class 'egiptian cat'; the nearest names are 'Egyptian cat', 'tabby cat'."
    )
    assert refused("zzz") == "There is no class 'zzz'; no name is near to it."
    assert refused("cat", None) == (
        "The model has no names for its classes, so 'cat' is none of them; give labels, or an index from 0 to 2."
    )
    assert refused("a", [f"a{i}" for i in range(7)], 7) == (
        "'a' fits 7 classes: 'a0' (0), 'a1' (1), 'a2' (2), 'a3' (3), 'a4' (4) and 2 more; give a whole name, or an "
        "index."
    )


def test_a_class_named_by_a_number():
    assert find_class("7", ["3", "7"], 2) == 1


def test_labels_and_classes_that_do_not_fit(picture):
    with pytest.raises(LabelError, match=r"\.") as caught:
        heatmap(Net(), picture, labels=["a", "b"])
    assert str(caught.value) == "There are 2 labels for 3 classes; give one for each, in the model's order."
    with pytest.raises(LabelError, match=r"No class was named; leave classes out for the one with the highest value\."):
        heatmap(Net(), picture, classes=[])


# ------------------------------------------------------------------------------------------------- files of labels


@pytest.mark.parametrize(
    "text",
    [
        "a\nb c\nd\n",
        "\ufeffa\r\nb c\r\nd",
        '["a", "b c", "d"]',
        '{"1": "b c", "0": "a", "2": "d"}',
        '{"0": ["n1", "a"], "1": ["n2", "b c"], "2": ["n3", "d"]}',
    ],
)
def test_files_of_labels(tmp_path, text):
    (tmp_path / "l").write_text(text, "utf-8", newline="")
    assert read_labels(tmp_path / "l") == ["a", "b c", "d"]


def test_files_that_hold_no_labels(tmp_path):
    path = tmp_path / "l"

    def said() -> str:
        with pytest.raises(LabelError, match=r"\.") as caught:
            read_labels(path)
        return str(caught.value).replace(str(path), "l")

    assert said() == "'l' cannot be read: No such file or directory."
    path.write_bytes(b"\xff\xfe\x00\x81")
    assert said() == "'l' is not text in UTF-8; a file of labels has one name a line."
    path.write_text(" \n")
    assert said() == "'l' holds no names; a file of labels has one name a line."
    for wrong in ("[1, 2]", '{"1": "a"}', "[", json.dumps([[]])):
        path.write_text(wrong)
        assert said() == (
            "'l' is not a list of names: JSON must be a list, or an object with every index from 0 on, in quotes."
        )


# ------------------------------------------------------------------------------------------------------- pictures


def test_saved_and_shown(picture, tmp_path):
    Image.fromarray(picture).save(tmp_path / "in.png")
    result = heatmap(Net(), tmp_path / "in.png", classes=["dog", "tabby"])
    assert result.name == "in.png"
    result.save(tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as saved, Image.open(io.BytesIO(result._repr_png_())) as shown:
        assert saved.size == shown.size
        np.testing.assert_array_equal(np.asarray(saved), np.asarray(shown))


def test_what_is_drawn_is_where_the_object_is(picture):
    """The brightest spot of the overlay lies at the centre of the best window: row 12, column 24."""
    result = heatmap(Net(), picture, classes="tabby")
    factor = 620 / 30
    drawn = np.asarray(Heatmap.picture(result))[58:, 24 : 24 + 620][: round(22 * factor)].astype(int)
    warm = drawn[..., 0] - drawn[..., 2]
    y, x = round(13.5 * factor), round(24.5 * factor)  # beside the dot at the centre
    assert warm[y, x] > 60
    assert warm[y, x - round(9 * factor)] < 20


def test_small_text_below(picture):
    lines = heatmap(Net(), picture)._footer(1)
    assert lines == [
        "Picture, 30 x 22 pixels: 6 x 4 windows of 8 x 8, one every 4 pixels.",
        "A value is drawn at its window's centre, upsampled between centres (bilinear, for display only).",
        "Dim: seen by windows, but the centre of none. Darkest, behind the dashes: seen by no window.",
    ]
    assert heatmap(Net(), picture[:8, :8])._footer(1)[0] == "Picture, 8 x 8 pixels: one window of 8 x 8."
    assert heatmap(Net(), picture)._footer(20)[-1] == "The first 12 of 20 classes are drawn."


def test_cells_of_a_trunk_and_of_a_whole_picture(picture):
    net = Net()
    trunk = Axis(WINDOW).slide(2, 2).slide(2, 2)  # two cells at the window: the network's own map
    net.grid = Grid((trunk, trunk))
    result = heatmap(net, picture, classes=0)
    assert result.top[0].box == ((8, 12), (20, 24))
    assert result._footer(1) == [
        "Picture, 30 x 22 pixels: 7 x 5 cells of 4 x 4, one every 4 pixels.",
        "A value is drawn at its cell's centre, upsampled between centres (bilinear, for display only).",
        "Cells of the network's own map: each sees more of the picture than its square.",
    ]
    whole = Axis(WINDOW, stride=WINDOW, field=(-np.inf, np.inf), whole=True)
    net.grid = Grid((whole, whole))
    result = heatmap(net, picture, classes=0)
    assert result.top[0].box == ((0, 22), (0, 30))
    assert result._footer(1) == ["Picture, 30 x 22 pixels: one answer for all of it."]
    assert result.placement.axes[1].covered(30) == (0, 30)
    result.picture()
