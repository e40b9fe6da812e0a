"""Model files of strangers: what they announce is refused by its size, and what is damaged or made up by a sentence.

Where a file would take gigabytes, it is not the time that is measured but what Keras is given: it is not called.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from keras import layers

import fullyconv
from fullyconv import model_limits
from fullyconv.classifier_weights import save
from fullyconv.facts import read_facts
from fullyconv.model_files import cause_of, open_model
from fullyconv.weight_files import read_weight_file

pytestmark = pytest.mark.once  # nothing here differs from backend to backend

AGAIN = "Save the model again with model.save, or get the file from its author again."
COPY = "Copy or download it again."
KERNELS = ("layers/conv2d/vars/0", "model_weights/conv/net/conv/kernel")  # of Keras 3 and of Keras 2


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a classifier as `.keras`, `.h5` and weights."""
    folder = tmp_path_factory.mktemp("saved")
    keras.utils.set_random_seed(1)
    stack = [keras.Input((8, 8, 3)), layers.Conv2D(4, 3, name="conv"), layers.Flatten(), layers.Dense(3, name="scores")]
    model = keras.Sequential(stack, name="net")
    model.save(folder / "net.keras")
    model.save(folder / "net.h5")
    model.save_weights(folder / "net.weights.h5")
    return folder


@pytest.fixture
def given(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of these in the current folder."""
    for file in saved.iterdir():
        shutil.copy(file, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


Change = Callable[[bytes], bytes] | bytes


def changed(name: str, members: dict[str, Change | None]) -> Path:
    """`net.keras` under another name, with members changed, added, or where they are None left out."""
    with zipfile.ZipFile("net.keras") as archive, zipfile.ZipFile(name, "w") as target:
        held = {member: archive.read(member) for member in archive.namelist()}
        for member in dict.fromkeys([*held, *members]):
            change = members.get(member, held.get(member))
            if change is not None:
                target.writestr(member, change(held[member]) if callable(change) else change)
    return Path(name)


def described(name: str, change: Callable[[dict[str, Any]], None]) -> Path:
    """`net.keras` under another name, with a change to its description."""

    def edited(data: bytes) -> bytes:
        config = json.loads(data)
        change(config)
        return json.dumps(config).encode()

    return changed(name, {"config.json": edited})


def inside(name: str, change: Callable[[h5py.File], None]) -> Path:
    """`net.keras` under another name, with a change to its weights."""

    def edited(data: bytes) -> bytes:
        Path("inside.h5").write_bytes(data)
        with h5py.File("inside.h5", "r+") as file:
            change(file)
        return Path("inside.h5").read_bytes()

    return changed(name, {"model.weights.h5": edited})


def kernel(file: h5py.File) -> str:
    """Where the kernel of the convolution lies, in either layout."""
    return KERNELS[KERNELS[0] not in file]


def refused(path: Path | str, read: Callable[[Any], Any] = open_model) -> str:
    """What is said of a file, without Keras having been given it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.models, "load_model", lambda *_, **__: pytest.fail("Keras was given the file"))
        with pytest.raises(fullyconv.ModelFileError, match=r"\S") as caught:
            read(str(path))
    return str(caught.value)


def blanks(name: str, member: str) -> Path:
    """A small file, one of whose members is a gigabyte of blanks, which nobody must unpack."""
    with zipfile.ZipFile("net.keras") as archive, zipfile.ZipFile(name, "w", zipfile.ZIP_DEFLATED) as target:
        for other in archive.namelist():
            target.writestr(other, archive.read(other))
            if other == member:
                target.filelist.pop()
                del target.NameToInfo[member]
        target.writestr(member, b" " * 1_000_000)
        target.getinfo(member).file_size = 1_000_000_000
    return Path(name)


@pytest.mark.parametrize("member", ["config.json", "metadata.json", "fullyconv.json", "assets/words.json"])
@pytest.mark.parametrize("read", [open_model, fullyconv.load], ids=["open_model", "load"])
def test_members_of_json_have_a_limit(given, member, read):
    assert refused(blanks("big.keras", member), read) == (
        f"'big.keras' is refused: its member {member!r} has 1,000,000,000 bytes unpacked, and the limit is "
        f"32,000,000.\n{AGAIN}"
    )


@pytest.mark.parametrize("member", ["model.weights.h5", "assets/words.txt", "fourth"])
@pytest.mark.parametrize("read", [open_model, read_weight_file], ids=["open_model", "weights"])
def test_members_together_hold_no_more_than_the_file_can(given, member, read):
    path = blanks("big.keras", member)
    with zipfile.ZipFile(path) as archive:
        total = sum(info.file_size for info in archive.infolist())
    read = open_model if read is open_model else lambda name: read_weight_file(Path(name))
    assert refused(path, read) == (
        f"'big.keras' is refused: its members have {total:,} bytes unpacked, and the limit for a file of "
        f"{path.stat().st_size:,} bytes is 100,000,000.\n{AGAIN}"
    )


def test_a_file_that_was_packed_anew_opens(given):
    with zipfile.ZipFile("net.keras") as archive, zipfile.ZipFile("packed.keras", "w", zipfile.ZIP_DEFLATED) as target:
        for member in archive.namelist():
            target.writestr(member, archive.read(member))
    assert open_model("packed.keras").output_shape == (None, 3)


def replaced(**options: Any) -> Callable[[h5py.File], None]:
    """Put another dataset in the place of the kernel."""

    def change(file: h5py.File) -> None:
        path = kernel(file)
        del file[path]
        file.create_dataset(path, **options)

    return change


def linked(link: Any) -> Callable[[h5py.File], None]:
    """Put a link in the place of the kernel."""

    def change(file: h5py.File) -> None:
        path = kernel(file)
        del file[path]
        file[path] = link

    return change


def virtual(file: h5py.File) -> None:
    path = kernel(file)
    del file[path]
    layout = h5py.VirtualLayout((3, 3, 3, 4), "f4")
    layout[...] = h5py.VirtualSource("elsewhere.h5", "x", (3, 3, 3, 4))
    file.create_virtual_dataset(path, layout)


HDF5 = {
    "a link out of the file": (linked(h5py.ExternalLink("elsewhere.h5", "/x")), "is a link to another place"),
    "a link inside it": (linked(h5py.SoftLink("/x")), "is a link to another place"),
    "values in another file": (
        replaced(shape=(3, 3, 3, 4), dtype="f4", external=[("elsewhere.bin", 0, 432)]),
        "keeps its values in another file",
    ),
    "a view of another file": (virtual, "keeps its values in another file"),
    "texts": (replaced(data=["a", "b"]), "is not an array of numbers"),
    "bytes of some kind": (replaced(data=np.zeros((3, 3, 3, 4), "V2")), "is not an array of numbers"),
}


def hdf5_files(change: Callable[[h5py.File], None]) -> dict[str, Callable[[str], Any]]:
    """The three kinds of files that hold weights, with a change, and what reads each."""
    inside("bad.keras", change)
    for name in ("net.h5", "net.weights.h5"):
        shutil.copy(name, name.replace("net", "bad"))
        with h5py.File(name.replace("net", "bad"), "r+") as file:
            change(file)
    return {"bad.keras": open_model, "bad.h5": open_model, "bad.weights.h5": lambda path: read_weight_file(Path(path))}


@pytest.mark.parametrize("case", HDF5)
def test_weights_are_arrays_of_numbers_in_the_file_itself(given, case):
    change, what = HDF5[case]
    for name, read in hdf5_files(change).items():
        place = KERNELS[name == "bad.h5"]
        assert refused(name, read) == f"'{name}' is refused: {place!r} in it {what}.\n{AGAIN}"


@pytest.mark.parametrize("shape", [(10**9, 10**6), (10**5, 8000)])
def test_arrays_are_no_larger_than_the_file_can_hold(given, shape):
    change = replaced(shape=shape, chunks=(1000, 1000), compression="gzip", dtype="f4")
    for name, read in hdf5_files(change).items():
        total = 4 * (shape[0] * shape[1] + 4 + 6 * 6 * 4 * 3 + 3)
        assert refused(name, read) == (
            f"'{name}' is refused: its arrays have {total:,} bytes, and the limit for a file of "
            f"{Path(name).stat().st_size:,} bytes is 100,000,000.\n{AGAIN}"
        )


def test_layers_are_no_larger_than_what_the_file_holds(given):
    """The layer is refused before its weights are made; of the two limits, in both kinds of files."""

    def wide(config: dict[str, Any]) -> None:
        config["config"]["layers"][3]["config"]["units"] = 10**9

    held = sum(w.size for w in keras.models.load_model("net.keras", compile=False).get_weights())
    described("wide.keras", wide)
    shutil.copy("net.h5", "wide.h5")
    with h5py.File("wide.h5", "r+") as file:
        config = json.loads(file.attrs["model_config"])
        wide(config)
        file.attrs["model_config"] = json.dumps(config)
    for name in ("wide.keras", "wide.h5"):
        with pytest.raises(fullyconv.ModelFileError, match=r"is refused") as caught:
            open_model(name)
        assert str(caught.value) == (
            f"'{name}' is refused: up to its layer 'scores' the network has 144,000,000,112 weights, and the file "
            f"holds {held:,}.\n{AGAIN}"
        )
    assert open_model("net.keras").count_params() == held


def test_other_threads_may_make_layers_meanwhile(given):
    def other() -> None:
        made.append(keras.Sequential([keras.Input((2000,)), layers.Dense(2000)]).count_params())

    made: list[int] = []
    before = layers.Layer.add_weight
    with model_limits.weights_within(Path("net.keras"), 10):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        with pytest.raises(fullyconv.ModelFileError, match=r"the network has 4,000,000 weights, and the file holds 10"):
            layers.Dense(2000).build((None, 2000))
    assert made == [2000 * 2001]
    assert layers.Layer.add_weight is before


def doubled(times: int) -> keras.Model:
    """A network whose models each call the one before twice."""
    inner = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(3, 1)])
    for _ in range(times):
        x = keras.Input((8, 8, 3))
        inner = keras.Model(x, inner(inner(x)), name=f"twice_{_}")
    return inner


def test_networks_that_call_each_other_are_counted_and_not_walked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = doubled(17)
    model.save("doubled.keras")
    assert refused("doubled.keras") == (
        "'doubled.keras' is refused: its network calls 393,215 layers, those of inner models counted for each call, "
        "and the limit is 10,000.\nThe largest networks of keras.applications make about 1,000 calls."
    )
    with pytest.raises(fullyconv.UnsupportedModelError, match=r"calls") as caught:
        fullyconv.plan(model)
    assert str(caught.value) == (
        "'twice_16' calls 393,215 layers, those of inner models counted for each call, and the limit is 10,000.\n"
        "Give a smaller network: the largest of keras.applications make about 1,000 calls."
    )
    doubled(5).save("less.keras")
    assert len(fullyconv.plan(open_model("less.keras")).steps) == 32


def test_maps_are_no_larger_than_there_can_be_memory_for():
    """Nothing of that size is made: the plan has only sizes."""
    stack = [keras.Input((8, 8, 3)), layers.ZeroPadding2D(10**6, name="pad"), layers.GlobalAveragePooling2D()]
    with pytest.raises(fullyconv.UnsupportedLayerError, match=r"cannot be made") as caught:
        fullyconv.plan(keras.Sequential([*stack, layers.Dense(2)], name="net"))
    assert str(caught.value) == (
        "1 of the 4 layers of 'net' cannot be made convolutional.\n"
        "  'pad' (ZeroPadding2D, layer 1) returns 12,000,096,000,192 values for one window, and the limit is "
        "1,073,741,824.\n"
        "    Convert the part before it with `until`."
    )
    wide = keras.Sequential([keras.Input((10**6, 10**6, 3)), layers.GlobalAveragePooling2D()], name="wide")
    with pytest.raises(fullyconv.UnsupportedModelError, match=r"values") as caught:
        fullyconv.plan(wide)
    assert str(caught.value) == (
        "'wide' reads images of 1000000 x 1000000 with 3 channels: 3,000,000,000,000 values, and the limit is "
        "1,073,741,824.\nGive a classifier of smaller images."
    )
    flat = keras.Sequential([keras.Input((8000, 8000, 3)), layers.Flatten(name="flat")], name="net")
    with pytest.raises(fullyconv.UnsupportedLayerError, match=r"cannot be made") as caught:
        fullyconv.plan(flat)
    assert str(caught.value) == (
        "1 of the 2 layers of 'net' cannot be made convolutional.\n"
        "  'flat' (Flatten, layer 1) rearranges 192,000,000 values, and the limit is 134,217,728.\n"
        "    Convert the part before it with `until`."
    )


def test_what_is_no_image():
    """For a plan, and for a proof, which plans nothing."""
    words = keras.Input((8, 8, 1), dtype="string", name="words")
    reader = keras.Model(words, layers.Identity()(words), name="reader")
    anything = keras.Input((None, None, None))
    opened = keras.Model(anything, layers.ReLU()(anything), name="opened")
    fcn = fullyconv.convert(keras.Sequential([keras.Input((8, 8, 1)), layers.GlobalAveragePooling2D()]))
    for model, kind, text in [
        (
            reader,
            fullyconv.UnsupportedModelError,
            "'reader' reads text, not numbers: its input 'words' has the dtype 'string'.\nGive a classifier of images.",
        ),
        (
            opened,
            fullyconv.WindowError,
            "'opened' leaves its number of channels open: (None, None, None, None).\nGive its input a number.",
        ),
    ]:
        window = (8, 8) if model is opened else None
        for ask in (lambda m, w: fullyconv.plan(m, window=w), lambda m, _: fullyconv.verify(m, fcn)):
            with pytest.raises(kind, match=model.name) as caught:
                ask(model, window)
            assert str(caught.value) == text


def flagged(name: str, flag: int = 0, method: int | None = None) -> Path:
    """`net.keras` under another name, its members said to be encrypted, or compressed in another way."""
    data = bytearray(Path("net.keras").read_bytes())
    for signature, flags, methods in ((b"PK\x03\x04", 6, 8), (b"PK\x01\x02", 8, 10)):
        at = data.find(signature)
        while at >= 0:
            data[at + flags] |= flag
            data[at + methods] = data[at + methods] if method is None else method
            at = data.find(signature, at + 4)
    Path(name).write_bytes(data)
    return Path(name)


def test_encrypted(given):
    for read in (open_model, fullyconv.load, lambda name: read_weight_file(Path(name))):
        assert refused(flagged("bad.keras", flag=1), read) == (
            "'bad.keras' is encrypted, and Keras opens no such file.\n"
            "Unpack it with its password, and pack its members again without one."
        )


@pytest.mark.parametrize("method", [1, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, 99])
def test_packed_by_another_method(given, method):
    assert refused(flagged("bad.keras", method=method)) == (
        "'bad.keras' is refused: its member 'metadata.json' is compressed with a method that Keras does not use.\n"
        + AGAIN
    )


@pytest.mark.parametrize("member", ["config.json", "model.weights.h5"])
def test_a_bit_that_fell_over(given, member):
    data = bytearray(Path("net.keras").read_bytes())
    with zipfile.ZipFile("net.keras") as archive:
        data[archive.getinfo(member).header_offset + 30 + len(member) + 200] ^= 1
    Path("bad.keras").write_bytes(data)
    assert refused("bad.keras") == (
        f"'bad.keras' is damaged: its member {member!r} cannot be unpacked (Bad CRC-32 for file {member!r}).\n{COPY}"
    )


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name(given):
    with zipfile.ZipFile("net.keras", "a") as archive:
        archive.writestr("config.json", "{}")
    assert refused("net.keras") == (f"'net.keras' is damaged: 2 of its members are called 'config.json'.\n{COPY}")


DEEP = b"[" * 100_000 + b"]" * 100_000
TEXTS = {
    b"": "is not JSON (Expecting value: line 1 column 1 (char 0))",
    b"{": "is not JSON (Expecting property name enclosed in double quotes: line 1 column 2 (char 1))",
    DEEP: "is nested too deep",
    b'{"class_name": "\xff"}': "has text that is not Unicode",
    b'{"class_name": "\\ud800"}': "has text that is not Unicode",
    b"[]": "is not the description of a model, but []",
    b"null": "is not the description of a model, but None",
    b'"model"': "is not the description of a model, but 'model'",
}


@pytest.mark.parametrize("text", TEXTS, ids=[str(text[:20]) for text in TEXTS])
def test_a_description_that_is_none(given, text):
    changed("bad.keras", {"config.json": text})
    assert refused("bad.keras") == f"'bad.keras' is damaged: its config.json {TEXTS[text]}.\n{COPY}"


def layers_of(config: dict[str, Any], value: Any) -> None:
    config["config"]["layers"] = value


@pytest.mark.parametrize("value", [3, "x", [3, None, "x", [1]], {"a": 1}])
def test_layers_that_are_none(given, value):
    with pytest.raises(
        fullyconv.ModelFileError, match=r"^Keras cannot load 'bad.keras': .+\.\nSave it again as .keras"
    ):
        open_model(str(described("bad.keras", lambda config: layers_of(config, value))))


def test_models_nested_too_deep(given):
    model: dict[str, Any] = {"class_name": "Dense", "config": {}}
    for _ in range(101):
        model = {"class_name": "Sequential", "config": {"layers": [model]}}
    path = changed("bad.keras", {"config.json": json.dumps(model).encode()})
    assert refused(path) == (
        "'bad.keras' is refused: its models are nested more than 100 deep.\nGive a model of fewer inner models."
    )


def test_a_layer_is_no_model(given):
    dense = {"module": "keras.layers", "class_name": "Dense", "config": {"units": 3}, "registered_name": None}
    changed("bad.keras", {"config.json": json.dumps(dense).encode()})
    with pytest.raises(fullyconv.ModelFileError, match=r"does not hold a model") as caught:
        fullyconv.load("bad.keras")
    assert str(caught.value) == (
        "'bad.keras' does not hold a model: what it describes is of the class Dense.\n"
        "Save the model that it belongs to with model.save."
    )


@pytest.mark.parametrize("value", [7, [1, 2], h5py.Empty("f4"), ["a", "b"]], ids=str)
def test_attributes_of_another_kind(given, value):
    with h5py.File("net.h5", "r+") as file:
        file.attrs["model_config"] = value
    assert refused("net.h5") == f"'net.h5' is damaged: its attribute 'model_config' is not a text.\n{COPY}"


@pytest.mark.parametrize("value", [7, [0.5], np.array([b"\xff\xfe"]), h5py.Empty("f4"), np.zeros(2, "V3")], ids=str)
@pytest.mark.parametrize("place", ["model_weights", "model_weights/conv"])
def test_lists_of_names_of_another_kind(given, value, place):
    with h5py.File("net.h5", "r+") as file:
        file[place].attrs["layer_names" if place == "model_weights" else "weight_names"] = value
    with pytest.raises(fullyconv.ModelFileError, match=r"^Keras cannot load 'net.h5': .+\.\nSave it again as .keras"):
        open_model("net.h5")
    with pytest.raises(fullyconv.FullyConvError, match=r"'net.h5'"):
        fullyconv.convert_weights("net.keras", "net.h5", "out.keras")


@pytest.mark.parametrize("name", ["pipe.keras", "pipe.h5"])
def test_a_named_pipe_is_not_waited_for(given, name):
    os.mkfifo(name)
    assert refused(name) == f"'{name}' is a named pipe, not a model; give a file."
    assert refused(name, fullyconv.load) == f"'{name}' is a named pipe, not a model; give a file."
    assert refused(name, lambda path: read_weight_file(Path(path))) == (
        f"'{name}' is a named pipe, not a weight file; give a file."
    )


def test_a_name_that_is_too_long(given):
    name = "x" * 5000 + ".keras"
    said = f"'{name}' cannot be read: File name too long.\nCheck the path."
    assert refused(name) == refused(name, fullyconv.load) == said
    assert read_facts(Path(name)) == {}


def test_a_file_that_may_not_be_read(given, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: (str(path), mode) != ("net.keras", os.R_OK))
    assert refused("net.keras") == (
        "'net.keras' cannot be read: permission denied.\nAsk its owner, or give a copy of your own."
    )


def test_the_cause_of_an_error():
    wrapped = (
        "Conv2D could not be deserialized properly.\n\nconfig={...}.\n\nException encountered: units must be whole."
    )
    several = (
        "A total of 1 objects could not be loaded. Example error message for object <Dense>:\n\nNo weights.\n\nList"
    )
    calling = "Exception encountered when calling Conv2D.call().\n\n\x1b[1mIt has no channels.\x1b[0m\n\nArguments"
    for said, cause in [
        (wrapped, "units must be whole."),
        (several, "No weights."),
        (calling, "It has no channels."),
        ("", "ValueError."),
        ("x" * 2000, "x" * 500 + " ... " + "x" * 500 + "."),
    ]:
        assert cause_of(ValueError(said)) == cause


def test_texts_that_lead_nowhere(given):
    """HDF5 would go round in them for ever."""
    data = bytearray(Path("net.h5").read_bytes())
    heap = data.index(b"GCOL")
    data[heap + 16 : heap + 32] = bytes(16)  # the first object: the rest of the heap, of no size
    Path("bad.h5").write_bytes(data)
    said = "'{}' is damaged: its HDF5 string table at byte {:,} is corrupt.\n" + COPY
    assert refused("bad.h5") == said.format("bad.h5", heap)
    assert refused("bad.h5", lambda name: read_weight_file(Path(name))) == said.format("bad.h5", heap)
    inner = changed("good.keras", {})
    with zipfile.ZipFile(inner) as archive:
        weights = bytearray(archive.read("model.weights.h5"))
    heap = weights.index(b"GCOL")
    weights[heap + 16 + 8 : heap + 32] = b"\xff" * 8
    changed("bad.keras", {"model.weights.h5": bytes(weights)})
    assert refused("bad.keras") == said.format("bad.keras", heap)
    assert open_model("net.h5").output_shape == open_model("good.keras").output_shape == (None, 3)


WRITE = """
import resource, signal, sys
from pathlib import Path
import keras, fullyconv
from fullyconv.classifier_weights import save
from fullyconv.facts import read_facts
model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(2000)])
fcn = fullyconv.convert(model)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
for name in ("out.weights.h5", "out.keras"):
    Path(name).write_text("mine")
    try:
        save(fcn, Path(name))
    except fullyconv.OutputError as error:
        sys.stdout.write(str(error) + "\\n")
"""


@pytest.mark.once
def test_a_file_that_cannot_grow_ends_in_an_error_and_no_crash(tmp_path):
    """HDF5 itself ends the process where a disk is full."""
    done = subprocess.run(
        [sys.executable, "-c", WRITE], capture_output=True, text=True, cwd=tmp_path, check=False, timeout=600
    )
    assert (done.returncode, done.stdout) == (
        0,
        "'out.weights.h5' cannot be written: file too large.\n'out.keras' cannot be written: file too large.\n",
    ), done.stderr
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys(
        ("out.weights.h5", "out.keras"), "mine"
    )


def test_a_disk_with_too_little_room(tmp_path, monkeypatch):
    fcn = fullyconv.convert(keras.Sequential([keras.Input((8, 8, 3)), layers.Flatten(), layers.Dense(5000)]))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 1_500_000))
    for name in ("out.keras", "out.weights.h5"):
        with pytest.raises(fullyconv.OutputError, match=r"cannot be written") as caught:
            save(fcn, tmp_path / name)
        assert str(caught.value) == (
            f"'{tmp_path / name}' cannot be written: the weights take 3.9 MB, and 1.5 MB are free there.\n"
            "Make room, or write to another disk."
        )
    assert not list(tmp_path.iterdir())
