"""Makes the pictures of the documentation, all of them or those that are named.

    KERAS_BACKEND=openvino python docs/figures.py [NAME ...]

The pictures of the examples are those that the examples write; they are run with the backend that they need. Every
picture is reduced to 256 colours, and to the width of a page, or less where it would be larger than 180 kB.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import keras
import matplotlib as mpl
from PIL import Image, ImageDraw, ImageFont
from speed_figure import curves

import fullyconv
from fullyconv import pretrained
from fullyconv.preprocessing import preprocess

mpl.use("agg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).parents[1]
FOLDER = Path(__file__).parent / "figures"
WIDEST, LARGEST = 1000, 180_000
EXAMPLES = {
    "chess_board": "openvino",
    "digits_on_a_page": "jax",
    "signal_1d": "jax",
    "transfer_learning": "jax",
    "vgg16": "openvino",
    "volume_3d": "jax",
}


def main(names: list[str]) -> None:
    """Make the figures of these names, or all."""
    FOLDER.mkdir(exist_ok=True)
    for name, make in FIGURES.items():
        if not names or name in names:
            keep(make(), name)
    for name, backend in EXAMPLES.items():
        if not names or name in names:
            run_example(name, backend)


def keep(picture: Image.Image, name: str) -> None:
    """Write a picture small."""
    path = FOLDER / f"{name}.png"
    picture = picture.convert("RGB")
    wide = min(picture.width, WIDEST)
    while True:
        size = (wide, round(picture.height * wide / picture.width))
        resized = picture.resize(size, Image.Resampling.LANCZOS)
        palette = resized.quantize(256, kmeans=3)
        resized.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).save(path, optimize=True)
        if path.stat().st_size < LARGEST:
            break
        wide = wide * 9 // 10
    print(f"{path.name}: {wide} pixels wide, {path.stat().st_size / 1000:.0f} kB")


def run_example(name: str, backend: str) -> None:
    """Keep the pictures that an example writes."""
    with tempfile.TemporaryDirectory() as folder:
        variables = os.environ | {"KERAS_BACKEND": backend}
        subprocess.run([sys.executable, ROOT / "examples" / f"{name}.py", folder], env=variables, check=True)
        for path in sorted(Path(folder).glob("*.png")):
            with Image.open(path) as picture:
                keep(picture, path.stem)


# -------------------------------------------------------------------------------------------------------- networks


@cache
def lite0(**options: str | int) -> fullyconv.FullyConv:
    """EfficientNet-Lite0, converted, with its names and its preprocessing."""
    fcn = fullyconv.convert(pretrained.efficientnet_lite0(), **options)
    fcn.labels, fcn.preprocess = pretrained.imagenet_labels(), pretrained.LITE0_PREPROCESS
    return fcn


def espresso() -> Image.Image:
    """The first picture: where espresso is."""
    return fullyconv.heatmap(lite0(), pretrained.sample_path("coffee"), "espresso").picture()


def boxes() -> Image.Image:
    """The windows found in a photo."""
    return fullyconv.heatmap(lite0(stride=16), pretrained.sample_path("camera"), threshold=0.3).picture()


def pooling() -> Image.Image:
    """Espresso under the three values of `pool`."""
    figure, axes = plt.subplots(1, 3, figsize=(10, 2.8), layout="constrained")
    for panel, pool in zip(axes, ("window", "drop", "global"), strict=True):
        drawn = fullyconv.heatmap(lite0(pool=pool), pretrained.sample_path("coffee"), "espresso")
        panel.imshow(drawn.image.mean(-1), cmap="gray", vmin=0, vmax=255)
        values = drawn.upsampled(drawn.classes[0])
        heat = panel.imshow(values, cmap="inferno", vmin=0, vmax=1, alpha=0.65)
        rows, columns = drawn.map.shape[:2]
        cells = "one answer" if rows * columns == 1 else f"{columns} x {rows} cells"
        best = f"{cells}, best {drawn.top[0].probability:.2f}"
        panel.set(title=f'pool="{pool}"', xlabel=best, xticks=[], yticks=[])
    figure.colorbar(heat, ax=axes, label="espresso", fraction=0.015)
    return drawn_by(figure)


def strides() -> Image.Image:
    """Espresso and a cat at four strides."""
    figure, axes = plt.subplots(2, 4, figsize=(10, 3.9), layout="constrained")
    for row, (photo, name) in zip(axes, (("coffee", "espresso"), ("chelsea", "Egyptian cat")), strict=True):
        for panel, stride in zip(row, (32, 16, 8, 4), strict=True):
            drawn = fullyconv.heatmap(lite0(stride=stride), pretrained.sample_path(photo), name)
            heat = cells_over_photo(panel, drawn)
            height, width = drawn.map.shape[:2]
            best = f"{width} x {height} cells, best {drawn.top[0].probability:.2f}"
            panel.set(title=f"{name}, stride {stride}", xlabel=best, xticks=[], yticks=[])
    figure.colorbar(heat, ax=axes, label="probability", fraction=0.015)
    return drawn_by(figure)


def cells_over_photo(panel: plt.Axes, drawn: fullyconv.Heatmap) -> mpl.image.AxesImage:
    """The cells as they are, not upsampled, each a square around its window's centre."""
    panel.imshow(drawn.image.mean(-1), cmap="gray", vmin=0, vmax=255)
    y, x = drawn.placement.axes
    ends = [(axis.first - axis.step / 2 - 0.5, axis.first + (axis.count - 0.5) * axis.step - 0.5) for axis in (y, x)]
    (top, bottom), (left, right) = ends
    height, width = drawn.image.shape[:2]
    look = {"cmap": "inferno", "vmin": 0, "vmax": 1, "alpha": 0.65, "interpolation": "nearest"}
    heat = panel.imshow(drawn.map[..., drawn.classes[0]], extent=(left, right, bottom, top), **look)
    panel.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    return heat


def drawn_by(figure: plt.Figure) -> Image.Image:
    """The picture that a figure of matplotlib is."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=100)
    return Image.open(buffer)


def field() -> Image.Image:
    """The window of one of VGG16's cells, and what the cell sees."""
    grid = fullyconv.plan(keras.applications.VGG16(weights=None)).grids
    with Image.open(pretrained.sample_path("chelsea")) as photo:
        picture = photo.convert("RGB").resize((640, 640))
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(18)
    (top, bottom), (left, right) = grid.cell_to_box((6, 6), field=True)
    for i in range(left, right, 16):
        for line in (((i, top), (i + 8, top)), ((i, bottom), (i + 8, bottom))):
            draw.line(line, "#ffd34d", 3)
        at = top + i - left
        for line in (((left, at), (left, at + 8)), ((right, at), (right, at + 8))):
            draw.line(line, "#ffd34d", 3)
    draw.text((left + 8, top + 6), f"what it sees: {right - left} pixels", "#ffd34d", font, stroke_width=2,
              stroke_fill="black")  # fmt: skip
    (top, bottom), (left, right) = grid.cell_to_box((6, 6))
    draw.rectangle((left, top, right - 1, bottom - 1), outline="white", width=3)
    draw.text((left + 8, top + 6), f"window of a cell: {right - left}", "white", font, stroke_width=2,
              stroke_fill="black")  # fmt: skip
    return picture


def agreement() -> Image.Image:
    """Probabilities of windows cut out and of cells, for a network without padding and one with."""
    chess = fullyconv.convert(pretrained.chess_model())
    board = pretrained.chess_board()[0].astype("float32")
    coffee = preprocess(pretrained.sample_image("coffee"), pretrained.LITE0_PREPROCESS)
    figure, axes = plt.subplots(1, 2, figsize=(9, 5), layout="compressed")
    for panel, fcn, image, name in (
        (axes[0], chess, board, "chess squares: no padding"),
        (axes[1], lite0(), coffee, "EfficientNet-Lite0: pads"),
    ):
        cut = fullyconv.reference(fcn.plan.model, image, fcn.grid.stride)
        cells = fcn.predict(image[None])[0][: cut.shape[0], : cut.shape[1]]
        shown = cut.max((0, 1)) > 0.05  # classes that come up at all
        panel.plot([0, 1], [0, 1], color="#bbb", linewidth=1, zorder=0)
        panel.scatter(cut[..., shown], cells[..., shown], s=9, alpha=0.35, color="#5b2a86", linewidths=0)
        panel.set(title=f"{name}, {cut[..., 0].size:,} windows", xlabel="probability, window cut out", aspect="equal")
    axes[0].set_ylabel("probability in the map")
    return drawn_by(figure)


def speed() -> Image.Image:
    """Speed-up, time and memory against size."""
    return drawn_by(curves())


FIGURES: dict[str, Callable[[], Image.Image]] = {
    "agreement": agreement,
    "boxes": boxes,
    "espresso": espresso,
    "field": field,
    "pooling": pooling,
    "speed": speed,
    "strides": strides,
}

if __name__ == "__main__":
    main(sys.argv[1:])
