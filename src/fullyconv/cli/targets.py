"""What the command heatmap reads and writes, checked before the work is done."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fullyconv.cli.options import check_ending, check_folder, check_output
from fullyconv.cli.process import say
from fullyconv.errors import OutputError
from fullyconv.files import make_folder
from fullyconv.outputs import check_free, check_place

if TYPE_CHECKING:
    from fullyconv.heatmap import Heatmap

_PICTURES = (".png", ".jpg", ".jpeg", ".webp")
_MAPS = (".npz", ".tif", ".tiff", ".zarr")
_DETECTIONS = (".csv", ".json", ".geojson")


@dataclass(frozen=True)
class Targets:
    """The pictures that are read, and what is written for them.

    A file must go to a folder that is there. A folder for the files of several pictures, that of `output` or that in a
    `maps` with `{name}`, is made when the first of them is written.

    Args:
        pictures: The pictures.
        several: Whether `output` is a folder.
        output: The overlay, or the folder of overlays.
        detections: The file of the detections in all pictures.
        maps: The file of the map; `{name}` in it becomes the picture's name.
        reads: Files that are read besides the pictures.
        overwrite: Whether what is there already is replaced.
    """

    pictures: Sequence[Path]
    several: bool
    output: Path | None
    detections: Path | None
    maps: Path | None
    reads: Sequence[str | Path | None] = ()
    overwrite: bool = False

    @cached_property
    def called(self) -> dict[Path, str]:
        """What each picture is called: its file's name, or where two share one, its path below the common folder."""
        if len({picture.name for picture in self.pictures}) == len(self.pictures):
            return {picture: picture.name for picture in self.pictures}
        if len({picture.is_absolute() for picture in self.pictures}) > 1:
            return {picture: picture.as_posix() for picture in self.pictures}
        common = os.path.commonpath([picture.parent for picture in self.pictures])
        return {picture: picture.relative_to(common).as_posix() for picture in self.pictures}

    def write(self, drawn: Heatmap, picture: Path) -> None:
        """Write a picture's overlay and map, and the folders they go to; where that fails, no empty folder is left."""
        overlay, values = self.overlay(picture), self.map(picture)
        folders = [folder for folder, _ in self._folders(picture)]
        made = [part for folder in folders for part in (folder, *folder.parents) if not part.exists()]
        try:
            for folder in folders:
                make_folder(folder)
            if overlay:
                drawn.save(overlay)
            if values:
                drawn.save_map(values, overwrite=self.overwrite)
        except BaseException:
            for folder in made:
                with contextlib.suppress(OSError):
                    folder.rmdir()
            raise

    def overlay(self, picture: Path) -> Path | None:
        """Where a picture's overlay goes."""
        if self.output is None or not self.several:
            return self.output
        return self.output / f"{self._names[picture]}.png"

    def map(self, picture: Path) -> Path | None:
        """Where a picture's map goes."""
        return self.maps and Path(str(self.maps).replace("{name}", self._names[picture]))

    def check(self) -> None:
        """Refuse what cannot be written, or would replace a file that is read; write nothing.

        Raises:
            OutputError: It is refused.
        """
        self._check_number()
        read = {path.resolve() for path in self.pictures}
        for option, path in self._written():
            if path.resolve() in read:
                msg = f"{str(path)!r} is one of the pictures that are read.\nGive another place with {option}."
                raise OutputError(msg)
        if self.output and not self.several:
            check_output(self.output, *_PICTURES, overwrite=self.overwrite)
        if self.detections:
            check_output(
                self.detections, *_DETECTIONS, reads=self.reads, overwrite=self.overwrite, option="--detections"
            )
        if self.maps:
            _check_map(self.maps, self.map(self.pictures[0]) or self.maps)
        for folder, option in {made: None for picture in self.pictures for made in self._folders(picture)}:
            check_folder(folder, option)
        for option, path in self._written():
            self._check_free(option, path)

    def _check_free(self, option: str, path: Path) -> None:
        """Refuse what would replace something, unless that was asked for."""
        if option == "-o":
            check_free(path, self.overwrite, option)
            return
        from fullyconv.map_files import check_map_free

        check_map_free(path, self.overwrite, option)

    def _check_number(self) -> None:
        """Refuse one file for several pictures."""
        many = f"IMAGE stands for {len(self.pictures)} pictures"
        if self.output and self.several and self.output.suffix.lower() in _PICTURES and not self.output.is_dir():
            msg = f"'{self.output}' is one picture, and {many}.\nGive a folder with -o; it is made where there is none."
            raise OutputError(msg)
        if self.maps and "{name}" not in str(self.maps) and len(self.pictures) > 1:
            msg = (
                f"'{self.maps}' is one file, and {many}.\nPut {{name}} into it, which becomes each picture's name: "
                f"'{self.maps.with_stem('{name}')}'."
            )
            raise OutputError(msg)
        for what, option, place in (("overlay", "an -o", self.overlay), ("map", "a --map", self.map)):
            path, times = Counter(map(place, self.pictures)).most_common(1)[0]
            if path and times > 1:
                remedy = f"Draw them one by one, each with {option} of its own."
                raise OutputError(f"Two pictures would have the {what} {str(path)!r}.\n{remedy}")

    def _folders(self, picture: Path) -> Iterator[tuple[Path, str]]:
        """The folders that are made for a picture, each with its option."""
        if self.output and self.several:
            yield self.output, "-o"
        values = self.map(picture)
        if values and "{name}" in str(self.maps):
            yield values.parent, "--map"

    def _written(self) -> Iterator[tuple[str, Path]]:
        for picture in self.pictures:
            for option, path in (("-o", self.overlay(picture)), ("--map", self.map(picture))):
                if path:
                    yield option, path

    @cached_property
    def _names(self) -> dict[Path, str]:
        """Each picture's name without its ending, or its whole path where another has that name."""
        times = Counter(picture.stem for picture in self.pictures)
        return {picture: picture.stem if times[picture.stem] == 1 else _joined(picture) for picture in self.pictures}


def targets(
    given: Sequence[str],
    output: Path | None,
    detections: Path | None,
    maps: Path | None,
    reads: Sequence[str | Path | None] = (),
    overwrite: bool = False,
) -> Targets:
    """What is read and written, checked; what globs match besides pictures is printed.

    Args:
        given: Paths of pictures, folders or globs.
        output: The overlay, or the folder of overlays.
        detections: The file of detections.
        maps: The file of the map.
        reads: Files that are read besides the pictures.
        overwrite: Whether what is there already is replaced.

    Raises:
        ImageError: There are no such pictures.
        OutputError: Something cannot be written.
    """
    from fullyconv.images import find_pictures

    if not (output or detections or maps):
        msg = "nothing would be written: give -o, --detections or --map."
        raise typer.BadParameter(msg)
    notes: list[str] = []
    pictures = find_pictures(given, notes=notes)
    several = pictures != [Path(given[0])] or (output is not None and output.is_dir())
    found = Targets(pictures, several, output, detections, maps, reads, overwrite)
    found.check()
    for note in notes:
        say(note)
    return found


def _joined(picture: Path) -> str:
    """A picture's path as the name of a file."""
    return "_".join("up" if part == ".." else part for part in picture.parts if part not in ("/", "."))


def _check_map(given: Path, path: Path) -> None:
    """Refuse a map, or one for each picture where `{name}` is given, that cannot be written."""
    from fullyconv.map_files import check_map_name

    check_ending(path, *_MAPS)
    if "{name}" not in str(given):
        check_place(path)
    check_map_name(path)
