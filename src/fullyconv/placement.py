"""Where the cells of a map lie on its picture, in numbers and in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fullyconv.render import CellAxis

if TYPE_CHECKING:
    from fullyconv.geometry import Grid

Box = tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True)
class Placement:
    """The cells of a map over a picture.

    Args:
        grid: Where cells are, in pixels.
        cells: How many there are, vertically and horizontally.
        size: Height and width of the picture in pixels.
    """

    grid: Grid
    cells: tuple[int, int]
    size: tuple[int, int]

    def box(self, cell: tuple[int, int]) -> Box:
        """A cell's half-open pixels; those of the whole picture where one cell stands for all of it."""
        sides: Any = zip(self.grid.cell_to_box(cell), self.grid.axes, self.size, strict=True)
        low, high = ((0, n) if axis.whole else box for box, axis, n in sides)
        return low, high

    @property
    def noun(self) -> str:
        """What the pixels of a cell are: a window, a cell of the network's own map, or the picture."""
        if any(axis.whole for axis in self.grid.axes):
            return "picture"
        return "window" if self._extent == self.grid.window else "cell"

    @property
    def axes(self) -> tuple[CellAxis, ...]:
        """Where values are drawn: at the centres of the windows, half a window behind where each begins."""
        return tuple(
            CellAxis(float(low + high) / 2, float(high - low if axis.whole else axis.stride), n, float(high - low) / 2)
            for (low, high), axis, n in zip(self.box((0, 0)), self.grid.axes, self.cells, strict=True)
        )

    def in_words(self) -> str:
        """How many cells of which size there are."""
        if self.noun == "picture":
            return "one answer for all of it"
        (rows, columns), (y, x), (height, width) = self.cells, self.grid.stride, self._extent
        if rows * columns == 1:
            return f"one {self.noun} of {width} x {height}"
        return f"{columns} x {rows} {self.noun}s of {width} x {height}, one every {_pair(x, y)}"

    def legend(self) -> list[str]:
        """What the parts of the drawing mean, a sentence or two a line."""
        if self.noun == "picture":
            return []
        several = self.cells != (1, 1)
        drawn = f"A value is drawn at its {self.noun}'s centre" if several else f"The value is that of its {self.noun}"
        lines = [f"{drawn}, upsampled between centres (bilinear, for display only)." if several else f"{drawn}."]
        if self.noun == "cell":
            return [*lines, "Cells of the network's own map: each sees more of the picture than its square."]
        return lines + self._margin()

    def _margin(self) -> list[str]:
        """What lies outside the centres of the windows."""
        parts = []
        if any(axis.covered(n) != axis.seen(n) for axis, n in zip(self.axes, self.size, strict=True)):
            parts.append("Dim: seen by windows, but the centre of none.")
        if any(axis.seen(n) != (0, n) for axis, n in zip(self.axes, self.size, strict=True)):
            parts.append("Darkest, behind the dashes: seen by no window.")
        return [" ".join(parts)] if parts else []

    @property
    def _extent(self) -> tuple[Any, ...]:
        return tuple(high - low for low, high in self.box((0, 0)))


def _pair(x: Any, y: Any) -> str:
    return f"{x} pixels" if x == y else f"{x} pixels across and {y} down"
