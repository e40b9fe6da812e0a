"""Pictures in: small files, arrays and Pillow images become `(height, width, channels)` arrays.

    read_image(source, channels)       whatever the picture is, the pixels a network with `channels` channels takes
    find_pictures(given)               the files that paths, folders and globs stand for

Values stay on the scale 0..255, which `fullyconv.preprocess` expects. Nothing is changed in silence: what had to be
done to a picture (alpha laid on white, grey repeated to three channels, 16 bits brought to 8) is a *note*, one plain
sentence, appended to the list the caller gives, or issued as an `ImageWarning` when there is none.
"""

from __future__ import annotations

import contextlib
import glob
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fullyconv.errors import ImageError
from fullyconv.patches import filled
from fullyconv.picture_files import SUFFIXES, broken, opened, too_large

Note = Callable[[str], None]
_ORIENTATION = 0x0112  # the EXIF tag
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, which Pillow's "L" uses too
_KINDS = {1: "grey", 2: "grey with alpha", 3: "colour", 4: "colour with alpha"}
_DIRECT = {"L", "LA", "RGB", "RGBA"}
# Pillow mode -> the mode whose channels are the picture's, and what to say about it.
_CONVERTED = {
    "1": ("L", None),
    "La": ("LA", None),
    "RGBa": ("RGBA", None),
    "RGBX": ("RGB", None),
    "PA": ("RGBA", None),
    "YCbCr": ("RGB", None),
    "HSV": ("RGB", None),
    "CMYK": ("RGB", "it is in CMYK, for print: its colours were turned into RGB without a colour profile"),
}


class ImageWarning(UserWarning):
    """Says what was changed in a picture so that a network could take it."""


@dataclass(frozen=True)
class _Picture:
    """Pixels that are cut out a patch at a time: a second copy of the whole, in a larger type, would be ten times it.

    Args:
        shape: Height, width and channels.
        dtype: Type of the values.
        cut: Returns the patch at some rows and columns.
        array: All of them, where they are in an array already.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    cut: Callable[[slice, slice], np.ndarray]
    array: np.ndarray | None = None

    def then(
        self, change: Callable[[np.ndarray], np.ndarray], channels: int, dtype: type[np.generic] | None = None
    ) -> _Picture:
        """The picture with each patch changed."""
        return _Picture(
            (*self.shape[:2], channels),
            np.dtype(dtype or self.dtype),
            lambda rows, columns: change(self.cut(rows, columns)),
        )

    def pixels(self) -> np.ndarray:
        """All pixels."""
        return filled(self.shape, self.dtype, self.cut) if self.array is None else self.array


def read_image(source: Any, channels: int | None = 3, *, notes: list[str] | None = None) -> np.ndarray:
    """The pixels of a picture, as a network with `channels` channels takes them.

    Files are PNG, JPEG, TIFF, WebP, BMP, GIF, AVIF, JPEG 2000 or PPM, told by their content. They are turned upright
    (EXIF), the first frame of an animation is taken, alpha is laid on white, grey is repeated to three channels, colour
    becomes luminance for a grey network, and 16-bit values are divided by 257.
    Each of these is noted. Anything else that does not fit is refused.

    Args:
        source: a path, a Pillow image, or an array `(height, width)` or `(height, width, channels)` with values
            0..255.
        channels: how many channels the network takes; `None` keeps the picture's own.
        notes: a list to which what was changed is appended, one sentence each. Without it, each is an `ImageWarning`.

    Returns:
        An array `(height, width, channels)`: uint8, or float32 where the values are no whole bytes.

    Raises:
        ImageError: it cannot be read, or does not fit. The message is one sentence, with what to do.

    Example:
    >>> notes = []
    >>> read_image(np.zeros((4, 6), "uint8"), 3, notes=notes).shape
    (4, 6, 3)
    >>> notes
    ['The array has 1 channel, grey: it was repeated to the 3 channels of the model.']
    """
    name, found = _name(source), [] if notes is None else notes

    def note(text: str) -> None:
        found.append(f"{name} {text}.")

    with contextlib.ExitStack() as stack, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's remarks on odd metadata are not ours
        picture = _picture(source, name, note, stack)
        if 0 in picture.shape:
            raise ImageError(f"{name} has no pixels: its shape is {picture.shape}.")
        pixels = (picture if channels is None else _fit(picture, channels, name, note)).pixels()
    for sentence in found if notes is None else ():
        warnings.warn(sentence, ImageWarning, stacklevel=2)
    return pixels


def find_pictures(given: Sequence[str | os.PathLike[str]], *, notes: list[str] | None = None) -> list[Path]:
    """The files that paths, folders and globs stand for, each once.

    A folder stands for the pictures in it, by their endings, but not for those in folders inside it; `**` in a glob
    does. A glob stands for the pictures that it matches, by their endings too. A path that is neither stands for
    itself, whether it is there or not.

    Args:
        given: Paths, folders and globs.
        notes: A list to which is appended, in a sentence each, how many files a glob matches that are no pictures.

    Raises:
        ImageError: one of them stands for nothing, or none of the files is there.
    """
    said: list[str] = [] if notes is None else notes
    found = list(dict.fromkeys(path for each in given for path in _expanded(str(each), said)))
    if not any(os.path.exists(path) for path in found):  # noqa: PTH110  Path.exists can raise
        raise ImageError(f"There is no picture {str(found[0])!r}; check the path.")
    return found


def _expanded(given: str, notes: list[str]) -> Iterator[Path]:
    path = Path(given)
    folder, there = os.path.isdir(path), os.path.exists(path)  # noqa: PTH110, PTH112  those of Path can raise
    if folder:
        inside = _pictures(_inside(path))
    elif glob.has_magic(given) and not there:
        matches = [Path(match) for match in glob.glob(given, recursive=True)]  # noqa: PTH207  it may begin anywhere
        inside = _pictures(matches)
        others = sum(match.is_file() for match in matches) - len(inside)
        if others and inside:
            notes.append(f"{given!r}: {others} of {len(inside) + others} files left out, no pictures by their endings.")
    else:
        inside = [path]
    if not inside:
        what = "The folder" if folder else "The pattern"
        raise ImageError(f"{what} {given!r} holds no picture ({', '.join(SUFFIXES)}); check the path.")
    yield from inside


def _inside(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise ImageError(f"The folder {str(folder)!r} cannot be read: {error.strerror}.") from None


def _pictures(paths: Iterable[Path]) -> list[Path]:
    """Those that are pictures by their endings, in order."""
    return sorted(path for path in paths if path.suffix.lower() in SUFFIXES and path.is_file())


def _picture(source: Any, name: str, note: Note, stack: contextlib.ExitStack) -> _Picture:
    if isinstance(source, str | os.PathLike):
        image = stack.enter_context(opened(Path(source)))
        return _from_pillow(image, name, note, repr(str(Path(source))))
    if isinstance(source, Image.Image):
        return _from_pillow(source, name, note)
    return _from_array(source, name, note)


def _name(source: Any) -> str:
    if isinstance(source, str | os.PathLike):
        return repr(Path(source).name or str(source))
    return "The picture" if isinstance(source, Image.Image) else "The array"


# ------------------------------------------------------------------------------------------------------ Pillow


def _from_pillow(image: Image.Image, name: str, note: Note, file: str | None = None) -> _Picture:
    stored, several = _stored(image), _is_one_of_several(image)
    try:
        # Pillow's decoders raise whatever they stumble over: OSError, SyntaxError, struct.error, ...
        image.load()
    except Image.DecompressionBombError:
        raise too_large(file or name) from None
    except Exception as error:  # noqa: BLE001
        raise broken(file or name, error) from None
    if several:
        which = f"number {image.tell() + 1}" if image.tell() else "the first"
        note(f"has several frames or pages: only {which} was used")
    if ";16" in stored and image.mode in _DIRECT:
        note("has 16 bits a channel: only the upper 8 were used")
    return _channels_of(_upright(image, file is not None, note), name, note)


def _is_one_of_several(image: Image.Image) -> bool:
    """Whether there is a second frame or page. They are not counted: that takes minutes where there are thousands."""
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # noqa: BLE001  a second frame that is broken
        return True


def _upright(image: Image.Image, ours: bool, note: Note) -> Image.Image:
    """The picture as its EXIF orientation says; one that is `ours` is let go of, so that it is not there twice."""
    try:
        turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001  metadata too broken to read is no reason to refuse good pixels
        return image
    if turn is None:
        return image
    upright = image.transpose(turn)
    if ours:
        image.close()
    note("was turned upright, as its EXIF orientation says")
    return upright


def _stored(image: Image.Image) -> str:
    """The layout of the pixels in the file, such as "RGB;16B", of which Pillow keeps 8 bits."""
    tile = (getattr(image, "tile", None) or [(None,)])[0]
    return str(tile[-1])


def _channels_of(image: Image.Image, name: str, note: Note) -> _Picture:
    if image.mode.startswith("I;16"):
        return _known_scale(_cut_from(image, "I", 1, np.uint16), name, note)
    mode, remark = _mode_of(image, name)
    if remark:
        note("was converted: " + remark)
    if mode == "LA" and image.mode == "L":
        return _cut_from(image, "RGBA", 4).then(lambda patch: patch[..., 2:], 2)
    return _cut_from(image, mode, len(mode))


def _mode_of(image: Image.Image, name: str) -> tuple[str, str | None]:
    """The mode whose channels are the picture's, and what to say about it."""
    mode = image.mode
    if mode == "P":
        return ("RGBA" if image.has_transparency_data else "RGB"), None
    if mode in _CONVERTED:
        return _CONVERTED[mode]
    if mode in _DIRECT:
        return mode + "A" * (mode in ("L", "RGB") and image.has_transparency_data), None
    raise ImageError(
        f"{name} holds values of Pillow's mode {mode!r}, whose scale is not known; save it with 8 bits a channel, "
        f"or pass an array with values 0..255."
    )


def _cut_from(image: Image.Image, mode: str, channels: int, dtype: type[np.generic] = np.uint8) -> _Picture:
    """The pixels of a Pillow image in another mode."""

    def cut(rows: slice, columns: slice) -> np.ndarray:
        patch = image.crop((columns.start, rows.start, columns.stop, rows.stop))
        return np.asarray(patch if patch.mode == mode else patch.convert(mode)).reshape(*patch.size[::-1], channels)

    return _Picture((image.height, image.width, channels), np.dtype(dtype), cut)


# ------------------------------------------------------------------------------------------------------ arrays


def _from_array(source: Any, name: str, note: Note) -> _Picture:
    try:
        array = np.asarray(source)
    except Exception as error:  # noqa: BLE001  an array-like may raise anything
        raise ImageError(f"The {type(source).__name__} given is neither a picture nor an array: {error}") from None
    if array.ndim == 0:
        raise ImageError(
            f"{source!r:.80} is not a picture; give a path, a Pillow image, or an array (height, width, channels)."
        )
    if array.ndim not in (2, 3):
        raise ImageError(
            f"{name} has the shape {array.shape}; one picture of shape (height, width) or (height, width, channels) "
            f"is needed."
        )
    array = array[..., None] if array.ndim == 2 else array
    given = _Picture(array.shape, array.dtype, lambda rows, columns: array[rows, columns], array)
    if array.dtype.kind in "iuf" and array.dtype.type not in (np.uint8, np.uint16):
        return _checked_range(given, array, name, note)
    return _known_scale(given, name, note)


def _known_scale(picture: _Picture, name: str, note: Note) -> _Picture:
    """Values of a type whose scale is known as 0..255: bytes as bytes, 16 bits as float32."""
    channels, kind = picture.shape[-1], picture.dtype.type
    if kind is np.uint8:
        return picture
    if kind is np.bool_:
        return picture.then(lambda patch: patch * np.uint8(255), channels, np.uint8)
    if kind is np.uint16:
        note("has 16 bits a channel: its values were divided by 257, from 0..65535 to 0..255")
        return picture.then(lambda patch: patch.astype(np.float32) / np.float32(257), channels, np.float32)
    raise ImageError(f"{name} holds values of type {picture.dtype}; numbers from 0 to 255 are needed.")


def _checked_range(picture: _Picture, array: np.ndarray, name: str, note: Note) -> _Picture:
    low, high = (array.min(), array.max()) if array.size else (0, 0)
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ImageError(f"{name} holds values that are not finite (NaN or infinity); replace them first.")
    if low < 0 or high > 255:
        raise ImageError(
            f"{name} holds values from {low:g} to {high:g}; numbers from 0 to 255 are needed. Give values that are "
            f"already prepared for the model straight to fcn.predict."
        )
    kind = np.uint8 if array.dtype.kind in "iu" else np.float32
    if kind is np.float32 and 0 < high <= 1:
        note("holds only values from 0 to 1: they were taken as nearly black, on the scale 0 to 255")
    return picture.then(lambda patch: patch.astype(kind), array.shape[-1], kind)


# ------------------------------------------------------------------------------------------ to the model's channels


def _fit(picture: _Picture, channels: int, name: str, note: Note) -> _Picture:
    have = picture.shape[-1]
    if have == channels:
        return picture
    if channels not in (1, 3) or have not in _KINDS:
        raise _channel_mismatch(picture.shape, channels, name)
    if have in (2, 4):
        note(f"has {have} channels, {_KINDS[have]}: it was laid on white")
        return _fit(picture.then(_on_white, have - 1), channels, name, note)
    if channels == 3:
        note("has 1 channel, grey: it was repeated to the 3 channels of the model")
        return picture.then(lambda patch: np.repeat(patch, 3, axis=-1), 3)
    note("has 3 channels, colour: its luminance was taken for the 1 channel of the model")
    return picture.then(_luminance, 1)


def _channel_mismatch(shape: tuple[int, ...], channels: int, name: str) -> ImageError:
    text = f"{name} has {shape[-1]} channel{'s' * (shape[-1] != 1)}, and the model takes {channels}"
    if shape[0] == channels:
        return ImageError(f"{text}; if its channels come first, pass np.moveaxis(array, 0, -1).")
    return ImageError(f"{text}; pass an array of shape (height, width, {channels}).")


def _on_white(pixels: np.ndarray) -> np.ndarray:
    alpha = pixels[..., -1:].astype(np.float32) / 255
    return _like(pixels, pixels[..., :-1] * alpha + 255 * (1 - alpha))


def _luminance(pixels: np.ndarray) -> np.ndarray:
    return _like(pixels, (pixels.astype(np.float32) @ _LUMINANCE)[..., None])


def _like(pixels: np.ndarray, values: np.ndarray) -> np.ndarray:
    """`values` in the type of `pixels`, rounded where that is bytes."""
    return np.rint(values).clip(0, 255).astype(np.uint8) if pixels.dtype == np.uint8 else values.astype(np.float32)
