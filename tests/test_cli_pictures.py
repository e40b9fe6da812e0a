"""The commands heatmap and verify: several pictures, files of maps and detections, pixels, and what they refuse."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import keras
import numpy as np
import pytest
import zarr
from PIL import Image
from typer.testing import Result

import fullyconv
from fullyconv.cli.targets import Targets
from fullyconv.images import find_pictures
from test_cli import failure, run
from test_reading import colours


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with a network that names colours, and photos: red, green, grey, a broken and a small one."""
    monkeypatch.chdir(tmp_path)
    colours().save("classifier.keras")
    fcn = fullyconv.convert(colours())
    fcn.labels = ["red", "green", "blue"]
    fcn.preprocess = "none"
    fcn.save("fcn.keras")
    Path("photos").mkdir()
    pixels = np.full((20, 28, 3), 60, np.uint8)
    for i, name in enumerate(("a_red", "b_green")):
        coloured = pixels.copy()
        coloured[4:12, 8:16, i] = 255
        Image.fromarray(coloured).save(f"photos/{name}.png")
    Path("photos/readme.txt").write_text("no picture")
    return tmp_path


def done(*arguments: str) -> Result:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result


def spoil() -> None:
    """Add a picture that is cut off, and one that is too small."""
    whole = Path("photos/a_red.png").read_bytes()
    Path("photos/c_broken.png").write_bytes(whole[: len(whole) // 2])
    Image.new("RGB", (30, 5)).save("photos/d_small.png")


# ------------------------------------------------------------------------------------------------ several pictures


def test_a_folder_of_pictures(folder: Path):
    lines = done("heatmap", "fcn.keras", "photos", "-o", "out").stdout.splitlines()
    assert {path.name for path in Path("out").iterdir()} == {"a_red.png", "b_green.png"}
    assert lines[0] == "Preprocessing: x as it is, 0 to 255 ('none'), as the model says."
    assert [line.split(" 0.")[0] for line in lines[1:3]] == ["[1/2] a_red.png: red", "[2/2] b_green.png: green"]
    assert lines[3] == "Wrote out."


def test_one_that_cannot_be_read_does_not_stop_the_others(folder: Path):
    spoil()
    result = run("heatmap", "fcn.keras", "photos", "-o", "out", "--detections", "d.csv", "--threshold", "0.9")
    assert result.exit_code == 1
    assert {path.name for path in Path("out").iterdir()} == {"a_red.png", "b_green.png"}
    assert "[3/4] c_broken.png: left out" in result.stdout.splitlines()
    said = result.stderr.splitlines()
    assert said[0] == "2 of 4 pictures were left out:"
    assert said[1].startswith("  'photos/c_broken.png' is truncated or damaged, and is not used in part (")
    assert said[2] == (
        "  'photos/d_small.png': The input is 5 x 30, smaller than the window of 8 x 8. The network was trained on "
        "8 x 8: enlarge the image, or pad it, to at least that size."
    )
    with Path("d.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["picture"], r["label"], r["top"], r["left"]) for r in rows] == [
        ("a_red.png", "red", "4", "8"),
        ("b_green.png", "green", "4", "8"),
    ]


@pytest.mark.parametrize("given", [["photos/*.png"], ["photos/a_red.png", "photos/b_green.png"], ["**/*.png"]])
def test_globs_and_several_paths(folder: Path, given: list[str]):
    assert [path.name for path in find_pictures(given)] == ["a_red.png", "b_green.png"]
    done("heatmap", "fcn.keras", *given, "-o", "out", "--map", "{name}.npz")
    assert {path.name for path in folder.glob("*.npz")} == {"a_red.npz", "b_green.npz"}


def test_pictures_of_one_name_in_two_folders_or_of_two_endings(folder: Path):
    Path("more").mkdir()
    for target in ("more/a_red.png", "photos/a_red.jpg"):
        Image.open("photos/a_red.png").save(target)
    done("heatmap", "fcn.keras", "photos", "more", "-o", "out")
    assert {path.name for path in Path("out").iterdir()} == {
        "photos_a_red.png.png",
        "photos_a_red.jpg.png",
        "more_a_red.png.png",
        "b_green.png",
    }


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (["photos", "more"], ["photos/a_red.png", "photos/b_green.png", "more/a_red.png"]),
        (["**/*.png"], ["more/a_red.png", "photos/a_red.png", "photos/b_green.png"]),
        (["photos"], ["a_red.png", "b_green.png"]),
        (["more/a_red.png"], ["a_red.png"]),
    ],
)
@pytest.mark.parametrize("ending", ["csv", "json", "geojson"])
def test_pictures_of_one_name_are_told_apart_by_their_folders(
    folder: Path, given: list[str], names: list[str], ending: str
):
    Path("more").mkdir()
    Image.open("photos/a_red.png").save("more/a_red.png")
    lines = done(
        "heatmap", "fcn.keras", *given, "--detections", f"d.{ending}", "--threshold", "0.9"
    ).stdout.splitlines()
    text = Path(f"d.{ending}").read_text()
    found = {
        "csv": lambda: [row["picture"] for row in csv.DictReader(text.splitlines())],
        "json": lambda: [each["picture"] for each in json.loads(text)["pictures"]],
        "geojson": lambda: [each["properties"]["picture"] for each in json.loads(text)["features"]],
    }[ending]()
    assert found == names
    if len(names) > 1:
        assert [line.split()[1] for line in lines if line.startswith("[")] == [f"{name}:" for name in names]


def test_names_of_pictures_below_their_common_folder_or_as_they_are_given():
    def called(*paths: str) -> list[str]:
        return list(Targets([Path(path) for path in paths], True, None, None, None).called.values())

    assert called("d/x/a.png", "d/y/z/a.png") == ["x/a.png", "y/z/a.png"]
    assert called("../x/a.png", "../y/a.png") == ["x/a.png", "y/a.png"]
    assert called("/d/a.png", "d/a.png") == ["/d/a.png", "d/a.png"]
    assert called("a.png", "d/a.png") == ["a.png", "d/a.png"]


def test_two_pictures_never_become_one_file(folder: Path):
    for name in ("a/b", "a_b"):
        Path(name).mkdir(parents=True)
        Image.open("photos/a_red.png").save(f"{name}/c.png")
    message = (
        "Two pictures would have the overlay 'out/a_b_c.png.png'.\nDraw them one by one, each with an -o of its own."
    )
    assert failure("heatmap", "fcn.keras", "a/b", "a_b", "-o", "out") == f"Error: {message}"
    message = "Two pictures would have the map 'm/a_b_c.png.npz'.\nDraw them one by one, each with a --map of its own."
    assert failure("heatmap", "fcn.keras", "a/b", "a_b", "--map", "m/{name}.npz") == f"Error: {message}"


def test_a_glob_leaves_out_what_is_no_picture_and_says_how_many(folder: Path):
    lines = done("heatmap", "fcn.keras", "photos/*", "-o", "out").stdout.splitlines()
    assert lines[0] == "'photos/*': 1 of 3 files left out, no pictures by their endings."
    assert {path.name for path in Path("out").iterdir()} == {"a_red.png", "b_green.png"}
    assert failure("heatmap", "fcn.keras", "photos/*.txt", "-o", "none") == (
        f"Error: The pattern 'photos/*.txt' holds no picture {ENDINGS}; check the path."
    )
    assert failure("heatmap", "fcn.keras", "photos/readme.txt", "-o", "o.png") == (
        "Error: 'photos/readme.txt' is not a picture that can be read here "
        "(PNG, JPEG, TIFF, WebP, BMP, GIF, AVIF, JPEG 2000 and PPM can)."
    )


# ----------------------------------------------------------------------------------------- maps, detections, values


def test_folders_of_several_files_are_made(folder: Path):
    done("heatmap", "fcn.keras", "photos", "-o", "out/deep", "--map", "maps/{name}/m.npz")
    assert {path.name for path in Path("out/deep").iterdir()} == {"a_red.png", "b_green.png"}
    assert {str(path) for path in Path("maps").rglob("*.npz")} == {"maps/a_red/m.npz", "maps/b_green/m.npz"}
    lines = done("heatmap", "fcn.keras", "photos/a_red.png", "--map", "one/{name}.npz").stdout.splitlines()
    assert lines[-1] == "Wrote one/a_red.npz."


def test_per_class_keeps_windows_of_two_classes_in_one_place(folder: Path):
    pixels = np.full((20, 28, 3), 60, np.uint8)
    pixels[4:12, 8:16] = 255, 60, 250
    Image.fromarray(pixels).save("magenta.png")
    for options, wanted in (([], ["red"]), (["--per-class"], ["red", "blue"])):
        arguments = [
            "magenta.png",
            "--threshold",
            "0.4",
            "--detections",
            "d.json",
            "-o",
            "o.png",
            "--overwrite",
            *options,
        ]
        lines = done("heatmap", "fcn.keras", *arguments).stdout.splitlines()
        (found,) = json.loads(Path("d.json").read_text())["pictures"]
        assert [each["label"] for each in found["detections"]] == wanted
        assert [line.split()[1] for line in lines if "(rows 4..12, columns 8..16)" in line] == wanted


def test_detections_and_map_of_one_picture(folder: Path):
    options = ["--detections", "d.geojson", "--map", "m.zarr"]
    lines = done("heatmap", "fcn.keras", "photos/a_red.png", *options).stdout.splitlines()
    assert lines[-2].endswith("red  (rows 4..12, columns 8..16)")
    assert lines[-1] == "Wrote d.geojson, m.zarr."
    (feature,) = json.loads(Path("d.geojson").read_text())["features"]
    assert feature["properties"]["label"] == "red"
    assert zarr.open("m.zarr").attrs["stride"] == [4, 4]
    assert not list(folder.glob("*.png"))
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    done("heatmap", "fcn.keras", "photos/a_red.png", *options, "--overwrite")  # a second time: both are replaced
    changed = {path.name for path in folder.iterdir() if before.get(path) != path.stat().st_mtime_ns}
    assert changed == {"d.geojson", "m.zarr"}


def test_threshold_lists_detections_and_says_where_there_are_none(folder: Path):
    lines = done("heatmap", "fcn.keras", "photos/a_red.png", "-o", "o.png", "--threshold", "0.999").stdout.splitlines()
    assert "No window has a probability of at least 0.999." in lines


@pytest.mark.parametrize(("flag", "note"), [("--softmax", "softmax over the classes"), ("--logits", "are the logits")])
def test_softmax_and_logits(folder: Path, flag: str, note: str):
    lines = done("heatmap", "fcn.keras", "photos/a_red.png", "--map", "m.npz", flag).stdout.splitlines()
    assert any(note in line for line in lines)
    with np.load("m.npz") as arrays:
        highest = arrays["map"].max()
    assert highest > 2 if flag == "--logits" else highest <= 1


def test_pixels_by_scale_offset_and_order(folder: Path):
    options = ["--scale", "0.5", "--offset", "-1,0,1", "--bgr"]
    lines = done("heatmap", "classifier.keras", "photos/a_red.png", "--map", "m.npz", *options).stdout.splitlines()
    assert lines[0] == "Preprocessing: blue, green, red: x * 0.5 + [-1.0, 0.0, 1.0]."
    pixels = np.array(Image.open("photos/a_red.png"))
    wanted = fullyconv.heatmap(
        fullyconv.convert(colours()), pixels, preprocess=lambda x: x[..., ::-1] * 0.5 + [-1, 0, 1]
    ).map
    with np.load("m.npz") as arrays:
        np.testing.assert_allclose(arrays["map"], wanted, rtol=1e-5)
    assert failure(
        "heatmap", "fcn.keras", "x.png", "-o", "o.png", "--scale", "2", "--preprocess", "tf", code=2
    ).endswith("Error: Invalid value: --preprocess tf says all of it: give it, or --scale and its like.")
    assert failure("heatmap", "fcn.keras", "x.png", "-o", "o.png", "--scale", "two", code=2).endswith(
        "'two' is no number: write one, such as 0.5, or one a channel, such as 0.1,0.2,0.3."
    )


def test_labels_and_pixels_travel_in_the_converted_file(folder: Path):
    Path("names.txt").write_text("red\ngreen\nblue\n")
    done("convert", "classifier.keras", "-o", "named.keras", "--labels", "names.txt", "--scale", "2", "--offset", "1")
    lines = done("heatmap", "named.keras", "photos/b_green.png", "-o", "o.png").stdout.splitlines()
    assert lines[0] == "Preprocessing: x * 2.0 + 1.0, as the model says."
    assert lines[1].split()[1] == "green"


def test_a_network_of_keras_applications_brings_its_preprocessing(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(keras.applications, "MobileNetV2", lambda **_: colours())
    lines = done("heatmap", "mobilenetv2", "--random-weights", "photos/a_red.png", "-o", "o.png").stdout.splitlines()
    assert lines[0] == "Preprocessing: x / 127.5 - 1 ('tf'), as the model says."


# ------------------------------------------------------------------------------------------------------- refusals

READ = "'photos/a_red.png' is one of the pictures that are read.\nGive another place with -o."
ENDINGS = (
    "(.png, .jpg, .jpeg, .jpe, .jfif, .mpo, .tif, .tiff, .webp, .bmp, .gif, .avif, .jp2, .j2k, .ppm, .pgm, .pbm, .pnm)"
)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["photos", "-o", "o.png"],
            "'o.png' is one picture, and IMAGE stands for 2 pictures.\n"
            "Give a folder with -o; it is made where there is none.",
        ),
        (["photos", "-o", "photos"], READ),
        (["photos/a_red.png", "-o", "photos/a_red.png"], READ),
        (
            ["photos", "-o", "out", "--map", "m.npz"],
            "'m.npz' is one file, and IMAGE stands for 2 pictures.\n"
            "Put {name} into it, which becomes each picture's name: '{name}.npz'.",
        ),
        (
            ["photos", "-o", "fcn.keras"],
            "The folder 'fcn.keras' cannot be used: 'fcn.keras' is a file.\nGive another place with -o.",
        ),
        (
            ["photos/a_red.png", "--map", "m.png"],
            "'m.png' cannot be written: its name must end in .npz or .tif or .tiff or .zarr.",
        ),
        (
            ["photos/a_red.png", "--detections", "d.xml"],
            "'d.xml' cannot be written: its name must end in .csv or .json or .geojson.",
        ),
        (["photos", "-o", "out", "--class", "9"], "There is no class 9; the model has 3, numbered from 0 to 2."),
        (["photos", "-o", "out", "--labels", "no.txt"], "'no.txt' cannot be read: No such file or directory."),
        (
            ["photos", "-o", "out", "--detections", "no/d.csv"],
            "'no/d.csv' cannot be written: there is no folder 'no'.\nCreate it first.",
        ),
        (
            ["photos/a_red.png", "--map", "no/m.npz"],
            "'no/m.npz' cannot be written: there is no folder 'no'.\nCreate it first.",
        ),
        (
            ["photos", "--map", "fcn.keras/{name}.npz"],
            "The folder 'fcn.keras' cannot be used: 'fcn.keras' is a file.\nGive another place with --map.",
        ),
        (["no*.png", "-o", "out"], f"The pattern 'no*.png' holds no picture {ENDINGS}; check the path."),
        (["empty", "-o", "out"], f"The folder 'empty' holds no picture {ENDINGS}; check the path."),
        (["no.png", "no2.png", "-o", "out"], "There is no picture 'no.png'; check the path."),
    ],
)
def test_what_cannot_be(folder: Path, arguments: list[str], message: str):
    Path("empty").mkdir()
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert failure("heatmap", "fcn.keras", *arguments) == f"Error: {message}"
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_nothing_to_write(folder: Path):
    assert failure("heatmap", "fcn.keras", "photos", code=2).endswith(
        "Error: Invalid value: nothing would be written: give -o, --detections or --map."
    )


# --------------------------------------------------------------------------------------------------------- verify


def test_verify_says_it_in_words_and_draws_the_error(folder: Path):
    lines = done("verify", "classifier.keras", "fcn.keras", "--image", "photos/a_red.png", "-o", "e.png").stdout
    assert lines.splitlines()[-2:] == [
        "It holds: every cell equals the classifier on its window.",
        "Wrote e.png.",
    ]
    with Image.open("e.png") as picture:
        assert min(picture.size) > 200
    done("verify", "classifier.keras", "fcn.keras", "-o", "noise.png")
    assert Path("noise.png").exists()


def test_verify_of_another_network(folder: Path):
    other = colours()
    other.get_layer("logits").set_weights([np.eye(3, dtype="float32") / 40, np.zeros(3, "float32")])
    other.save("other.keras")
    result = run("verify", "other.keras", "fcn.keras", "-o", "e.png")
    assert result.exit_code == 1
    assert "It does NOT hold: the two differ at the window" in result.stdout
    assert Path("e.png").exists()


def test_verify_draws_one_picture(folder: Path):
    images = ["--image", "photos/a_red.png", "--image", "photos/b_green.png"]
    assert failure("verify", "classifier.keras", "fcn.keras", *images, "-o", "e.png", code=2).endswith(
        "Error: Invalid value: -o draws the error on one picture, and 2 were given with --image."
    )


def test_a_file_that_is_read_is_not_replaced(folder: Path):
    before = Path("fcn.keras").read_bytes()
    assert failure("classifier", "fcn.keras", "-o", "fcn.keras") == (
        "Error: 'fcn.keras' is one of the files that are read.\nGive another name to write to."
    )
    assert Path("fcn.keras").read_bytes() == before


def test_a_window_that_a_converted_file_contradicts(folder: Path):
    assert failure("heatmap", "fcn.keras", "photos/a_red.png", "-o", "x.png", "--window", "9x9") == (
        "Error: fcn.keras was made for a window of 8 x 8, not 9 x 9.\nLeave --window out: the file knows it."
    )
