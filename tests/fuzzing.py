"""Files changed at random, and what is made of each: `python tests/fuzzing.py --cases 2000 --seconds 2`.

A case is a kind of file, a way to change it, and a seed: it is the same each time. `test_fuzz.py` runs a few hundred in
a process of its own, which prints a line of JSON before each and one behind it, so that a crash has a name. With
`--seconds` a case that takes longer is a fault too; that depends on the machine, so that no test asks for it.
"""

from __future__ import annotations

import argparse
import faulthandler
import io
import json
import resource
import sys
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import h5py
import keras
import numpy as np
from keras import layers
from PIL import Image

import fullyconv
from fullyconv.images import read_image
from fullyconv.labels import read_labels
from fullyconv.model_files import open_model
from fullyconv.weight_files import read_weight_file

HANG = 60  # seconds after which a case is taken to hang, on the slowest machine
ODD = [None, True, 0, -1, 1.5, 10**9, 10**30, 1e300, float("nan"), "", "x", "\x00", "\ud800", "x" * 1000, [], [[]], {}]
ODD += [[0], [None], ["x"], {"x": 1}, {"class_name": "Dense"}, [10**9, 10**9], "relu", "channels_first", "float16"]


def valid(folder: Path) -> dict[str, bytes]:
    """A file of each kind, as bytes, under its ending."""
    keras.utils.set_random_seed(1)
    stack = [keras.Input((8, 8, 3)), layers.Conv2D(4, 3, activation="relu"), layers.BatchNormalization()]
    model = keras.Sequential([*stack, layers.MaxPooling2D(), layers.Flatten(), layers.Dense(3, activation="softmax")])
    fcn = fullyconv.convert(model)
    fcn.labels, fcn.preprocess = ["ant", "bee", "cat"], {"scale": 0.5, "offset": [1.0, 2.0, 3.0]}
    fcn.save(folder / "fcn.keras")
    model.save(folder / "net.keras")
    model.save(folder / "net.h5")
    model.save_weights(folder / "net.weights.h5")
    (folder / "labels.json").write_text(json.dumps({"0": ["n1", "ant"], "1": ["n2", "bee"], "2": ["n3", "café"]}))
    (folder / "labels.txt").write_text("ant\nbee\ncafé\n")
    Image.fromarray(np.arange(20 * 30 * 3, dtype="uint8").reshape(20, 30, 3)).save(folder / "photo.png")
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def plans(path: Path) -> None:
    """Plan the network in a file, or load it where it was converted."""
    made = fullyconv.load(path).model if path.name.startswith("fcn") else fullyconv.plan(open_model(path)).model
    assert isinstance(made, keras.Model)


def reads_weights(path: Path) -> None:
    assert all(isinstance(weight.read(), np.ndarray) for weight in read_weight_file(path).weights)


def reads_labels(path: Path) -> None:
    names = read_labels(path)
    assert names
    assert all(isinstance(name, str) for name in names)
    "".join(names).encode()


def reads_picture(path: Path) -> None:
    pixels = read_image(path, 3, notes=[])
    assert pixels.ndim == 3
    assert pixels.shape[-1] == 3
    assert np.isfinite(pixels).all()


READERS: dict[str, tuple[Callable[[Path], None], ...]] = {
    "net.keras": (plans, reads_weights),
    "fcn.keras": (plans,),
    "net.h5": (plans, reads_weights),
    "net.weights.h5": (reads_weights,),
    "labels.json": (reads_labels,),
    "labels.txt": (reads_labels,),
    "photo.png": (reads_picture,),
}


def flip(data: bytes, random: Random) -> bytes:
    """A few bits turned, near each other or not."""
    changed, near = bytearray(data), random.randrange(len(data))
    for _ in range(random.choice([1, 1, 2, 8, 40])):
        at = random.choice([random.randrange(len(data)), min(near + random.randrange(64), len(data) - 1)])
        changed[at] ^= 1 << random.randrange(8)
    return bytes(changed)


def cut(data: bytes, random: Random) -> bytes:
    """The end missing, or a part of the middle."""
    start = random.randrange(len(data))
    return data[:start] if random.random() < 0.5 else data[:start] + data[start + random.randrange(200) :]


def splice(data: bytes, random: Random) -> bytes:
    """A part copied over another."""
    size, source, target = random.randrange(1, 200), random.randrange(len(data)), random.randrange(len(data))
    return data[:target] + data[source : source + size] + data[target + size :]


def odd(value: Any, random: Random) -> Any:
    """A value of JSON with one of the values in it replaced by an odd one, or left out."""
    places = list(_places(value))
    holder, key = random.choice(places) if places else (None, None)
    if holder is None:
        return random.choice(ODD)
    if random.random() < 0.2:
        del holder[key]
    else:
        holder[key] = random.choice(ODD)
    return value


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield value, key
        if isinstance(inner, dict | list):
            yield from _places(inner)


def odd_json(data: bytes, random: Random) -> bytes:
    return json.dumps(odd(json.loads(data), random)).encode()


def members(data: bytes, random: Random) -> bytes:
    """A zip archive with a member's JSON changed, a member changed, exchanged with another, or left out."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    name, other = random.choices(list(held), k=2)
    change = random.choice(["json", "json", "json", "bits", "exchanged", "gone"])
    if change == "json":
        name = random.choice(["config.json", "metadata.json"])
        held[name] = odd_json(held[name], random)
    elif change == "bits":
        held[name] = random.choice([flip, cut, splice])(held[name], random)
    elif change == "exchanged":
        held[name], held[other] = held[other], held[name]
    else:
        del held[name]
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", random.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as archive:
        for name, member in held.items():
            archive.writestr(name, member)
    return target.getvalue()


ATTRIBUTES = [7, [1, 2], "x", "", b"\xff\xfe", [b"\xff"], [], [0.5], h5py.Empty("f4"), np.zeros(2, "V3"), "{}", "[]"]
ARRAYS = [np.zeros(3), np.zeros((3, 3, 3, 4), "complex64"), np.zeros(2, "V2"), np.zeros((1,) * 20), 3.0, "x", ["x"]]
ARRAYS += [np.zeros((3, 3, 3, 4), "int64"), h5py.Empty("f4"), np.zeros(2, [("a", "f4"), ("b", "i4")])]


def parts(data: bytes, random: Random) -> bytes:
    """An HDF5 file with an attribute or array replaced, a group gone, or the description's JSON changed."""
    held = io.BytesIO(data)
    with h5py.File(held, "r+") as file:
        names = [""]
        file.visit(names.append)
        holder = file[random.choice(names) or "/"]
        change = random.choice(["json", "json", "attribute", "attribute", "array", "gone"])
        if change == "json" and "model_config" in file.attrs:
            file.attrs["model_config"] = json.dumps(odd(json.loads(file.attrs["model_config"]), random))
        elif change == "array" and isinstance(holder, h5py.Dataset):
            name, parent = holder.name, holder.parent
            del file[name]
            parent[name] = random.choice(ARRAYS)
        elif change == "gone" and holder.name != "/":
            del file[holder.name]
        else:
            known = list(holder.attrs) or ["name"]
            holder.attrs[random.choice(known)] = random.choice(ATTRIBUTES)
    return held.getvalue()


WAYS: dict[str, tuple[Callable[[bytes, Random], bytes], ...]] = {
    ".keras": (flip, cut, splice, members, members, members),
    ".h5": (flip, flip, cut, splice, parts, parts),
    ".json": (flip, cut, splice, odd_json),
    ".txt": (flip, cut, splice),
    ".png": (flip, flip, cut, splice),
}


def cases(count: int) -> Iterator[tuple[str, str, int]]:
    """Files' names, ways to change them, and seeds."""
    pairs = [(name, way.__name__) for name in READERS for way in WAYS[Path(name).suffix]]
    for seed in range(count):
        yield (*pairs[seed % len(pairs)], seed)


def run(folder: Path, name: str, data: bytes, way: str, seed: int) -> str:
    """What becomes of a case: "right" or "refused", or what is wrong."""
    random = Random(seed)
    changed = next(w for w in WAYS[Path(name).suffix] if w.__name__ == way)(data, random)
    path = folder / name
    path.write_bytes(changed)
    found = []
    for read in READERS[name]:
        try:
            read(path)
            found.append("right")
        except fullyconv.FullyConvError as error:
            named = str(path) in str(error) or not isinstance(error, fullyconv.ModelFileError | fullyconv.LabelError)
            found.append("refused" if named and str(error).strip() else f"names no file: {error}")
        except Exception as error:  # noqa: BLE001  what is looked for
            found.append(f"{type(error).__name__}: {str(error)[:300]}")
    wrong = [outcome for outcome in found if outcome not in ("right", "refused")]
    return wrong[0] if wrong else found[0]


def peak() -> int:
    """The most memory this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (2**20 if sys.platform == "darwin" else 2**10)


def say(**facts: Any) -> None:
    """Print a line of JSON, at once."""
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Run cases, a line before and behind each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=300)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=None)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    faulthandler.enable()
    faults = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = valid(folder)
        for file in files:  # also what is imported and made once is there before memory is measured
            for read in READERS[file]:
                read(folder / file)
        start = peak()
        for file, way, seed in list(cases(given.cases))[given.first :]:
            say(file=file, way=way, seed=seed)
            faulthandler.dump_traceback_later(HANG, exit=True)
            begun = time.process_time()
            outcome = run(folder, file, files[file], way, seed)
            took = time.process_time() - begun
            faulthandler.cancel_dump_traceback_later()
            if given.seconds is not None and took > given.seconds:
                outcome = f"took {took:.1f} s"
            faults += outcome not in ("right", "refused")
            say(outcome=outcome, grown=peak() - start)
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
