"""From maps to boxes: the right windows, one name a place, and files that other programs read."""

from __future__ import annotations

import csv
import json

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import fullyconv
from fullyconv.detections import Detection, local_maxima, save_detections, suppress
from fullyconv.errors import GeometryError, OutputError
from fullyconv.geometry import Axis, Grid
from fullyconv.heatmap import Heatmap

pytestmark = pytest.mark.once  # nothing here differs from backend to backend

WINDOW, STRIDE = 8, 4


def of(values: np.ndarray, **options) -> Heatmap:
    """A heat map of these values, with windows of 8 x 8 pixels every 4."""
    axis = Axis(WINDOW).slide(WINDOW, STRIDE)
    size = [WINDOW + STRIDE * (n - 1) for n in values.shape[:2]]
    return Heatmap(values.astype(np.float32), Grid((axis, axis)), np.zeros((*size, 3), np.uint8), **options)


def overlap(a: Detection, b: Detection) -> float:
    """Intersection over union, counted pixel by pixel."""
    pixels = [{(y, x) for y in range(*d.box[0]) for x in range(*d.box[1])} for d in (a, b)]
    return len(pixels[0] & pixels[1]) / len(pixels[0] | pixels[1])


# -------------------------------------------------------------------------------------------------------- finding


def test_each_object_is_one_box_with_its_name():
    values = np.zeros((5, 9, 2))
    values[1, 2, 0], values[1, 3, 0], values[3, 7, 1], values[0, 7, 1] = 0.9, 0.8, 0.95, 0.4
    found = of(values, labels=("cat", "dog")).detections(0.5)
    assert found == [
        Detection(1, "dog", pytest.approx(0.95), (3, 7), ((12, 20), (28, 36))),
        Detection(0, "cat", pytest.approx(0.9), (1, 2), ((4, 12), (8, 16))),
    ]
    assert [d.label for d in of(values, labels=("cat", "dog"), classes=(0,)).detections(0.5)] == ["cat"]
    assert of(values).detections(0.96) == []


def test_overlapping_windows_of_two_classes_give_one_name_unless_told():
    values = np.zeros((3, 5, 2))
    values[1, 1, 0], values[1, 2, 1] = 0.9, 0.8
    assert [d.class_index for d in of(values).detections(0.5)] == [0]
    assert [d.class_index for d in of(values).detections(0.5, per_class=True)] == [0, 1]
    apart = of(values, per_class=True)
    assert [d.class_index for d in apart.detections(0.5)] == [0, 1]
    assert [d.class_index for d in apart.detections(0.5, per_class=False)] == [0]
    assert [d.class_index for d in of(values).detections(0.5, 0.5)] == [0, 1]  # they share a third of their union


def test_the_middle_of_a_plateau_stands_for_it():
    values = np.zeros((9, 11, 1))
    values[2:7, 3:8] = 1.0
    assert of(values).detections()[0].cell == (4, 5)
    values = np.zeros((9, 11, 1))
    values[:3] = 1.0
    assert of(values).detections()[0].cell[0] == 1


def test_a_class_whose_values_are_all_alike_has_boxes_everywhere_but_none_that_overlap():
    found = of(np.ones((6, 6, 1))).detections(0.5, 0)
    assert len(found) >= 4
    assert all(overlap(a, b) == 0 for a in found for b in found if a is not b)


@settings(deadline=None, max_examples=60)
@given(
    values=arrays.arrays(
        np.float32,
        st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 3)),
        elements=st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]),
    ),
    threshold=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    share=st.sampled_from([0.0, 0.2, 0.5, 1.0]),
    per_class=st.booleans(),
)
def test_what_is_kept_and_what_is_left_out(values, threshold, share, per_class):
    found = of(values).detections(threshold, share, per_class=per_class)
    assert all(d.probability == values[(*d.cell, d.class_index)] >= threshold for d in found)
    assert [d.probability for d in found] == sorted((d.probability for d in found), reverse=True)
    kept = {(*d.cell, d.class_index) for d in found}
    maxima = []
    for i, j, k in np.ndindex(*values.shape):
        around = values[max(0, i - 1) : i + 2, max(0, j - 1) : j + 2, k]
        if values[i, j, k] >= max(threshold, around.max()):
            maxima.append(of(values)._detection(k, (i, j)))
    assert kept <= {(*d.cell, d.class_index) for d in maxima}

    def close(a: Detection, b: Detection) -> bool:
        return overlap(a, b) > share and (not per_class or a.class_index == b.class_index)

    assert not any(close(a, b) for a in found for b in found if a is not b)
    for d in maxima:
        if (*d.cell, d.class_index) not in kept:
            assert any(close(d, better) and better.probability >= d.probability for better in found)


def test_no_cells_above_the_threshold():
    assert local_maxima(np.zeros((3, 3, 2)), 0.5).shape == (0, 3)
    assert suppress(np.empty((0, 4)), np.empty(0), 0.2) == []


@pytest.mark.parametrize(
    ("threshold", "share", "message"),
    [
        (float("nan"), 0.2, "The threshold nan is no number; give one such as 0.5."),
        ("high", 0.2, "The threshold 'high' is no number; give one such as 0.5."),
        (0.5, 2, "The overlap 2 is no share of two windows; give one from 0 to 1."),
    ],
)
def test_numbers_that_are_none(threshold, share, message):
    with pytest.raises(GeometryError, match=r"\.") as caught:
        of(np.zeros((2, 2, 1))).detections(threshold, share)
    assert str(caught.value) == message


# ---------------------------------------------------------------------------------------------------------- files


@pytest.fixture
def found() -> Heatmap:
    values = np.zeros((5, 9, 2))
    values[1, 2, 0], values[3, 7, 1] = 0.875, 0.75
    return of(values, labels=("cat, tabby", 'dög "Rex"'), name="a.png")


def test_csv(found, tmp_path):
    found.save_detections(tmp_path / "d.csv")
    with (tmp_path / "d.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [
            ["picture", "class", "label", "probability", "row", "column", "top", "left", "bottom", "right"],
            ["a.png", "0", "cat, tabby", "0.875", "1", "2", "4", "8", "12", "16"],
            ["a.png", "1", 'dög "Rex"', "0.75", "3", "7", "12", "28", "20", "36"],
        ]


def test_json(found, tmp_path):
    found.save_detections(tmp_path / "d.json", threshold=0.8)
    assert json.loads((tmp_path / "d.json").read_text("utf-8")) == {
        "boxes": "half-open, in pixels",
        "pictures": [
            {
                "picture": "a.png",
                "height": 24,
                "width": 40,
                "threshold": 0.8,
                "detections": [
                    {
                        "class": 0,
                        "label": "cat, tabby",
                        "probability": 0.875,
                        "row": 1,
                        "column": 2,
                        "box": {"top": 4, "left": 8, "bottom": 12, "right": 16},
                    }
                ],
            }
        ],
    }


def test_geojson_is_said_to_be_in_pixels(found, tmp_path):
    found.save_detections(tmp_path / "d.geojson")
    written = json.loads((tmp_path / "d.geojson").read_text("utf-8"))
    assert written["type"] == "FeatureCollection"
    assert set(written) == {"type", "coordinate_system", "features"}  # RFC 7946, 7.1: no "coordinates" here
    assert written["coordinate_system"] == (
        "Pixels of the picture, x to the right and y down from its top left corner; no place on earth."
    )
    first, second = written["features"]
    assert first["geometry"] == {"type": "Polygon", "coordinates": [[[8, 4], [16, 4], [16, 12], [8, 12], [8, 4]]]}
    assert second["properties"] == {
        "picture": "a.png",
        "class": 1,
        "label": 'dög "Rex"',
        "probability": 0.75,
        "row": 3,
        "column": 7,
    }


def test_rings_of_geojson_are_counter_clockwise(found, tmp_path):
    found.save_detections(tmp_path / "d.geojson")
    for feature in json.loads((tmp_path / "d.geojson").read_text("utf-8"))["features"]:
        (ring,) = np.array(feature["geometry"]["coordinates"])
        (x, y), (x_next, y_next) = ring[:-1].T, ring[1:].T
        assert (x * y_next - x_next * y).sum() / 2 == WINDOW * WINDOW


def test_detections_of_several_pictures_share_a_file(found, tmp_path):
    save_detections(tmp_path / "d.csv", [found.found(), found.found(0.8)])
    assert len((tmp_path / "d.csv").read_text("utf-8").splitlines()) == 1 + 2 + 1
    save_detections(tmp_path / "none.csv", [])
    assert len((tmp_path / "none.csv").read_text("utf-8").splitlines()) == 1


def test_files_that_cannot_be(found, tmp_path):
    with pytest.raises(OutputError, match=r"\.") as caught:
        found.save_detections("d.xml")
    assert str(caught.value) == "'d.xml' has no suffix of a file of detections; use .csv, .json, .geojson."
    with pytest.raises(OutputError, match=r"\.") as caught:
        found.save_detections(tmp_path / "no" / "d.csv")
    assert str(caught.value) == f"'{tmp_path}/no/d.csv' cannot be written: there is no folder '{tmp_path}/no'."


# -------------------------------------------------------------------------------------------------------- pictures


def test_detections_are_drawn_and_counted(found):
    drawn = Heatmap(found.map, found.grid, found.image, labels=found.labels, threshold=0.5)
    panels = [drawn._panel(drawn._best(c), drawn.detections(0.5)) for c in drawn._shown(drawn.detections(0.5))]
    assert [(p.title, p.remark, [m.box for m in p.marks]) for p in panels] == [
        ("cat, tabby", "1 window of at least 0.5", [((4, 12), (8, 16))]),
        ('dög "Rex"', "1 window of at least 0.5", [((12, 20), (28, 36))]),
    ]
    nothing = drawn._panel(drawn._best(0), [])
    assert (nothing.remark, nothing.marks) == ("best window: probability 0.875, behind another class", ())
    drawn = Heatmap(found.map, found.grid, found.image, threshold=0.9)
    assert drawn._panel(drawn._best(0), []).remark == "best window: probability 0.875, below 0.9"
    drawn = Heatmap(found.map, found.grid, found.image, threshold=0.5)
    assert drawn._footer(2)[-1] == "Boxes: local maxima of at least 0.5; of those that overlap, the best."
    assert isinstance(drawn.picture(), Image.Image)
    drawn = Heatmap(found.map, found.grid, found.image, threshold=0.5, per_class=True)
    assert drawn._footer(2)[-1] == (
        "Boxes: local maxima of at least 0.5; of those of one class that overlap, the best."
    )


def test_detection_is_public():
    assert fullyconv.Detection is Detection
