"""Pictures: every kind that can come in, what is noted about it, and what is said when it cannot be taken."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fullyconv.errors import ImageError
from fullyconv.images import ImageWarning, read_image
from fullyconv.preprocessing import check_mode, describe, preprocess

pytestmark = pytest.mark.once  # nothing here differs from backend to backend

READ = "PNG, JPEG, TIFF, WebP, BMP, GIF, AVIF, JPEG 2000 and PPM"
GREY = "it was repeated to the 3 channels of the model."


@pytest.fixture
def colour() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)


def refusal(source, channels=3) -> str:
    with pytest.raises(ImageError, match=r"\.") as caught:
        read_image(source, channels, notes=[])
    return str(caught.value)


def noted(source, channels=3) -> tuple[np.ndarray, list[str]]:
    notes: list[str] = []
    return read_image(source, channels, notes=notes), notes


# --------------------------------------------------------------------------------------------------- taken as is


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp", "webp"])
def test_lossless_files_give_their_pixels(tmp_path, colour, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(colour).save(path, **({"lossless": True} if suffix == "webp" else {}))
    pixels, notes = noted(path)
    np.testing.assert_array_equal(pixels, colour)
    assert notes == []
    assert pixels.flags.writeable


def test_jpeg_path_as_text(tmp_path, colour):
    path = tmp_path / "a.jpg"
    Image.fromarray(colour).save(path)
    pixels, notes = noted(str(path))
    assert (pixels.shape, pixels.dtype, notes) == ((20, 30, 3), np.uint8, [])


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
def test_array_with_the_channels_of_the_model(channels):
    array = np.zeros((5, 6, channels), np.uint8)
    pixels, notes = noted(array, channels)
    assert (pixels.shape, notes) == ((5, 6, channels), [])


def test_own_channels_are_kept_when_none_are_asked_for(colour):
    assert read_image(colour[..., :2], None).shape == (20, 30, 2)


def test_whole_numbers_and_floats_from_0_to_255():
    assert read_image([[0, 255], [7, 8]], 1).dtype == np.uint8
    assert read_image(np.array([[0.5, 254.5]]), 1).dtype == np.float32
    assert read_image(np.array([[True, False]]), 1).ravel().tolist() == [255, 0]


# -------------------------------------------------------------------------------------------------- taken, noted


def test_grey_for_a_colour_model(colour):
    pixels, notes = noted(Image.fromarray(colour[..., 0]))
    np.testing.assert_array_equal(pixels, np.repeat(colour[..., :1], 3, -1))
    assert notes == [f"The picture has 1 channel, grey: {GREY}"]


def test_grey_with_alpha(tmp_path):
    path = tmp_path / "la.png"
    Image.fromarray(np.array([[[0, 0], [100, 255]]], np.uint8), "LA").save(path)
    pixels, notes = noted(path)
    assert pixels.tolist() == [[[255] * 3, [100] * 3]]
    assert notes == [
        "'la.png' has 2 channels, grey with alpha: it was laid on white.",
        f"'la.png' has 1 channel, grey: {GREY}",
    ]


def test_colour_with_alpha():
    pixels, notes = noted(Image.fromarray(np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 0, 0, 51]]], np.uint8)))
    assert pixels.tolist() == [[[10, 20, 30], [255, 255, 255], [204, 204, 204]]]
    assert notes == ["The picture has 4 channels, colour with alpha: it was laid on white."]


def test_colour_for_a_grey_model(colour):
    pixels, notes = noted(colour, 1)
    expected = np.asarray(Image.fromarray(colour).convert("L"), int)
    assert np.abs(pixels[..., 0].astype(int) - expected).max() <= 1
    assert notes == ["The array has 3 channels, colour: its luminance was taken for the 1 channel of the model."]


def test_palette_with_and_without_transparency(tmp_path, colour):
    image = Image.fromarray(colour).quantize(8)
    image.save(tmp_path / "p.png")
    pixels, notes = noted(tmp_path / "p.png")
    np.testing.assert_array_equal(pixels, np.asarray(image.convert("RGB")))
    assert notes == []
    image.save(tmp_path / "t.png", transparency=0)
    assert noted(tmp_path / "t.png")[1] == ["'t.png' has 4 channels, colour with alpha: it was laid on white."]


def test_transparent_grey_value(tmp_path):
    Image.fromarray(np.array([[0, 9]], np.uint8)).save(tmp_path / "g.png", transparency=0)
    pixels, notes = noted(tmp_path / "g.png", 1)
    assert pixels.ravel().tolist() == [255, 9]
    assert notes == ["'g.png' has 2 channels, grey with alpha: it was laid on white."]


def test_cmyk_and_one_bit(tmp_path, colour):
    Image.fromarray(colour).convert("CMYK").save(tmp_path / "c.tif")
    pixels, notes = noted(tmp_path / "c.tif")
    np.testing.assert_array_equal(pixels, colour)
    assert notes == [
        "'c.tif' was converted: it is in CMYK, for print: its colours were turned into RGB without a colour profile."
    ]
    assert noted(Image.new("1", (3, 2), 1), 1)[0].max() == 255


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_grey_is_scaled(tmp_path, suffix):
    path = tmp_path / f"deep.{suffix}"
    Image.fromarray(np.array([[0, 257, 300, 65535]], np.uint16)).save(path)
    pixels, notes = noted(path, 1)
    np.testing.assert_allclose(pixels.ravel(), [0, 1, 300 / 257, 255], rtol=1e-6)
    assert notes == [f"'deep.{suffix}' has 16 bits a channel: its values were divided by 257, from 0..65535 to 0..255."]


def test_16_bit_colour_keeps_the_upper_byte(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "deep.tif", np.full((4, 5, 3), 0x1234, np.uint16), photometric="rgb")
    pixels, notes = noted(tmp_path / "deep.tif")
    assert set(pixels.ravel()) == {0x12}
    assert notes == ["'deep.tif' has 16 bits a channel: only the upper 8 were used."]


def test_animation_gives_its_first_frame(tmp_path):
    first, second = (Image.new("RGB", (4, 3), c) for c in ("red", "blue"))
    first.save(tmp_path / "a.gif", save_all=True, append_images=[second])
    pixels, notes = noted(tmp_path / "a.gif")
    assert pixels[0, 0].tolist() == [255, 0, 0]
    assert notes == ["'a.gif' has several frames or pages: only the first was used."]
    with Image.open(tmp_path / "a.gif") as image:
        image.seek(1)
        pixels, notes = noted(image)
    assert pixels[0, 0].tolist() == [0, 0, 255]
    assert notes == ["The picture has several frames or pages: only number 2 was used."]


def test_exif_orientation_is_applied(tmp_path, colour):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(colour).save(tmp_path / "turned.png", exif=exif)
    pixels, notes = noted(tmp_path / "turned.png")
    np.testing.assert_array_equal(pixels, np.rot90(colour, -1))
    assert notes == ["'turned.png' was turned upright, as its EXIF orientation says."]


def test_values_from_0_to_1_are_noted():
    assert noted(np.full((2, 2), 0.5), 1)[1] == [
        "The array holds only values from 0 to 1: they were taken as nearly black, on the scale 0 to 255."
    ]


def test_without_a_list_a_note_is_a_warning(colour):
    with pytest.warns(ImageWarning, match=re.escape(f"The array has 1 channel, grey: {GREY}")) as caught:
        read_image(colour[..., 0], 3)
    assert caught[0].filename == __file__


# ------------------------------------------------------------------------------------------------------- refused


def test_missing_folder_and_empty(tmp_path):
    assert refusal(tmp_path / "no.png") == f"There is no picture '{tmp_path}/no.png'; check the path."
    assert refusal(tmp_path) == f"'{tmp_path}' is a folder, not a picture; give one of the pictures in it."
    (tmp_path / "e.png").touch()
    assert refusal(tmp_path / "e.png") == f"'{tmp_path}/e.png' is empty (0 bytes), so it holds no picture."
    assert refusal("a" * 300) == f"'{'a' * 300}' cannot be read: File name too long."
    assert refusal("a\0b") == "'a\\x00b' cannot be read: embedded null byte."


def test_not_a_picture(tmp_path):
    (tmp_path / "a.png").write_text("no picture at all")
    assert refusal(tmp_path / "a.png") == f"'{tmp_path}/a.png' is not a picture that can be read here ({READ} can)."


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "gif", "bmp", "webp"])
def test_truncated_at_many_places(tmp_path, colour, suffix):
    whole = tmp_path / f"whole.{suffix}"
    Image.fromarray(colour).save(whole)
    data, cut = whole.read_bytes(), tmp_path / f"cut.{suffix}"
    for share in (0.1, 0.3, 0.5, 0.7, 0.9):
        cut.write_bytes(data[: int(len(data) * share)])
        message = refusal(cut)
        assert re.fullmatch(rf"'{re.escape(str(cut))}' is (truncated or damaged|not a picture).*\.", message)
        assert "\n" not in message


def test_truncated_whole_message(tmp_path, colour):
    path = tmp_path / "cut.jpg"
    Image.fromarray(colour).resize((300, 200)).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    assert re.fullmatch(
        rf"'{re.escape(str(path))}' is truncated or damaged, and is not used in part "
        r"\(image file is truncated \(\d+ bytes not processed\)\)\.",
        refusal(path),
    )


def test_too_many_pixels(tmp_path, monkeypatch, colour):
    Image.fromarray(colour).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert refusal(tmp_path / "a.png") == (
        f"'{tmp_path}/a.png' has more than 200 pixels, too many to be read whole; cut it into smaller pictures."
    )


def test_unknown_scale():
    tail = "whose scale is not known; save it with 8 bits a channel, or pass an array with values 0..255."
    assert refusal(Image.new("F", (2, 2))) == f"The picture holds values of Pillow's mode 'F', {tail}"
    assert refusal(Image.new("I", (2, 2))) == f"The picture holds values of Pillow's mode 'I', {tail}"


def test_channel_counts_that_do_not_fit(colour):
    assert refusal(np.zeros((4, 5, 7))) == (
        "The array has 7 channels, and the model takes 3; pass an array of shape (height, width, 3)."
    )
    assert refusal(colour, 5) == (
        "The array has 3 channels, and the model takes 5; pass an array of shape (height, width, 5)."
    )
    assert refusal(colour[..., 0], 2) == (
        "The array has 1 channel, and the model takes 2; pass an array of shape (height, width, 2)."
    )
    assert refusal(np.moveaxis(colour, -1, 0)) == (
        "The array has 30 channels, and the model takes 3; if its channels come first, pass np.moveaxis(array, 0, -1)."
    )


def test_arrays_that_are_no_picture():
    assert refusal(np.zeros((1, 4, 5, 3))) == (
        "The array has the shape (1, 4, 5, 3); one picture of shape (height, width) or (height, width, channels) "
        "is needed."
    )
    assert refusal(np.zeros((0, 4, 3))) == "The array has no pixels: its shape is (0, 4, 3)."
    assert refusal(np.array([["a"]])) == "The array holds values of type <U1; numbers from 0 to 255 are needed."
    assert refusal(np.array([[-1.0, 300]])) == (
        "The array holds values from -1 to 300; numbers from 0 to 255 are needed. Give values that are already "
        "prepared for the model straight to fcn.predict."
    )
    assert refusal(np.array([[np.nan]])) == (
        "The array holds values that are not finite (NaN or infinity); replace them first."
    )
    assert refusal([[1, 2], [3]]).startswith(
        "The list given is neither a picture nor an array: setting an array element"
    )


# ------------------------------------------------------------------------------------------------- preprocessing


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("tf", [-1, 0, 1]),
        ("unit", [0, 0.5, 1]),
        ("none", [0, 127.5, 255]),
        (None, [0, 127.5, 255]),
        ("torch", [-0.485 / 0.229, (0.5 - 0.456) / 0.224, (1 - 0.406) / 0.225]),
        ("caffe", [255 - 103.939, 127.5 - 116.779, -123.68]),
        ({"scale": 1 / 128, "offset": -127 / 128}, [-127 / 128, 0.5 / 128, 1]),
        ({"bgr": True}, [255, 127.5, 0]),
        ({"offset": [1, 2, 3]}, [1, 129.5, 258]),
        (lambda x: x + 1, [1, 128.5, 256]),
    ],
)
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_preprocessing(mode, expected, data_format):
    x = np.array([0, 127.5, 255]).reshape((1, 1, 1, 3) if data_format == "channels_last" else (1, 3, 1, 1))
    y = preprocess(x, mode, data_format)
    assert (y.dtype, y.shape) == (np.float32, x.shape)
    np.testing.assert_allclose(y.ravel(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", ["tf", "torch", "caffe"])
def test_preprocessing_is_that_of_keras(mode, colour):
    keras = pytest.importorskip("keras")
    expected = keras.applications.imagenet_utils.preprocess_input(colour.astype("float32"), mode=mode)
    np.testing.assert_allclose(preprocess(colour, mode), expected, rtol=1e-5, atol=1e-4)


def test_preprocessing_refused():
    with pytest.raises(ImageError, match=r"\.") as caught:
        check_mode("tensorflow")
    assert str(caught.value) == (
        "There is no preprocessing 'tensorflow'; use one of 'tf', 'torch', 'caffe', 'unit', 'none', a dict with "
        "'scale', 'offset' and 'bgr', or a function."
    )
    with pytest.raises(ImageError, match=re.escape("There is no preprocessing ['mean'];")):
        check_mode({"mean": 1})
    with pytest.raises(ImageError, match=r"\.") as caught:
        preprocess(np.zeros((4, 4, 1)), "torch")
    assert str(caught.value) == (
        "The preprocessing 'torch' is for 3 channels, and the picture has 1; use 'unit' or 'tf'."
    )
    with pytest.raises(ImageError, match=r"\.") as caught:
        preprocess(np.zeros((4, 4, 3)), {"scale": [1, 2]})
    assert str(caught.value) == (
        "The scale of the preprocessing is for 2 channels, and the picture has 3; give one number, or one for each "
        "channel."
    )


def test_preprocessing_described():
    assert describe(None) == describe("none") == "x as it is, 0 to 255 ('none')"
    assert describe("torch") == "(x / 255 - mean) / std of ImageNet ('torch')"
    assert describe({"scale": 0.5, "offset": -1}) == "x * 0.5 - 1"
    assert describe(refusal) == "the function refusal"


def test_path_objects_and_text_name_the_same_file():
    assert refusal("no/such.png") == refusal(Path("no/such.png"))
