"""What travels in the file of a converted network: where it stands, that old files are read, and what cannot be."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import keras
import pytest
from keras import layers
from keras.src.saving import saving_lib

import fullyconv
from fullyconv.facts import read_facts
from fullyconv.labels import read_labels

pytestmark = pytest.mark.once  # nothing here differs from backend to backend

OLD = Path(__file__).parent / "data" / "saved_by_0.1.0.keras"
GOOD: dict[str, Any] = {"window": [8, 8], "grids": [["exact", []]], "labels": None, "preprocess": None, "options": {}}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A converted network in a file."""
    path = tmp_path_factory.mktemp("saved") / "fcn.keras"
    fcn = fullyconv.convert(keras.Sequential([keras.Input((8, 8, 3)), layers.Flatten(), layers.Dense(3)], name="net"))
    fcn.labels, fcn.preprocess = ["ant", "bee", "cat"], "tf"
    fcn.save(path)
    return path


def with_facts(saved: Path, path: Path, facts: Any) -> Path:
    """The same network with other facts."""
    with zipfile.ZipFile(saved) as archive, zipfile.ZipFile(path, "w") as target:
        for name in archive.namelist():
            data = archive.read(name)
            target.writestr(name, json.dumps({"fullyconv": facts}) if name == "metadata.json" else data)
    return path


def test_the_file_has_keras_members_alone_so_that_it_is_not_unpacked_to_the_disk(saved, monkeypatch):
    with zipfile.ZipFile(saved) as archive:
        assert sorted(archive.namelist()) == ["config.json", "metadata.json", "model.weights.h5"]
        known = json.loads(archive.read("metadata.json"))
        assert archive.testzip() is None
    assert known["keras_version"] == keras.__version__
    assert known["fullyconv"]["labels"] == ["ant", "bee", "cat"]
    monkeypatch.setattr(saving_lib.DiskIOStore, "__init__", lambda *_, **__: pytest.fail("Keras unpacked the file"))
    loaded = fullyconv.load(saved)
    assert (loaded.window, loaded.labels, loaded.preprocess) == ((8, 8), ["ant", "bee", "cat"], "tf")
    assert keras.saving.load_model(saved).output_shape == (None, None, None, 3)


def test_files_of_0_1_0_load():
    with zipfile.ZipFile(OLD) as archive:
        assert "fullyconv.json" in archive.namelist()
    loaded = fullyconv.load(OLD)
    assert (loaded.window, loaded.exactness, loaded.grid.reasons) == ((12, 12), "native", ("conv pads",))
    assert (loaded.labels, loaded.preprocess) == (["ant", "bee", "cat"], "tf")
    assert loaded.options["pool"] == "window"


WRONG = [
    *(
        ("window", value, "one to three whole numbers above 0")
        for value in (7, "8", [], [8.0, 8], [0, 8], [10**30] * 2)
    ),
    *(("grids", value, "a list of exactness and reasons") for value in (7, "x", [7], [["exact"]], [["exact", None]])),
    *(("labels", value, "a list of names") for value in (7, "abc", {}, [1, 2, 3], True)),
    *(
        ("preprocess", value, "a mode's name, or an object of scale, offset and bgr")
        for value in (7, "x", [], {"scale": "x"}, {"scale": []}, {"offset": {}}, {"scale": 10**400}, {"x": 1})
    ),
    *(
        ("options", value, "an object of the options of a conversion")
        for value in (7, "x", [], {"pool": "x"}, {"pool": ["drop"]}, {"skip": 3}, {"until": 3}, {"stride": "x"})
    ),
]


@pytest.mark.parametrize(("name", "value", "what"), WRONG, ids=[f"{n}-{str(v)[:12]}" for n, v, _ in WRONG])
def test_facts_that_cannot_be(saved, tmp_path, name, value, what):
    path = with_facts(saved, tmp_path / "bad.keras", {**GOOD, name: value})
    with pytest.raises(fullyconv.ModelFileError, match=r"cannot be used") as caught:
        read_facts(path)
    shown = str(value) if isinstance(value, dict | list | str) and len(str(value)) < 50 else None
    text = f"'{path}' cannot be used: the {name} that fullyconv saved in it must be {what}, and {ascii(value)[:60]}"
    assert shown is None or ascii(value) in str(caught.value)
    assert str(caught.value).startswith(text)
    assert str(caught.value).endswith(" is not.\nConvert the classifier again:  fullyconv.convert(model).save(path)")


@pytest.mark.parametrize("facts", [[], 7, None, "x"])
def test_facts_that_are_none(saved, tmp_path, facts):
    path = with_facts(saved, tmp_path / "bad.keras", facts)
    with pytest.raises(fullyconv.ModelFileError, match=r"cannot be used") as caught:
        fullyconv.load(path)
    assert str(caught.value) == (
        f"'{path}' cannot be used: the facts that fullyconv saved in it must be an object, and {facts!r} is not.\n"
        "Convert the classifier again:  fullyconv.convert(model).save(path)"
    )


def test_facts_of_a_later_version_are_let_through(saved, tmp_path):
    facts = {**GOOD, "new": 1, "options": {"new": 2, "pool": None}}
    loaded = fullyconv.load(with_facts(saved, tmp_path / "new.keras", facts))
    assert loaded.options == {"new": 2, "pool": None}


@pytest.mark.parametrize("text", ['["a", "\\ud800"]', "[" * 100_000, '{"0": "a", "1": ' + "9" * 5000 + "}"])
def test_labels_that_are_none(tmp_path, text):
    path = tmp_path / "labels.json"
    path.write_text(text)
    with pytest.raises(fullyconv.LabelError, match=r"is not a list of names") as caught:
        read_labels(path)
    assert str(caught.value) == (
        f"'{path}' is not a list of names: JSON must be a list, or an object with every index from 0 on, in quotes."
    )
