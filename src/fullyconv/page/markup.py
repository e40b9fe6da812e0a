"""HTML and SVG elements, built as a tree so that every text in them is escaped.

node("p", {"class": "note"}, "a < b ", node("b", {}, "!"))     an element
html(it)                                                       its text: <p class="note">a &lt; b <b>!</b></p>
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from xml.etree import ElementTree as ET

Node = ET.Element
Child = Node | str


def node(tag: str, attributes: Mapping[str, object] | None = None, *children: Child) -> Node:
    """An element.

    Args:
        tag: Its name.
        attributes: Its attributes; `True` gives one without a value of its own, `None` and `False` none.
        *children: Texts and elements inside it.

    Example:
        >>> html(node("td", {"class": "n", "hidden": False}, "1 < 2"))
        '<td class="n">1 &lt; 2</td>'
    """
    given = {key: "" if value is True else str(value) for key, value in (attributes or {}).items() if _is_set(value)}
    element = ET.Element(tag, given)
    for child in children:
        if isinstance(child, str):
            _append_text(element, child)
        else:
            element.append(child)
    return element


def html(*nodes: Node) -> str:
    """The text of elements, one after the other."""
    return "".join(ET.tostring(element, "unicode", "html") for element in nodes)


def table(heading: Sequence[str], rows: Iterable[Sequence[Child]], caption: str, numbers: int = 99) -> Node:
    """A table whose first column names the rows.

    Args:
        heading: Names of the columns.
        rows: The cells.
        caption: What the table is, for those who do not see it.
        numbers: The first of the columns that hold numbers, which are aligned to the right.
    """
    head = [node("th", {"scope": "col", "class": _aligned(i, numbers)}, name) for i, name in enumerate(heading)]
    body = [node("tr", {}, *(_cell(i, cell, numbers) for i, cell in enumerate(row))) for row in rows]
    titled = node("caption", {"class": "unseen"}, caption)
    return node("table", {}, titled, node("thead", {}, node("tr", {}, *head)), node("tbody", {}, *body))


def _cell(column: int, child: Child, numbers: int) -> Node:
    kind = ("td", {"class": _aligned(column, numbers)}) if column else ("th", {"scope": "row"})
    return node(*kind, child)


def _aligned(column: int, numbers: int) -> str | None:
    return "number" if column >= numbers else None


def _is_set(value: object) -> bool:
    return value is not None and value is not False


def _append_text(element: Node, text: str) -> None:
    """Text behind what an element holds so far."""
    if len(element):
        element[-1].tail = (element[-1].tail or "") + text
    else:
        element.text = (element.text or "") + text
