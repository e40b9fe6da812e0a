"""Pictures of heat maps: colours, where values are drawn, and files written whole or not at all."""

from __future__ import annotations

import os

import numpy as np
import pytest
from PIL import Image

from fullyconv import render
from fullyconv.colours import colour_table
from fullyconv.errors import OutputError
from fullyconv.render import CellAxis, Mark, Panel, Scale

pytestmark = pytest.mark.once  # nothing here differs from backend to backend

SCALE = Scale(0.0, 1.0, "probability")


def oklab(rgb: np.ndarray) -> np.ndarray:
    """Björn Ottosson's formula, forwards (the module has it backwards)."""
    c = rgb / 255
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    lms = np.cbrt(
        linear
        @ np.array(
            [
                [0.4122214708, 0.5363325363, 0.0514459929],
                [0.2119034982, 0.6806995451, 0.1073969566],
                [0.0883024619, 0.2817188376, 0.6299787005],
            ]
        ).T
    )
    return (
        lms
        @ np.array(
            [
                [0.2104542553, 0.7936177850, -0.0040720468],
                [1.9779984951, -2.4285922050, 0.4505937099],
                [0.0259040371, 0.7827717662, -0.8086757660],
            ]
        ).T
    )


def test_equal_steps_of_the_value_are_equal_steps_for_the_eye():
    lab = oklab(colour_table().astype(float))
    assert (np.diff(lab[::8, 0]) > 0).all()
    steps = np.linalg.norm(np.diff(lab[::17], axis=0), axis=1)
    assert steps.max() / steps.min() < 1.35
    assert lab[-1, 0] - lab[0, 0] > 0.65


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 0.5, [0, 0.1, 0.2, 0.3, 0.4, 0.5]),
        (0, 0.2, [0, 0.05, 0.1, 0.15, 0.2]),
        (-3.2, 9.1, [-2, 0, 2, 4, 6, 8]),
        (5, 5, [5]),
    ],
)
def test_ticks_are_round_numbers(low, high, expected):
    assert render.ticks(low, high) == expected


def test_values_stand_at_the_centres_of_their_windows():
    values = np.arange(6, dtype=float).reshape(2, 3)
    rows, columns = CellAxis(8.0, 4.0, 2), CellAxis(10.0, 2.0, 3)
    at = render.interpolate(values, (rows, columns), np.array([8.0, 12.0]), np.array([10.0, 12.0, 14.0]))
    np.testing.assert_array_equal(at, values)
    between = render.interpolate(values, (rows, columns), np.array([10.0]), np.array([11.0, 99.0]))
    np.testing.assert_allclose(between, [[2.0, 3.5]])


def test_a_plane_is_interpolated_exactly():
    axis = CellAxis(3.5, 7.0, 9)
    centres = 3.5 + 7 * np.arange(9)
    values = centres[:, None] + 2 * centres
    at = np.linspace(3.5, 59.5, 40)
    np.testing.assert_allclose(render.interpolate(values, (axis, axis), at, at), at[:, None] + 2 * at, rtol=1e-6)


@pytest.mark.parametrize("edge", [320, 760, 2400])
def test_the_picture_of_one_cell_peaks_at_its_windows_centre_and_falls_off_alike_on_both_sides(edge):
    """Half-pixel right: a centre between two pixels is as bright on both, drawn smaller, larger or as it is."""
    step = edge / 10
    axes = (CellAxis(2 * step, step, 5), CellAxis(2 * step, step, 5))
    values = np.zeros((5, 5))
    values[1, 3] = 1
    image = np.full((edge, edge, 3), 128, np.uint8)
    factor = render.scale_of(image.shape, 1)
    size = round(edge * factor)
    area = photo_area(render.draw(image, [Panel(values, "x")], axes, SCALE), (size, size))[..., 0]
    y, x = (round((2 + i) * step * factor) for i in (1, 3))
    reach = round(step * factor)
    around = area[y - reach : y + reach, x - reach : x + reach]
    assert around.max() == area[y - 1, x - 1] == area[y, x]
    assert np.abs(around - around[::-1]).max() <= 1
    assert np.abs(around - around[:, ::-1]).max() <= 1
    assert around[reach, 0] < around[reach, reach // 2] < around[reach, reach]


def test_covered_is_half_a_stride_around_the_centres_within_the_picture():
    assert CellAxis(112.0, 32.0, 6).covered(400) == (96.0, 288.0)
    assert CellAxis(112.0, 32.0, 1).covered(224) == (96.0, 128.0)
    assert CellAxis(1.0, 4.0, 3).covered(10) == (0.0, 10.0)


def test_seen_is_half_a_window_around_the_centres_within_the_picture():
    assert CellAxis(112.0, 32.0, 6, 112.0).seen(400) == (0.0, 384.0)
    assert CellAxis(112.0, 32.0, 6).seen(400) == (96.0, 288.0)


def photo_area(picture: Image.Image, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(picture)[12 + 46 :, 24:][: size[0], : size[1]].astype(int)


def test_the_border_without_windows_is_grey_and_dark_and_the_inside_is_coloured():
    image = np.full((700, 800, 3), 200, np.uint8)
    axes = (CellAxis(200.0, 100.0, 4), CellAxis(200.0, 100.0, 5))
    panel = Panel(np.tile(np.linspace(0, 1, 5), (4, 1)), "ramp")
    area = photo_area(render.draw(image, [panel], axes, SCALE), (700, 800))
    assert np.ptp(area[20, 20]) == 0
    assert area[20, 20, 0] < 130
    assert np.ptp(area[400, 600]) > 60
    np.testing.assert_array_equal(area[150, 160:640], 226)  # the line around what is covered
    np.testing.assert_array_equal(area[149, 160:640, 0], area[20, 20, 0])


def test_what_windows_see_is_dim_and_the_rest_is_darker_behind_dashes():
    image = np.full((700, 800, 3), 200, np.uint8)
    axes = (CellAxis(200.0, 100.0, 4, 200.0), CellAxis(200.0, 100.0, 5, 150.0))
    area = photo_area(render.draw(image, [Panel(np.zeros((4, 5)), "x")], axes, SCALE), (700, 800))
    dim, darkest = area[20, 400], area[20, 20]
    assert darkest.max() < dim.min() < area[400, 400].max()
    np.testing.assert_array_equal(area[:, 49], np.tile(darkest, (700, 1)))  # windows begin at column 50
    assert {tuple(c) for c in area[:20, 50]} == {(226, 226, 226), tuple(dim)}
    np.testing.assert_array_equal(area[699, 300], dim)  # the lowest windows end where the picture does


def test_every_mark_is_framed_and_named_within_its_box():
    axes = (CellAxis(350.0, 100.0, 1), CellAxis(350.0, 100.0, 1))
    boxes = [((100, 200), (100, 200)), ((100, 200), (200, 300))]
    panel = Panel(np.zeros((1, 1)), "a name that is too long", "", [Mark(box, "0.5") for box in boxes])
    area = photo_area(render.draw(np.zeros((700, 700, 3), np.uint8), [panel], axes, SCALE), (700, 700))
    for left in (100, 200):
        np.testing.assert_array_equal(area[150, left + 1 : left + 4], 255)  # the left side of the frame
        assert area[80:95, left + 5 : left + 95].max() > 200  # the name
    np.testing.assert_array_equal(area[72:100, 301:], area[60, 400, 0])


def test_the_box_shows_on_black_and_on_white():
    axes = (CellAxis(350.0, 100.0, 1), CellAxis(350.0, 100.0, 1))
    for background in (0, 255):
        image = np.full((700, 700, 3), background, np.uint8)
        panel = Panel(np.zeros((1, 1)), "name", "", [Mark(((200, 500), (200, 500)), "0.5")])
        area = photo_area(render.draw(image, [panel], axes, SCALE), (700, 700))
        line = area[350, 198:208, 0]
        assert (line.max(), line.min()) == (255, 0)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 12])
@pytest.mark.parametrize("shape", [(30, 900), (900, 30), (20, 20), (2500, 3000)])
def test_any_shape_and_number_of_panels_gives_a_page(count, shape):
    axes = tuple(CellAxis(n / 2, 5.0, 1) for n in shape)
    box = ((0, shape[0]), (0, shape[1]))
    panels = [Panel(np.zeros((1, 1)), "a long name " * 9, "a remark", [Mark(box, "0.123")] * 2)] * count
    picture = render.draw(np.zeros((*shape, 1), np.uint8), panels, axes, SCALE, ["a line of small text " * 4])
    assert 400 <= picture.width <= 2100
    assert 200 <= picture.height <= 4000


def test_the_same_value_everywhere_can_be_drawn():
    axes = (CellAxis(5.0, 5.0, 1), CellAxis(5.0, 5.0, 1))
    render.draw(np.zeros((10, 10, 3)), [Panel(np.ones((1, 1)), "x")], axes, Scale(1.0, 1.0, "score"))


# --------------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("suffix", ["png", "jpg", "jpeg", "webp", "PNG"])
def test_save_leaves_one_file(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    render.save(Image.new("RGB", (9, 8)), path)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    with Image.open(path) as image:
        assert image.size == (9, 8)


def said(path) -> str:
    with pytest.raises(OutputError, match=r"\.") as caught:
        render.save(Image.new("RGB", (9, 8)), path)
    return str(caught.value)


def test_what_cannot_be_written(tmp_path):
    (tmp_path / "folder.png").mkdir()
    assert said(tmp_path / "a") == f"'{tmp_path}/a' has no suffix of a picture; use .png, .jpg, .jpeg, .webp."
    assert said(tmp_path / "no" / "a.png") == (
        f"'{tmp_path}/no/a.png' cannot be written: there is no folder '{tmp_path}/no'."
    )
    assert said(tmp_path / "folder.png") == f"'{tmp_path}/folder.png' cannot be written: it is a folder."
    assert said("a\0b.png") == "'a\\x00b.png' cannot be written: embedded null byte."


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")

    def full(self, target, *args):
        target.write_bytes(b"half")
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(Image.Image, "save", full)
    assert said(path) == f"'{path}' cannot be written: no space left on device."
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1
