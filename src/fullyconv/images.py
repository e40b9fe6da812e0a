"""Pictures in: small files, arrays and Pillow images become `(height, width, channels)` arrays.

    read_image(source, channels)       whatever the picture is, the pixels a network with `channels` channels takes
    find_pictures(given)               the files that paths, folders and globs stand for

Values stay on the scale 0..255, which `fullyconv.preprocess` expects. Nothing is changed in silence: what had to be
done to a picture (alpha laid on white, grey repeated to three channels, 16 bits brought to 8) is a *note*, one plain
sentence, appended to the list the caller gives, or issued as an `ImageWarning` when there is none.
"""

from __future__ import annotations

import glob
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from fullyconv.errors import ImageError

Note = Callable[[str], None]
_ORIENTATION = 0x0112  # the EXIF tag
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, which Pillow's "L" uses too
_KINDS = {1: "grey", 2: "grey with alpha", 3: "colour", 4: "colour with alpha"}
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".gif")
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


def read_image(source: Any, channels: int | None = 3, *, notes: list[str] | None = None) -> np.ndarray:
    """The pixels of a picture, as a network with `channels` channels takes them.

    Files are turned upright (EXIF), the first frame of an animation is taken, alpha is laid on white, grey is
    repeated to three channels, colour becomes luminance for a grey network, and 16-bit values are divided by 257.
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

    pixels = _pixels(source, name, note)
    if pixels.size == 0:
        raise ImageError(f"{name} has no pixels: its shape is {pixels.shape}.")
    pixels = pixels if channels is None else _fit(pixels, channels, name, note)
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
    if not any(path.exists() for path in found):
        raise ImageError(f"There is no picture {str(found[0])!r}; check the path.")
    return found


def _expanded(given: str, notes: list[str]) -> Iterator[Path]:
    path = Path(given)
    if path.is_dir():
        inside = _pictures(path.iterdir())
    elif glob.has_magic(given) and not path.exists():
        matches = [Path(match) for match in glob.glob(given, recursive=True)]  # noqa: PTH207  it may begin anywhere
        inside = _pictures(matches)
        others = sum(match.is_file() for match in matches) - len(inside)
        if others and inside:
            notes.append(f"{given!r}: {others} of {len(inside) + others} files left out, no pictures by their endings.")
    else:
        inside = [path]
    if not inside:
        what = "The folder" if path.is_dir() else "The pattern"
        raise ImageError(f"{what} {given!r} holds no picture ({', '.join(SUFFIXES)}); check the path.")
    yield from inside


def _pictures(paths: Iterable[Path]) -> list[Path]:
    """Those that are pictures by their endings, in order."""
    return sorted(path for path in paths if path.suffix.lower() in SUFFIXES and path.is_file())


def _pixels(source: Any, name: str, note: Note) -> np.ndarray:
    if isinstance(source, str | os.PathLike):
        return _read_file(Path(source), name, note)
    if isinstance(source, Image.Image):
        return _from_pillow(source, name, note)
    return _from_array(source, name, note)


def _name(source: Any) -> str:
    if isinstance(source, str | os.PathLike):
        return repr(Path(source).name or str(source))
    return "The picture" if isinstance(source, Image.Image) else "The array"


# ------------------------------------------------------------------------------------------------------- files


def _read_file(path: Path, name: str, note: Note) -> np.ndarray:
    where = repr(str(path))
    _check_path(path, where)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's remarks on odd metadata, and on size, are not ours
        try:
            image = Image.open(path)
        except UnidentifiedImageError:
            raise ImageError(
                f"{where} is not a picture that can be read here (PNG, JPEG, TIFF, WebP, BMP and GIF can)."
            ) from None
        except Image.DecompressionBombError:
            raise ImageError(f"{where} has too many pixels to be read whole; cut it into smaller pictures.") from None
        except Exception as error:  # noqa: BLE001
            raise _broken(where, error) from None
        with image:
            return _from_pillow(image, name, note, where)


def _check_path(path: Path, where: str) -> None:
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except FileNotFoundError:
        raise ImageError(f"There is no picture {where}; check the path.") from None
    except IsADirectoryError:
        raise _folder(where) from None
    except (OSError, ValueError) as error:
        if os.path.isdir(path):  # noqa: PTH112  (Path.is_dir can raise) on Windows a folder is "permission denied"
            raise _folder(where) from None
        raise ImageError(f"{where} cannot be read: {getattr(error, 'strerror', None) or error}.") from None
    if empty:
        raise ImageError(f"{where} is empty (0 bytes), so it holds no picture.")


def _folder(where: str) -> ImageError:
    return ImageError(f"{where} is a folder, not a picture; give one of the pictures in it.")


def _broken(where: str, error: Exception) -> ImageError:
    reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return ImageError(f"{where} is truncated or damaged, and is not used in part ({reason}).")


# ------------------------------------------------------------------------------------------------------ Pillow


def _from_pillow(image: Image.Image, name: str, note: Note, where: str | None = None) -> np.ndarray:
    try:
        # Pillow's decoders raise whatever they stumble over: OSError, SyntaxError, struct.error, ...
        frames, stored = getattr(image, "n_frames", 1), _stored(image)
        image.load()
    except Exception as error:  # noqa: BLE001
        raise _broken(where or name, error) from None
    if frames > 1:
        note(f"has {frames} frames or pages: only the first was used")
    if ";16" in stored and image.mode in _DIRECT:
        note("has 16 bits a channel: only the upper 8 were used")
    return _channels_of(_upright(image, note), name, note)


def _upright(image: Image.Image, note: Note) -> Image.Image:
    try:
        if image.getexif().get(_ORIENTATION, 1) in (0, 1):
            return image
        upright = ImageOps.exif_transpose(image)
    except Exception:  # noqa: BLE001  metadata too broken to read is no reason to refuse good pixels
        return image
    note("was turned upright, as its EXIF orientation says")
    return upright


def _stored(image: Image.Image) -> str:
    """The layout of the pixels in the file, such as "RGB;16B", of which Pillow keeps 8 bits."""
    tile = (getattr(image, "tile", None) or [(None,)])[0]
    return str(tile[-1])


def _channels_of(image: Image.Image, name: str, note: Note) -> np.ndarray:
    mode = image.mode
    if mode.startswith("I;16"):
        return _from_array(np.asarray(image.convert("I"), np.int32).astype(np.uint16), name, note)
    if mode == "P":
        mode, remark = ("RGBA" if image.has_transparency_data else "RGB"), None
    elif mode in _CONVERTED:
        mode, remark = _CONVERTED[mode]
    elif mode in _DIRECT:
        remark = None
        if mode in ("L", "RGB") and image.has_transparency_data:
            mode += "A"
    else:
        raise ImageError(
            f"{name} holds values of Pillow's mode {mode!r}, whose scale is not known; save it with 8 bits a channel, "
            f"or pass an array with values 0..255."
        )
    if remark:
        note("was converted: " + remark)
    if mode == "LA" and image.mode == "L":
        image = image.convert("RGBA")
        return np.array(image)[..., 2:]
    pixels = np.array(image if image.mode == mode else image.convert(mode))
    return pixels[..., None] if pixels.ndim == 2 else pixels


# ------------------------------------------------------------------------------------------------------ arrays


def _from_array(source: Any, name: str, note: Note) -> np.ndarray:
    try:
        array = np.asarray(source)
    except Exception as error:  # noqa: BLE001  an array-like may raise anything
        raise ImageError(f"The {type(source).__name__} given is no picture and no array: {error}") from None
    if array.ndim == 0:
        raise ImageError(
            f"{source!r:.80} is no picture; give a path, a Pillow image, or an array (height, width, channels)."
        )
    if array.ndim not in (2, 3):
        raise ImageError(
            f"{name} has the shape {array.shape}; one picture of shape (height, width) or (height, width, channels) "
            f"is needed."
        )
    array = _known_scale(array, name, note)
    return array[..., None] if array.ndim == 2 else array


def _known_scale(array: np.ndarray, name: str, note: Note) -> np.ndarray:
    """Values 0..255: bytes as bytes, everything else as float32."""
    if array.dtype == np.uint8:
        return array
    if array.dtype == bool:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype == np.uint16:
        note("has 16 bits a channel: its values were divided by 257, from 0..65535 to 0..255")
        return array.astype(np.float32) / np.float32(257)
    if array.dtype.kind not in "iuf":
        raise ImageError(f"{name} holds values of type {array.dtype}; numbers from 0 to 255 are needed.")
    return _checked_range(array, name, note)


def _checked_range(array: np.ndarray, name: str, note: Note) -> np.ndarray:
    if array.size and not np.isfinite(array).all():
        raise ImageError(f"{name} holds values that are not finite (NaN or infinity); replace them first.")
    low, high = (array.min(), array.max()) if array.size else (0, 0)
    if low < 0 or high > 255:
        raise ImageError(
            f"{name} holds values from {low:g} to {high:g}; numbers from 0 to 255 are needed. Give values that are "
            f"already prepared for the model straight to fcn.predict."
        )
    if array.dtype.kind in "iu":
        return array.astype(np.uint8)
    if 0 < high <= 1:
        note("holds only values from 0 to 1: they were taken as nearly black, on the scale 0 to 255")
    return array.astype(np.float32)


# ------------------------------------------------------------------------------------------ to the model's channels


def _fit(pixels: np.ndarray, channels: int, name: str, note: Note) -> np.ndarray:
    have = pixels.shape[-1]
    if have == channels:
        return pixels
    if channels not in (1, 3) or have not in _KINDS:
        raise _channel_mismatch(pixels.shape, channels, name)
    if have in (2, 4):
        note(f"has {have} channels, {_KINDS[have]}: it was laid on white")
        return _fit(_on_white(pixels), channels, name, note)
    if channels == 3:
        note("has 1 channel, grey: it was repeated to the 3 channels of the model")
        return np.repeat(pixels, 3, axis=-1)
    note("has 3 channels, colour: its luminance was taken for the 1 channel of the model")
    return _luminance(pixels)


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
