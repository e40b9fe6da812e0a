"""Names in the files of strangers: a terminal obeys none of them, no spreadsheet computes them, and none takes long."""

from __future__ import annotations

import ast
import csv
import io
import json
import os
import unicodedata
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image
from rich.console import Console

import fullyconv
from fullyconv import cli, drawing, report
from fullyconv.detections import Detection, Found, save_detections
from fullyconv.errors import LabelError
from fullyconv.labels import find_class, read_labels
from fullyconv.plan import aligned
from fullyconv.printable import LONGEST, cell, inline, printable
from test_cli import run

pytestmark = pytest.mark.once  # nothing here differs from backend to backend

EVIL = "a\x1b]52;c;ZXZpbA==\x1b\\b\x9b2Jc\x07d\u202ee\u2066f\u2028g\x7fh\ri"
SHOWN = r"a\x1b]52;c;ZXZpbA==\x1b\b\x9b2Jc\x07d\u202ee\u2066f\u2028g\x7fh\ri"
LONG = "w" * 50_000
DIRECTIONS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def obeyed(text: str) -> list[str]:
    """The characters of a text that a terminal would obey, lines apart."""
    return [c for c in text if (unicodedata.category(c) in ("Cc", "Zl", "Zp") and c != "\n") or c in DIRECTIONS]


def console(**options: bool) -> Console:
    return Console(file=io.StringIO(), width=100, **options)


def printed(on: Console) -> str:
    assert isinstance(on.file, io.StringIO)
    return on.file.getvalue()


# ------------------------------------------------------------------------------------------------------- the border


def test_what_a_terminal_obeys_is_shown():
    assert printable(EVIL) == inline(EVIL) == SHOWN
    assert printable("one\ntwo") == "one\ntwo"
    assert inline("one\ntwo\t3") == r"one\ntwo\t3"
    assert printable("\ud800 \udcff") == r"\ud800 \udcff"


def test_every_character_that_unicode_calls_a_control_is_shown():
    every = "".join(map(chr, range(0x11000)))
    assert obeyed(inline(every[:LONGEST])) == []
    assert obeyed("".join(inline(every[i : i + LONGEST]) for i in range(0, len(every), LONGEST))) == []


def test_ordinary_names_stay():
    names = [
        "Ägyptische Katze",
        "日本語",
        "עברית",
        "👩\u200d👩\u200d👧",
        "naïve — “quoted” …",
        r"C:\new\x1b",
        "soft\u00adhyphen",
    ]
    assert [inline(name) for name in names] == names


def test_a_long_line_is_cut():
    assert printable(f"one\n{LONG}\ntwo") == f"one\n{'w' * 5000}… (45,000 more characters)\ntwo"


def test_tables_and_lines(monkeypatch):
    for on in (console(), console(force_terminal=True, color_system=None)):
        report.show_table(("layer", "is"), [(EVIL, "[red]x[/red] :smile:"), ("a\nb", "\\[bold]")], on)
        report.show(on, f"{EVIL} [red]x[/red] :smile: 12")
        lines = printed(on).splitlines()
        assert obeyed(printed(on)) == []
        assert [line.split() for line in lines] == [
            ["layer", "is"],
            [*SHOWN.split(), "[red]x[/red]", ":smile:"],
            [r"a\nb", r"\[bold]"],
            [*SHOWN.split(), "[red]x[/red]", ":smile:", "12"],
        ]


def test_a_long_cell_is_cut():
    on = console()
    report.show_table(("layer", "becomes"), [("conv", LONG)], on, wraps=1)
    assert printed(on).splitlines()[1:] == [f"conv   {'w' * 92}…", "       (49,500 more characters)"]


def test_what_was_found_in_a_picture():
    peak = Detection(0, f"{EVIL}\nError: fake", 0.5, (0, 0), ((0, 8), (4, 12)))
    on = console()
    report.show_peaks(SimpleNamespace(threshold=None, top=[peak]), on)
    assert printed(on) == f"  0.5000  {SHOWN}\\nError: fake  (rows 0..8, columns 4..12)\n"


def test_tables_as_text():
    assert aligned([("layer", "is"), (f"{EVIL}\nx", "1")])[2] == f"{SHOWN}\\nx  1"


def test_commands_print_in_one_way():
    """Everything that a command prints goes through `say` or the functions of `report`; JSON escapes by itself."""
    prints = set()
    for path in Path(cli.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in (
                "typer.echo",
                "print",
                "click.echo",
                "typer.secho",
            ):
                prints.add(ast.unparse(node.args[0]).split("(")[0])
    assert prints == {"json.dumps", "printable"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network whose layers have names of this kind, labels, and two pictures."""
    folder = tmp_path_factory.mktemp("evil")
    keras.utils.set_random_seed(0)
    stack = [keras.Input((8, 8, 3)), layers.Conv2D(4, 3, padding="same", name=f"{EVIL}\nError: fake"), layers.Flatten()]
    keras.Sequential([*stack, layers.Dense(2, activation="softmax", name="z" * 3000)], name=f"net{EVIL}").save(
        folder / "net.keras"
    )
    (folder / "labels.json").write_text(json.dumps([f"{EVIL}\nError: fake", LONG]))
    (folder / "pictures").mkdir()
    for name in (f"{EVIL}1", f"{EVIL}\nError: fake"):
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)).save(
            folder / "pictures" / f"{name}.png"
        )
    (folder / "pictures" / f"broken{EVIL}.png").write_text("nothing")
    return folder


@pytest.mark.parametrize(
    "arguments",
    [
        ("plan", "net.keras"),
        ("plan", "net.keras", "--size", "16x16"),
        ("plan", "net.keras", "--json"),
        ("plan", "net.keras", "--until", EVIL),
        ("plan", f"{EVIL}.keras"),
        ("plan", "net.keras", f"--{EVIL}"),
        ("plan", "net.keras", "--size", EVIL),
        (EVIL,),
        ("geometry", "net.keras"),
        ("geometry", "net.keras", "--layer", EVIL),
        ("convert", "net.keras", "-o", "fcn.keras", "--labels", "labels.json"),
        ("heatmap", "net.keras", f"pictures/{EVIL}1.png", "-o", "one.png", "--labels", "labels.json", "--class", "0"),
        ("heatmap", "net.keras", "pictures", "-o", "out", "--labels", "labels.json", "--detections", "d.csv"),
        (
            "heatmap",
            "net.keras",
            f"pictures/{EVIL}1.png",
            "-o",
            "two.png",
            "--labels",
            "labels.json",
            "--class",
            f"{EVIL}?",
        ),
        ("report", "net.keras", f"pictures/{EVIL}1.png", "-o", "r.html", "--labels", "labels.json"),
    ],
    ids=lambda arguments: " ".join(arguments).replace(EVIL, "EVIL"),
)
def test_no_command_prints_what_a_terminal_obeys(folder, monkeypatch, arguments):
    monkeypatch.chdir(folder)
    result = run(*arguments)
    assert result.output
    assert "not foreseen" not in result.output
    assert obeyed(result.output) == []
    assert not [line for line in result.output.splitlines() if line.startswith("Error: fake")]


def test_a_traceback_too(monkeypatch, capsys):
    def fail(**_: str) -> None:
        raise RuntimeError(EVIL)

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit, match="1"):
        cli.main()
    said = capsys.readouterr().err
    assert said.startswith("Traceback (most recent call last):\n")
    assert said.endswith(f"\nRuntimeError: {SHOWN}\n")


def test_a_network_s_own_text(folder):
    fcn = fullyconv.convert(keras.models.load_model(folder / "net.keras"))
    fcn.labels = [EVIL, "b"]
    drawn = fullyconv.heatmap(fcn, np.zeros((12, 12, 3), np.uint8), preprocess="none")
    for text in (str(fcn.plan), repr(fcn), repr(drawn), str(fullyconv.geometry(fcn))):
        assert obeyed(text) == []


# ------------------------------------------------------------------------------------------------------ spreadsheets

FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\uff1d1", "'=1", "''-1"]
PLAIN = ["cat", "'tis", "1", "", "a=b", " =1", "class 7"]


def read_back(text: str) -> str:
    """A name as the documentation says how to have it again."""
    return text[1:] if cell(text[1:]) == text else text


def test_no_name_is_a_formula(tmp_path):
    peaks = [Detection(i, name, -0.5, (0, 0), ((-4, 4), (0, 8))) for i, name in enumerate(FORMULAS + PLAIN)]
    save_detections(tmp_path / "d.csv", [Found("=cmd|' /C calc'!A0.png", (8, 8), "logit", -1.0, tuple(peaks))])
    with (tmp_path / "d.csv").open(newline="", encoding="utf-8") as file:
        heading, *rows = csv.reader(file)
    assert heading[:4] == ["picture", "class", "label", "logit"]
    assert {row[0] for row in rows} == {"'=cmd|' /C calc'!A0.png"}
    assert [row[2] for row in rows] == [f"'{name}" for name in FORMULAS] + PLAIN
    assert [read_back(row[2]) for row in rows] == FORMULAS + PLAIN
    assert {tuple(row[3:8]) for row in rows} == {("-0.5", "0", "0", "-4", "0")}, "numbers stay numbers"


@pytest.mark.parametrize("suffix", ["csv", "json", "geojson"])
def test_a_name_that_is_no_unicode(tmp_path, suffix):
    found = Found("a\udcff.png", (8, 8), "score", 0.0, (Detection(0, "\ud800", 0.5, (0, 0), ((0, 8), (0, 8))),))
    save_detections(tmp_path / f"d.{suffix}", [found])
    text = (tmp_path / f"d.{suffix}").read_text("utf-8")
    assert "a\\udcff.png" in text
    assert "\\ud800" in text


# --------------------------------------------------------------------------------------------------------- long names


@pytest.fixture
def measured(monkeypatch) -> list[int]:
    """How long the texts were whose widths were asked for."""
    lengths: list[int] = []
    true = drawing.font

    def font(size: int) -> SimpleNamespace:
        return SimpleNamespace(getlength=lambda text: (lengths.append(len(text)), true(size).getlength(text))[1])

    monkeypatch.setattr(drawing, "font", font)
    return lengths


@pytest.mark.parametrize(
    "text", [LONG, "w " * 25_000, "\u0301" * 50_000, "\u202e" * 50_000, "i" * 5_000_000, "…" * 50_000]
)
def test_a_long_name_is_cut_in_few_steps(measured, text):
    cut = drawing.shorten(text, 17, 300)
    assert cut.endswith("…")
    assert drawing.font(17).getlength(cut) <= 300
    assert len(measured) <= 13
    assert max(measured) <= 1001


def test_cutting_leaves_as_much_as_fits():
    length = drawing.font(17).getlength
    shorter = ["Egyptian cat, tabby", *(f"{'Egyptian cat, tabby'[:n].rstrip()}…" for n in range(18, 0, -1)), ""]
    cuts = [drawing.shorten("Egyptian cat, tabby", 17, width) for width in range(0, 200, 7)]
    assert cuts == [next(text for text in shorter if length(text) <= width) for width in range(0, 200, 7)]
    assert len(set(cuts)) > 10
    assert drawing.shorten("Egyptian cat", 17, 1000) == "Egyptian cat"
    assert drawing.shorten("ab", 17, 1) == ""
    assert drawing.shorten("two\nlines", 17, 1000) == r"two\nlines"


@pytest.mark.parametrize("text", [LONG, "w " * 25_000, "w\n" * 25_000])
def test_long_lines_are_wrapped_in_few_steps(measured, text):
    assert len(drawing.wrap(text, 14, 900)) < 60
    assert sum(measured) < 1_000_000


def test_the_nearest_of_long_names():
    names = [f"{c * 50_000}" for c in "abc"]
    with pytest.raises(LabelError, match=r"\.") as caught:
        find_class("a" * 99 + "x", names, 3)
    assert str(caught.value) == f"There is no class '{'a' * 99}x'; the nearest names are '{'a' * 100}…'."
    with pytest.raises(LabelError, match=r"\.") as caught:
        find_class("x" * 50_000, names, 3)
    assert str(caught.value) == f"There is no class '{'x' * 100}…'; no name is near to it."
    with pytest.raises(LabelError, match=r"\.") as caught:
        find_class("a" * 10, ["a" * 200, "A" * 300], 2)
    assert str(caught.value) == (
        f"'aaaaaaaaaa' fits 2 classes: '{'a' * 100}…' (0), '{'A' * 100}…' (1); give a whole name, or an index."
    )


def test_remedies_are_not_looked_for_in_long_names():
    assert report.in_commands(f"window=8\n{'window=8 ' * 1000}") == f"--window 8\n{'window=8 ' * 1000}"


# ------------------------------------------------------------------------------------------------------ files of labels


def refusal(path: Path) -> str:
    with pytest.raises(LabelError, match=r"\.") as caught:
        read_labels(path)
    return str(caught.value)


def test_large_files_of_labels_are_not_read(tmp_path):
    path = tmp_path / "labels.txt"
    with path.open("wb") as file:
        file.truncate(100 * 10**9)  # a hole
    assert refusal(path) == f"'{path}' is larger than 16 MB; a file of labels has one name a line."
    path.write_text("cat\n" * 1_000_000)
    assert len(read_labels(path)) == 1_000_000


def test_only_files_of_labels_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert refusal(tmp_path / "pipe") == f"'{tmp_path}/pipe' is a named pipe, not a file of labels; give a file."
    assert refusal(tmp_path) == f"'{tmp_path}' is a folder, not a file of labels; give a file."
    assert refusal(Path("/dev/zero")) == "'/dev/zero' is a device, not a file of labels; give a file."


@pytest.mark.parametrize("text", ["[" * 100_000, '{"0":' * 50_000, "[1e999]", "[" + "9" * 5000 + "]", '{"0": []}'])
def test_hostile_json(tmp_path, text):
    (tmp_path / "l.json").write_text(text)
    assert refusal(tmp_path / "l.json") == (
        f"'{tmp_path}/l.json' is not a list of names: JSON must be a list, or an object with every index from 0 on, "
        "in quotes."
    )
