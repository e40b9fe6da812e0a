"""Files of pictures: the formats that are read and no others, as little of a file as is needed, and little memory."""

from __future__ import annotations

import os
import re
import socket
import struct
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from fullyconv import patches, picture_files
from fullyconv.drawing import photograph
from fullyconv.errors import ImageError
from fullyconv.images import find_pictures, read_image
from fullyconv.preprocessing import preprocess

pytestmark = pytest.mark.once  # nothing here differs from backend to backend

CAN = "PNG, JPEG, TIFF, WebP, BMP, GIF, AVIF, JPEG 2000 and PPM can"
SEVERAL = "has several frames or pages: only the first was used."


def noted(source: object, channels: int | None = 3) -> tuple[np.ndarray, list[str]]:
    notes: list[str] = []
    return read_image(source, channels, notes=notes), notes


def refusal(path: Path) -> str:
    with pytest.raises(ImageError, match=r"\.") as caught:
        read_image(path, notes=[])
    return str(caught.value)


@pytest.fixture
def photo() -> Image.Image:
    ramp = np.linspace(0, 255, 40 * 60).reshape(40, 60)
    return Image.fromarray(np.stack([ramp, ramp[::-1], ramp[:, ::-1]], -1).astype(np.uint8))


# ------------------------------------------------------------------------------------------------------- formats


@pytest.mark.parametrize("suffix", picture_files.SUFFIXES)
def test_each_format_is_read_by_each_of_its_endings(tmp_path, photo, suffix):
    kind = next(kind for kind, each in picture_files.FORMATS.items() if suffix in each.suffixes)
    photo.save(tmp_path / f"a{suffix}", kind, **({"quality": 95} if kind in ("JPEG", "WEBP", "AVIF") else {}))
    assert find_pictures([tmp_path]) == [tmp_path / f"a{suffix}"]
    pixels, notes = noted(tmp_path / f"a{suffix}")
    assert notes == []
    assert np.abs(pixels.astype(int) - np.asarray(photo)).mean() < 6


@pytest.mark.parametrize(("mode", "suffix"), [("L", ".pgm"), ("1", ".pbm"), ("RGB", ".pnm")])
def test_portable_maps(tmp_path, photo, mode, suffix):
    photo.convert(mode).save(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(noted(tmp_path / f"a{suffix}")[0], np.asarray(photo.convert(mode).convert("RGB")))


def test_the_content_decides_and_not_the_name(tmp_path, photo):
    photo.save(tmp_path / "a.jpg", "PNG")
    np.testing.assert_array_equal(noted(tmp_path / "a.jpg")[0], np.asarray(photo))


def test_a_phone_s_jpeg_with_a_second_picture_in_it(tmp_path, photo):
    photo.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[photo.rotate(180)], quality=95)
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.format == "MPO"
    pixels, notes = noted(tmp_path / "a.jpg")
    assert notes == [f"'a.jpg' {SEVERAL}"]
    assert np.abs(pixels.astype(int) - np.asarray(photo)).mean() < 6


@pytest.mark.parametrize("kind", ["EPS", "PDF", "ICNS", "ICO", "PCX", "TGA", "SGI", "DDS", "SPIDER", "MSP", "DIB"])
def test_other_formats_of_pillow_are_refused(tmp_path, photo, kind):
    path = tmp_path / "a.png"
    whole = photo.resize((128, 128)).convert({"MSP": "1", "SPIDER": "F"}.get(kind, "RGB"))
    whole.save(tmp_path / "a.other", kind)  # SPIDER claims the ending that it is saved under
    (tmp_path / "a.other").rename(path)
    assert refusal(path) == f"'{path}' is not a picture that can be read here ({CAN})."


@pytest.mark.parametrize(
    "data",
    [
        b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, 4, 4, 8, 3) + bytes(64),
        b"SIMPLE  =                    T".ljust(80) + b"BITPIX  =                    8".ljust(80) + b"END".ljust(2720),
        b"\xd7\xcd\xc6\x9a" + bytes(40),
        b"GRIB" + bytes(40),
        b"SIMPLE",
        b"%PDF-1.7\n",
        b"\0" * 100,
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    ],
    ids=["PSD", "FITS", "WMF", "GRIB", "half of FITS", "PDF", "zeros", "SVG"],
)
def test_foreign_files_are_refused(tmp_path, data):
    (tmp_path / "a.tif").write_bytes(data)
    assert refusal(tmp_path / "a.tif") == f"'{tmp_path}/a.tif' is not a picture that can be read here ({CAN})."


@pytest.mark.once
def test_no_other_program_is_started_for_a_picture(tmp_path):
    (tmp_path / "gs").write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo 10.0 && exit 0\ntouch {tmp_path}/ran\n')
    (tmp_path / "gs").chmod(0o755)
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\nshowpage\n%%EOF\n"
    (tmp_path / "plain.png").write_bytes(postscript)
    preview = struct.pack("<4sIIIIIIH", b"\xc5\xd0\xd3\xc6", 30, len(postscript), 0, 0, 0, 0, 0xFFFF)
    (tmp_path / "preview.png").write_bytes(preview + postscript)
    code = "import sys; from fullyconv.images import read_image\nfor path in sys.argv[1:]:\n"
    code += "    try: read_image(path)\n    except ValueError as error: print(error)"
    paths = [str(tmp_path / name) for name in ("plain.png", "preview.png")]
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        [sys.executable, "-c", code, *paths], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [f"'{path}' is not a picture that can be read here ({CAN})." for path in paths]
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(("kind", "name"), [("AVIF", "AVIF"), ("WEBP", "WebP"), ("JPEG2000", "JPEG 2000")])
def test_a_format_that_this_pillow_lacks(tmp_path, photo, monkeypatch, kind, name):
    path = tmp_path / "a.png"
    photo.save(path, kind)
    has, needed = features.check, picture_files.FORMATS[kind].needs
    picture_files.readable.cache_clear()
    try:
        with monkeypatch.context() as patched:
            patched.setattr(features, "check", lambda feature: feature != needed and has(feature))
            said = refusal(path)
    finally:
        picture_files.readable.cache_clear()
    others = CAN.replace(f"{name}, ", "").replace(
        ", JPEG 2000 and", " and" if kind == "JPEG2000" else ", JPEG 2000 and"
    )
    assert said == f"'{path}' is {name}, which the Pillow installed here does not read ({others}); save it as PNG."


# --------------------------------------------------------------------------------------------- only files are opened


def test_only_files_are_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("a.png")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("b.png")
    said = "'{}' is {}, not a picture; give a file."
    assert refusal(Path("a.png")) == said.format("a.png", "a named pipe")
    assert refusal(Path("b.png")) == said.format("b.png", "a socket")
    assert refusal(Path("/dev/zero")) == said.format("/dev/zero", "a device")
    with pytest.raises(ImageError, match=r"holds no picture \(\.png"):
        find_pictures(["."])


def test_a_folder_that_cannot_be_read(tmp_path, monkeypatch):
    def refuse(folder: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(
        ImageError, match=re.escape(f"The folder '{tmp_path}' cannot be read: Permission denied.") + "$"
    ):
        find_pictures([tmp_path])


def test_a_name_that_is_too_long():
    with pytest.raises(ImageError, match=r"^There is no picture 'a{300}'; check the path\.$"):
        find_pictures(["a" * 300])


# ---------------------------------------------------------------------------------------------- frames are not counted


def tiff(path: Path, pages: int, after: int | None = 0, value: int = 7) -> Path:
    """A TIFF of pages of 8 x 8 grey pixels, which share their pixels; behind the last comes what is said."""
    tags = ((256, 8), (257, 8), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, 8), (279, 64))
    size, first = 2 + 12 * len(tags) + 4, 8 + 64
    offsets = [first + size * (k + 1) for k in range(pages - 1)] + [first if after is None else after]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    data = b"".join(struct.pack("<H", len(tags)) + entries + struct.pack("<I", offset) for offset in offsets)
    path.write_bytes(b"II*\0" + struct.pack("<I", first) + bytes([value]) * 64 + data)
    return path


@pytest.mark.parametrize(
    ("pages", "after"), [(3000, 0), (2, None), (2, 1 << 30), (1, 1 << 30)], ids=["many", "loop", "cut", "astray"]
)
def test_the_pages_of_a_tiff_are_not_counted(tmp_path, monkeypatch, pages, after):
    path = tiff(tmp_path / "a.tif", pages, after)
    with Image.open(path) as image:
        kind, seek = type(image), type(image)._seek
    went: list[int] = []
    monkeypatch.setattr(kind, "_seek", lambda self, frame: (went.append(frame), seek(self, frame))[1])
    pixels, notes = noted(path)
    assert (pixels.shape, set(pixels.ravel())) == ((8, 8, 3), {7})
    assert notes[0] == f"'a.tif' {SEVERAL}"
    assert len(went) < 5


def test_a_tiff_of_one_page(tmp_path):
    assert noted(tiff(tmp_path / "a.tif", 1), 1)[1] == []


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp"])
def test_the_frames_of_an_animation_are_not_counted(tmp_path, monkeypatch, suffix):
    frames = [Image.new("RGB", (16, 16), (k, 255 - k, k // 2)) for k in range(60)]
    frames[0].save(tmp_path / f"a{suffix}", save_all=True, append_images=frames[1:], lossless=True)
    with Image.open(tmp_path / f"a{suffix}") as image:
        kind, seek = type(image), type(image)._seek
    went: list[int] = []
    monkeypatch.setattr(kind, "_seek", lambda self, *frame: (went.append(frame[0]), seek(self, *frame))[1])
    pixels, notes = noted(tmp_path / f"a{suffix}")
    assert notes == [f"'a{suffix}' {SEVERAL}"]
    assert pixels[0, 0].tolist() == [0, 255, 0]
    assert len(went) < 5


def test_a_second_frame_that_is_broken(tmp_path):
    first, second = (Image.effect_noise((64, 64), sigma).convert("P") for sigma in (30, 90))
    first.save(tmp_path / "whole.gif", save_all=True, append_images=[second])
    first.save(tmp_path / "one.gif")
    (tmp_path / "cut.gif").write_bytes(
        (tmp_path / "whole.gif").read_bytes()[: (tmp_path / "one.gif").stat().st_size + 90]
    )
    pixels, notes = noted(tmp_path / "cut.gif")
    np.testing.assert_array_equal(pixels, noted(tmp_path / "one.gif")[0])
    assert notes[0] == f"'cut.gif' {SEVERAL}"


# ------------------------------------------------------------------------------------------------------- memory


def many(mode: str) -> Image.Image:
    """A picture of 4 million pixels."""
    values = np.random.default_rng(0).integers(0, 256, (500, 500, 4), np.uint8)
    small = Image.fromarray(values, "RGBA")
    if mode == "I;16":
        return Image.fromarray(np.tile(values.view(np.uint16)[..., 0], (4, 4)))
    return Image.fromarray(np.tile(np.asarray(small.convert(mode)), (4, 4, 1)))


def peak(work: Callable[[], np.ndarray]) -> tuple[np.ndarray, int]:
    """What is returned, and how many bytes Python and NumPy had at once on the way."""
    tracemalloc.start()
    try:
        result = work()
        return result, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("mode", "channels"), [("RGBA", 3), ("RGBA", 1), ("LA", 3), ("RGB", 1), ("RGB", 3), ("I;16", 3)]
)
def test_reading_takes_little_more_than_the_result(mode, channels):
    image = many(mode)
    pixels, bytes_ = peak(lambda: noted(image, channels)[0])
    assert pixels.shape == (2000, 2000, channels)
    assert bytes_ < pixels.nbytes + 25e6
    array = np.asarray(image)
    again, bytes_ = peak(lambda: noted(array, channels)[0])
    np.testing.assert_array_equal(again, pixels)
    assert bytes_ < pixels.nbytes + 25e6


@pytest.mark.parametrize("shape", [(1, 4_000_000, 4), (4_000_000, 1, 4)])
def test_long_pictures_take_no_more(shape):
    array = np.zeros(shape, np.uint8)
    assert peak(lambda: noted(array)[0])[1] < 12e6 + 25e6


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_photograph_is_made_small_before_it_becomes_float(dtype, channels):
    array = np.tile(np.arange(256, dtype=dtype), 4 * 4000 * channels).reshape(4000, -1, channels)
    drawn, bytes_ = peak(lambda: photograph(array, 100, 400))
    assert drawn.shape == (400, 100, 3)
    assert bytes_ < array.size + 25e6 if dtype is np.float32 else bytes_ < array.nbytes + 5e6


def test_preparing_takes_one_copy():
    array = np.zeros((1, 2000, 2000, 3), np.uint8)
    result, bytes_ = peak(lambda: preprocess(array, "caffe"))
    assert bytes_ < result.nbytes + 5e6


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "RGB", "RGBA", "P", "PA", "CMYK", "YCbCr", "HSV", "I;16", "La", "RGBa"]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_patches_give_what_the_whole_gives(photo, monkeypatch, mode, channels):
    shape = {"I;16": lambda: Image.fromarray(np.asarray(photo.convert("L"), np.uint16) * 257)}
    via = {"La": "LA", "RGBa": "RGBA", "PA": "P"}.get(mode)
    image = shape[mode]() if mode in shape else (photo.convert(via) if via else photo).convert(mode)
    whole, notes = noted(image, channels)
    monkeypatch.setattr(patches, "PIXELS", 7)
    np.testing.assert_array_equal(noted(image, channels)[0], whole)
    assert noted(image, channels)[1] == notes


@pytest.mark.parametrize("orientation", range(2, 9))
def test_every_orientation_is_turned_upright(tmp_path, photo, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo.save(tmp_path / "a.png", exif=exif)
    array = np.asarray(photo)
    upright = {
        2: array[:, ::-1],
        3: array[::-1, ::-1],
        4: array[::-1],
        5: array.swapaxes(0, 1),
        6: np.rot90(array, -1),
        7: np.rot90(array.swapaxes(0, 1), 2),
        8: np.rot90(array, 1),
    }[orientation]
    np.testing.assert_array_equal(noted(tmp_path / "a.png")[0], upright)
    with Image.open(tmp_path / "a.png") as image:
        np.testing.assert_array_equal(noted(image)[0], upright)
        assert image.size == photo.size, "the caller's picture was turned"


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"Exif\0\0nonsense", b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01"]
)
def test_metadata_that_is_broken_is_no_reason_to_refuse(tmp_path, photo, exif):
    photo.save(tmp_path / "a.png", exif=exif)
    pixels, notes = noted(tmp_path / "a.png")
    np.testing.assert_array_equal(pixels, np.asarray(photo))
    assert notes == []


def test_16_bits_of_the_other_byte_order():
    native = np.array([[0, 257, 300, 65535]], np.uint16)
    np.testing.assert_array_equal(noted(native.astype(">u2"), 1)[0], noted(native, 1)[0])
