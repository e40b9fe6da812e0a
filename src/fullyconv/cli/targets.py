"""What the command heatmap reads and writes, checked before the work is done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from fullyconv.cli.options import check_output
from fullyconv.errors import OutputError
from fullyconv.files import make_folder

_PICTURES = (".png", ".jpg", ".jpeg", ".webp")
_MAPS = (".npz", ".tif", ".tiff", ".zarr")
_DETECTIONS = (".csv", ".json", ".geojson")


@dataclass(frozen=True)
class Targets:
    """The pictures that are read, and what is written for them.

    Args:
        pictures: The pictures.
        several: Whether `output` is a folder.
        output: The overlay, or the folder of overlays.
        detections: The file of the detections in all pictures.
        maps: The file of the map; `{name}` in it becomes the picture's name.
        reads: Files that are read besides the pictures.
    """

    pictures: Sequence[Path]
    several: bool
    output: Path | None
    detections: Path | None
    maps: Path | None
    reads: Sequence[str | Path | None] = ()

    def overlay(self, picture: Path) -> Path | None:
        """Where a picture's overlay goes."""
        if self.output is None or not self.several:
            return self.output
        return self.output / f"{self._name(picture)}.png"

    def map(self, picture: Path) -> Path | None:
        """Where a picture's map goes."""
        return self.maps and Path(str(self.maps).replace("{name}", self._name(picture)))

    def check(self) -> None:
        """Refuse what cannot be written, or would replace a picture that is read; make the folder of overlays.

        Raises:
            OutputError: It is refused.
        """
        self._check_number()
        read = {path.resolve() for path in self.pictures}
        for option, path in self._written():
            if path.resolve() in read:
                msg = f"'{path}' is one of the pictures that are read.\nGive another place with {option}."
                raise OutputError(msg)
        if self.output and self.several:
            make_folder(self.output)
        elif self.output:
            check_output(self.output, *_PICTURES)
        if self.detections:
            check_output(self.detections, *_DETECTIONS, reads=self.reads)
        if self.maps:
            _check_map(self.map(self.pictures[0]))

    def _check_number(self) -> None:
        """Refuse one file for several pictures."""
        many = f"IMAGE stands for {len(self.pictures)} pictures"
        if self.output and self.several and self.output.suffix.lower() in _PICTURES and not self.output.is_dir():
            msg = f"'{self.output}' is one picture, and {many}.\nGive a folder with -o; it is made where there is none."
            raise OutputError(msg)
        if self.maps and len({self.map(picture) for picture in self.pictures}) < len(self.pictures):
            msg = (
                f"'{self.maps}' is one file, and {many}.\nPut {{name}} into it, which becomes each picture's name: "
                f"'{self.maps.with_stem('{name}')}'."
            )
            raise OutputError(msg)

    def _written(self) -> Iterator[tuple[str, Path]]:
        for picture in self.pictures:
            for option, path in (("-o", self.overlay(picture)), ("--map", self.map(picture))):
                if path:
                    yield option, path

    def _name(self, picture: Path) -> str:
        """A picture's name without its ending, or its whole path where another has that name."""
        if sum(other.stem == picture.stem for other in self.pictures) == 1:
            return picture.stem
        return "_".join("up" if part == ".." else part for part in picture.parts if part not in ("/", "."))


def targets(
    given: Sequence[str],
    output: Path | None,
    detections: Path | None,
    maps: Path | None,
    reads: Sequence[str | Path | None] = (),
) -> Targets:
    """What is read and written, checked.

    Args:
        given: Paths of pictures, folders or globs.
        output: The overlay, or the folder of overlays.
        detections: The file of detections.
        maps: The file of the map.
        reads: Files that are read besides the pictures.

    Raises:
        ImageError: There are no such pictures.
        OutputError: Something cannot be written.
    """
    from fullyconv.images import find_pictures

    if not (output or detections or maps):
        msg = "nothing would be written: give -o, --detections or --map."
        raise typer.BadParameter(msg)
    pictures = find_pictures(given)
    several = pictures != [Path(given[0])] or (output is not None and output.is_dir())
    found = Targets(pictures, several, output, detections, maps, reads)
    found.check()
    return found


def _check_map(path: Path | None) -> None:
    from fullyconv.map_files import check_map_name

    if path:
        check_output(path, *_MAPS)
        check_map_name(path)
