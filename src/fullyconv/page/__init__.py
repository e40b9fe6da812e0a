"""A report as one HTML page that needs nothing else: no network, no folder of pictures.

    write_report(model, "photo.jpg", "report.html")     convert, look, compare with windows cut out, write

`page.html`, `page.css` and `page.js` beside this file are its frame; what goes into it is built in `sections.py` and
`figures.py`. Its policy of content forbids every request to anywhere.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from html import escape
from importlib import metadata, resources
from pathlib import Path
from string import Template
from typing import Any

import keras

from fullyconv.comparison import Comparison, compare, has_windows
from fullyconv.convert import FullyConv, convert
from fullyconv.cost import cost
from fullyconv.errors import InputTooSmallError, OutputError
from fullyconv.files import written_whole
from fullyconv.heatmap import Heatmap, heatmap
from fullyconv.images import read_image
from fullyconv.page import figures
from fullyconv.page.markup import Node, html, node
from fullyconv.page.sections import Findings, Work, anchor, sections, summary
from fullyconv.plan import Plan, plan
from fullyconv.preprocessing import Mode
from fullyconv.reading import Labels

SUFFIXES = (".html", ".htm")


def write_report(
    model: keras.Model | Plan,
    image: Any,
    path: str | os.PathLike[str],
    *,
    classes: int | str | Sequence[int | str] | None = None,
    preprocess: Mode = None,
    labels: Labels = None,
    **options: Any,
) -> None:
    """Convert a classifier, run it over a photograph, and write what was found as one HTML page.

    The page shows the heat maps, where the network looks, how its answers compare with those on windows cut out, how
    long both take, and what each layer became. Every picture is inside it, and it opens without a network. Where a
    photograph has more than 256 windows, that many are drawn at random and cut out.

    Args:
        model: The classifier, or a `Plan` of it.
        image: A path, a Pillow image, or an array `(height, width)` or `(height, width, channels)`, 0..255.
        path: The file to write, ending in .html. It is written whole or not at all.
        classes: Which classes the page shows: an index, a name, or several; `None` takes the five highest.
        preprocess: How pixels are prepared; see `fullyconv.preprocessing`. `None` leaves them as they are.
        labels: Names of the classes, or a file of them.
        **options: Those of `fullyconv.plan`.

    Raises:
        ImageError: The picture cannot be read, or does not fit the network.
        InputTooSmallError: It is smaller than the window.
        LabelError: No class has the name, or the number of names is wrong.
        OutputError: The page cannot be written there.
        UnsupportedLayerError: Layers have no rule; all of them are named.

    Example:
        >>> model = keras.Sequential([keras.Input((8, 8, 3)), layers.Flatten(), layers.Dense(5)])
        >>> fullyconv.write_report(model, np.zeros((20, 30, 3), "uint8"), "report.html")  # doctest: +SKIP
    """
    target = Path(path)
    _check_target(target)
    made = model if isinstance(model, Plan) else plan(model, **options)
    _check_size(image, made.window)
    fcn = convert(made)
    drawn = heatmap(fcn, image, classes, preprocess, labels)
    compared = compare(made.model, fcn, drawn, preprocess) if has_windows(fcn) else None
    write(find(fcn, drawn, compared), target)


def find(fcn: FullyConv, drawn: Heatmap, compared: Comparison | None) -> Findings:
    """What a page says of a network that was converted here, and of its answer to a photograph."""
    if fcn.plan is None:
        raise ValueError("A page needs the plan of the conversion, and a network that was loaded has none.")
    return Findings(fcn.plan, drawn, compared, None if compared is None else _work(fcn.plan, drawn, compared.windows))


def _work(made: Plan, drawn: Heatmap, windows: int) -> Work | None:
    """Multiply-adds of one pass and of all windows, where every layer's are known."""
    whole, one = cost(made, drawn.image.shape[:2]), cost(made.model, made.window)
    return None if whole.uncounted or one.uncounted else (whole.multiply_adds, one.multiply_adds * windows)


def write(found: Findings, path: str | os.PathLike[str]) -> None:
    """Write a page, whole or not at all.

    Raises:
        OutputError: It cannot be written there.
    """
    text = page(found)
    with written_whole(path) as temporary:
        temporary.write_text(text, "utf-8", "backslashreplace")  # half a surrogate pair in a name


def page(found: Findings) -> str:
    """The text of the page."""
    parts = sections(found)
    links = [node("a", {"href": f"#{anchor(title)}"}, title) for title in parts]
    name = found.heatmap.name or "a photograph"
    return Template(_frame("page.html")).substitute(
        title=escape(f"{found.plan.model.name} on {name}"),
        style=_frame("page.css"),
        definitions=html(figures.definitions(found.heatmap.image)),
        summary=html(summary(found)),
        links=html(*links),
        sections=html(*parts.values()),
        footer=html(_footer()),
        script=_frame("page.js"),
    )


def _frame(name: str) -> str:
    return resources.files(__name__).joinpath(name).read_text("utf-8")


def _footer() -> Node:
    made = (
        f"Made by fullyconv {metadata.version('fullyconv')} with Keras {keras.__version__} on {keras.backend.backend()}"
    )
    return node(
        "p", {}, f"{made}; {os.cpu_count()} cores, {platform.machine()}. This page asks no server for anything."
    )


def _check_size(image: Any, window: Sequence[int]) -> None:
    """Refuse a picture that is missing or smaller than the window, before the network is built."""
    size = read_image(image, None, notes=[]).shape[:2]
    if any(n < least for n, least in zip(size, window, strict=False)):
        raise InputTooSmallError(size, window)


def _check_target(target: Path) -> None:
    """Refuse a file that could not be written, before the work is done."""
    reason = (
        f"its name must end in {' or '.join(SUFFIXES)}"
        if target.suffix.lower() not in SUFFIXES
        else "it is a folder"
        if target.is_dir()
        else f"there is no folder '{target.parent}'"
        if not target.parent.is_dir()
        else ""
    )
    if reason:
        raise OutputError(f"'{target}' cannot be written: {reason}.\nGive another place for the page.")
