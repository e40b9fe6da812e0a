"""Files of pictures: which are read, told by what is in them, and how they are opened.

    opened(path)     the one place where Pillow opens a file

Pillow reads dozens of formats, and hands some of them to other programs. Those below are read, and no others.
"""

from __future__ import annotations

import os
import re
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from PIL import Image, UnidentifiedImageError, features

from fullyconv.errors import ImageError
from fullyconv.files import check_regular


@dataclass(frozen=True)
class Format:
    """A format of pictures.

    Args:
        name: What it is called.
        suffixes: How files of it end.
        begins: What the first bytes of one look like.
        needs: What Pillow must have been built with, where that may be missing.
    """

    name: str
    suffixes: tuple[str, ...]
    begins: bytes = b"(?!)"
    needs: str | None = None


# By the names that Pillow has for them. JPEG's reader takes MPO too, which some phones write into .jpg.
FORMATS = {
    "PNG": Format("PNG", (".png",)),
    "JPEG": Format("JPEG", (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"), b"\xff\xd8\xff", "jpg"),
    "TIFF": Format("TIFF", (".tif", ".tiff")),
    "WEBP": Format("WebP", (".webp",), b"RIFF....WEBP", "webp"),
    "BMP": Format("BMP", (".bmp",)),
    "GIF": Format("GIF", (".gif",)),
    "AVIF": Format("AVIF", (".avif",), b"....ftypavi[fs]", "avif"),
    "JPEG2000": Format("JPEG 2000", (".jp2", ".j2k"), b"....jP  |\xff\x4f\xff\x51", "jpg_2000"),
    "PPM": Format("PPM", (".ppm", ".pgm", ".pbm", ".pnm")),
}
SUFFIXES = tuple(suffix for each in FORMATS.values() for suffix in each.suffixes)
_FIRST = 32  # bytes by which a format is told


@cache
def readable() -> tuple[str, ...]:
    """Those of `FORMATS` that this build of Pillow reads."""
    Image.init()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an old Pillow warns of what it has not heard of
        return tuple(
            name
            for name, each in FORMATS.items()
            if name in Image.OPEN and (not each.needs or features.check(each.needs))
        )


def opened(path: Path) -> Image.Image:
    """A picture, opened and not yet read; what its file is made of decides, and not how it is called.

    Raises:
        ImageError: It is no file, or not one of a picture that is read here.
    """
    where, first = repr(str(path)), _first_bytes(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's remarks on odd metadata, and on size, are not ours
        try:
            return Image.open(path, formats=readable())
        except UnidentifiedImageError:
            raise ImageError(_not_read(where, first)) from None
        except Image.DecompressionBombError:
            raise too_large(where) from None
        except Exception as error:  # noqa: BLE001
            raise broken(where, error) from None


def _first_bytes(path: Path) -> bytes:
    """What a file begins with."""
    where = repr(str(path))
    if os.path.isdir(path):  # noqa: PTH112  Path.is_dir can raise
        raise ImageError(f"{where} is a folder, not a picture; give one of the pictures in it.")
    check_regular(path, ImageError, "a picture")
    try:
        with path.open("rb") as file:
            first = file.read(_FIRST)
    except FileNotFoundError:
        raise ImageError(f"There is no picture {where}; check the path.") from None
    except (OSError, ValueError) as error:
        raise ImageError(f"{where} cannot be read: {getattr(error, 'strerror', None) or error}.") from None
    if not first:
        raise ImageError(f"{where} is empty (0 bytes), so it holds no picture.")
    return first


def _not_read(where: str, first: bytes) -> str:
    """Why a file is not read: it is not a picture, or one of a format that this build of Pillow leaves out."""
    *names, last = (FORMATS[name].name for name in readable())
    can = f"{', '.join(names)} and {last} can"
    for key in FORMATS.keys() - set(readable()):
        if re.match(FORMATS[key].begins, first, re.DOTALL):
            name = FORMATS[key].name
            return f"{where} is {name}, which the Pillow installed here does not read ({can}); save it as PNG."
    return f"{where} is not a picture that can be read here ({can})."


def too_large(where: str) -> ImageError:
    """The error for more pixels than Pillow reads."""
    limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
    return ImageError(
        f"{where} has more than {limit:,} pixels, too many to be read whole; cut it into smaller pictures."
    )


def broken(where: str, error: Exception) -> ImageError:
    """The error for a picture that Pillow stumbles over."""
    reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return ImageError(f"{where} is truncated or damaged, and is not used in part ({reason}).")
