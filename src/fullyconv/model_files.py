"""Open a model by the path of its file, or by its name in `keras.applications`, and say clearly why not."""

from __future__ import annotations

import difflib
import os
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from fullyconv.errors import ModelFileError, UnsupportedModelError
from fullyconv.files import check_regular, is_path
from fullyconv.model_limits import (
    WEIGHTS,
    check_calls,
    count_values,
    damaged,
    opened_archive,
    opened_hdf5,
    opened_weights,
    parsed,
    read_member,
    text_of,
    weights_within,
)

CONFIG = "config.json"
SUFFIXES = (".keras", ".h5", ".hdf5")

# Files that hold a network of another kind: what they are, and what to do with one.
FOREIGN = {
    **dict.fromkeys(
        (".pt", ".pth", ".ckpt", ".bin"),
        (
            "PyTorch weights",
            (
                "Rebuild the network in Keras, copy the weights into it and save that as .keras.\n"
                "torch.load(path, weights_only=True) reads them without running code that the file may carry."
            ),
        ),
    ),
    ".safetensors": (
        "weights without a network",
        "Rebuild the network in Keras, copy the weights into it and save that as .keras.",
    ),
    ".onnx": ("an ONNX graph", "Save the Keras model it was exported from as .keras."),
    ".pb": ("a TensorFlow graph", "Load it with the TensorFlow that wrote it and save the Keras model as .keras."),
    ".tflite": ("a TensorFlow Lite graph", "Save the Keras model it was made from as .keras."),
    ".xml": ("an OpenVINO graph", "Save the Keras model it was made from as .keras."),
    ".json": ("a description without weights", "Rebuild the model, load its weights and save the whole as .keras."),
}


def open_model(source: str | Path, *, random_weights: bool = False, unsafe: bool = False) -> keras.Model:
    """The Keras model in a file, or the one `keras.applications` has under a name.

    The model is not compiled: what it was trained with is not needed. Keras's safe mode stays on unless `unsafe` is
    set: a model that carries Python code of its own (a Lambda layer) is refused rather than run.

    Args:
        source: The path of a `.keras`, `.h5` or `.hdf5` file, or a name such as `"VGG16"`.
        random_weights: Build the named model with random weights instead of its ImageNet weights.
        unsafe: Let the file run the Python code it carries. Only for files whose author you trust.

    Returns:
        The model, on the backend in use.

    Raises:
        ModelFileError: where there is no such file or name, or the file holds no model.
        UnsupportedModelError: where the model takes no image.

    Example:
        >>> open_model("MobileNet", random_weights=True).output_shape
        (None, 1000)
    """
    if is_path(str(source)):
        model = read_model(Path(source), safe_mode=not unsafe)
    else:
        model = _application(str(source), random_weights=random_weights)
    _check_takes_images(model, str(source))
    return model


@dataclass(frozen=True)
class Held:
    """What a model file holds, within the limits.

    Args:
        config: The description of the model.
        values: How many numbers its arrays have.
    """

    config: dict[str, Any]
    values: int


def check_file(path: Path) -> Held:
    """What a model file holds.

    Raises:
        ModelFileError: where there is no such file, or it holds no model, or announces more than it can hold.
    """
    _check_kind(path)
    held = _in_zip(path) if path.suffix == ".keras" else _in_hdf5(path)
    check_calls(path, held.config)
    return held


def read_model(path: Path, **options: Any) -> keras.Model:
    """The model in a file, not compiled.

    Args:
        path: A `.keras`, `.h5` or `.hdf5` file.
        **options: Those of `keras.models.load_model`.

    Raises:
        ModelFileError: where there is no such file, or it holds no model that can be loaded.
    """
    held = check_file(path)
    try:
        with weights_within(path, held.values):
            model = keras.models.load_model(path, compile=False, **options)
    except ModelFileError:
        raise
    except Exception as error:  # Keras raises many kinds, and none of its own
        raise ModelFileError(_unloadable(path, held.config, error)) from error
    if not isinstance(model, keras.Model):
        raise ModelFileError(
            f"'{path}' does not hold a model: what it describes is of the class {type(model).__name__}.\n"
            "Save the model that it belongs to with model.save."
        )
    return model


def _check_kind(path: Path) -> None:
    """Refuse what its name, or its being no file, says is no Keras model."""
    try:
        there = path.exists()
    except OSError as error:
        raise ModelFileError(f"'{path}' cannot be read: {error.strerror}.\nCheck the path.") from error
    if not there:
        raise ModelFileError(_no_such_file(path))
    if path.is_dir():
        raise ModelFileError(_folder(path))
    check_regular(path, ModelFileError, "a model")
    if not os.access(path, os.R_OK):
        raise ModelFileError(f"'{path}' cannot be read: permission denied.\nAsk its owner, or give a copy of your own.")
    if path.name.endswith(".weights.h5"):
        raise ModelFileError(_weights_only(path))
    if not path.stat().st_size:
        raise ModelFileError(f"'{path}' is empty.\nCopy or download it again.")
    if path.suffix.lower() in FOREIGN:
        what, remedy = FOREIGN[path.suffix.lower()]
        raise ModelFileError(f"'{path}' is not a Keras model: by its name it holds {what}.\n{remedy}")
    if path.suffix not in SUFFIXES:
        raise ModelFileError(
            f"'{path}' is not a Keras model by its name.\n"
            "Keras reads the kind of a file from its ending: .keras, .h5 or .hdf5.\n"
            "If it is one of these, rename it."
        )


def _in_zip(path: Path) -> Held:
    """What a `.keras` file holds."""
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            cut = file.read(4) == b"PK\x03\x04"
        raise ModelFileError(_truncated(path) if cut else _not_a(path, "zip archive", ".keras"))
    with opened_archive(path) as archive:
        if {CONFIG, WEIGHTS} <= set(archive.namelist()):
            config = _described(path, CONFIG, read_member(path, archive, CONFIG))
            with opened_weights(path, archive) as file:
                return Held(config, count_values(path, file))
    raise ModelFileError(
        f"'{path}' is a zip archive without a Keras model in it.\n"
        "A .keras file has the members config.json and model.weights.h5: save the model again with model.save."
    )


def _in_hdf5(path: Path) -> Held:
    """What a `.h5` file holds."""
    try:
        with opened_hdf5(path) as file:
            text = text_of(path, file, "model_config")
            if text is None:
                raise ModelFileError(_weights_only(path))
            return Held(_described(path, "model_config", text), count_values(path, file))
    except ModelFileError:
        raise
    except Exception as error:  # h5py raises what HDF5 says in many kinds
        message = _truncated(path) if "truncated" in str(error) else _not_a(path, "HDF5 file", path.suffix)
        raise ModelFileError(message) from error


def _described(path: Path, where: str, text: str | bytes) -> dict[str, Any]:
    """A model's description, from JSON."""
    config = parsed(path, where, text)
    if not isinstance(config, dict):
        raise ModelFileError(damaged(path, f"its {where} is not the description of a model, but {ascii(config)[:60]}"))
    return config


def _application(name: str, *, random_weights: bool) -> keras.Model:
    """A model of `keras.applications`, with its ImageNet weights or with random ones."""
    builders = _applications()
    known = {key.lower(): key for key in builders}
    if name.lower() not in known:
        raise ModelFileError(_unknown_name(name, list(builders)))
    proper = known[name.lower()]
    if random_weights:
        return builders[proper](weights=None)
    try:
        return builders[proper](weights="imagenet")
    except Exception as error:  # Keras raises a bare Exception for a failed download
        raise ModelFileError(_no_weights(proper, error)) from error


def _applications() -> dict[str, Callable[..., keras.Model]]:
    """The builders in `keras.applications`, by name."""
    return {name: value for name, value in vars(keras.applications).items() if name[:1].isupper() and callable(value)}


def _check_takes_images(model: keras.Model, name: str) -> None:
    """Refuse a model none of whose inputs has spatial axes."""
    shapes = [tuple(tensor.shape) for tensor in _inputs(model)]
    if not shapes or any(len(shape) >= 3 for shape in shapes):
        return
    embedding = next((layer for layer in model.layers if isinstance(layer, keras.layers.Embedding)), None)
    kind = "reads text" if embedding else "reads a table"
    proof = f"; '{embedding.name}' (Embedding) looks up words" if embedding else ""
    raise UnsupportedModelError(
        f"'{name}' takes no image: it {kind}.\n"
        f"Its input has the shape {', '.join(map(str, shapes))}, without spatial axes{proof}.\n"
        "Give a classifier whose input is (height, width, channels), or has one or three spatial axes."
    )


def _inputs(model: keras.Model) -> list[keras.KerasTensor]:
    """The inputs of a model; none where it does not know them yet."""
    try:
        return list(model.inputs or [])
    except (AttributeError, ValueError):
        return []


def _missing_classes(config: dict[str, Any]) -> list[str]:
    """The layer classes a model's description names that this process does not know, each once."""
    return list(dict.fromkeys(name for name in _layer_classes(config) if not _is_known(name)))


def _layer_classes(config: Any) -> Iterator[str]:
    """The class of a model and of each layer in it, to any depth."""
    if not isinstance(config, dict):
        return
    yield str(config.get("registered_name") or config.get("class_name") or "Functional")
    inner = config.get("config")
    layers = inner.get("layers") if isinstance(inner, dict) else None
    for layer in layers if isinstance(layers, list) else ():
        yield from _layer_classes(layer)


def _is_known(name: str) -> bool:
    """Whether Keras, or the program running, knows a layer class by this name."""
    return name == "Functional" or hasattr(keras.layers, name) or hasattr(keras, name) or _registered(name)


def _registered(name: str) -> bool:
    """Whether the program running has registered a class by this name."""
    return keras.saving.get_registered_object(name) is not None


def _unloadable(path: Path, config: dict[str, Any], error: Exception) -> str:
    """The message for a file that Keras will not load."""
    missing = _missing_classes(config)
    if missing:
        return _custom(path, missing)
    if "safe_mode" in str(error) or "unsafe_deserialization" in str(error):
        return (
            f"'{path}' carries Python code of its own, which Keras's safe mode does not run.\n"
            "Loading it would let the file do anything you can do on this machine.\n"
            "If you trust its author: --unsafe here, keras.models.load_model(path, safe_mode=False) in Python."
        )
    return f"Keras cannot load '{path}': {cause_of(error)}\nSave it again as .keras with Keras 3.15 or later."


def _custom(path: Path, classes: list[str]) -> str:
    """The message for a model with layers of the user's own."""
    short = [name.rpartition(">")[2] for name in classes]
    objects = ", ".join(f"{name!r}: {name}" for name in short)
    return (
        f"'{path}' has layers of classes that Keras does not know: {', '.join(short)}.\n"
        "The file names them; their code is in the program that trained the model.\n"
        f"There, model = keras.models.load_model(path, custom_objects={{{objects}}}), then fullyconv.convert(model)."
    )


def _no_such_file(path: Path) -> str:
    """The message for a path where there is nothing, with the files it may have meant."""
    folder = path.parent
    if not folder.is_dir():
        return f"There is no folder '{folder}', so no model '{path.name}' in it.\nCheck the path."
    models = sorted(file.name for file in folder.iterdir() if file.suffix in SUFFIXES)
    close = difflib.get_close_matches(path.name, models, n=3, cutoff=0.5) or models[:3]
    hint = f"Models in that folder: {', '.join(close)}." if close else "That folder holds no .keras, .h5 or .hdf5 file."
    return f"There is no file '{path}'.\n{hint}"


def _unknown_name(name: str, known: list[str]) -> str:
    """The message for a name `keras.applications` does not have, with the nearest it has."""
    by_lower = {key.lower(): key for key in known}
    close = [by_lower[key] for key in difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.5)]
    hint = (
        f"The nearest names are {', '.join(close)}." if close else f"It has {', '.join(sorted(known)[:3])} and others."
    )
    return f"'{name}' is neither a file here nor a model of keras.applications.\n{hint}"


def _no_weights(name: str, error: Exception) -> str:
    """The message for ImageNet weights that could not be had."""
    return (
        f"The ImageNet weights of {name} cannot be fetched: {cause_of(error)}\n"
        f"Give a file saved where they can be, or build {name} with random weights to try the conversion:\n"
        f"--random-weights here, keras.applications.{name}(weights=None) in Python."
    )


def _folder(path: Path) -> str:
    """The message for a folder, a SavedModel above all."""
    if (path / "saved_model.pb").exists():
        return (
            f"'{path}' is a TensorFlow SavedModel, which Keras 3 cannot open as a model.\n"
            "Load it with the Keras 2 that wrote it and save it as .h5, which Keras 3 opens."
        )
    return f"'{path}' is a folder.\nGive the path of a .keras, .h5 or .hdf5 file."


def _weights_only(path: Path) -> str:
    """The message for a file with weights and no architecture."""
    return (
        f"'{path}' holds weights without the model they belong to.\n"
        "Give them with the classifier they belong to: fullyconv convert MODEL --weights FILE here, "
        "fullyconv.convert_weights in Python."
    )


def _truncated(path: Path) -> str:
    """The message for a file that ends too early."""
    return (
        f"'{path}' is truncated: it starts as a model and ends too early ({path.stat().st_size:,} bytes).\n"
        "Copy or download it again."
    )


def _not_a(path: Path, kind: str, suffix: str) -> str:
    """The message for a file that is not what its name says."""
    return f"'{path}' is not a model: a {suffix} file is a {kind}, and this is not.\nSave the model with model.save."


def cause_of(error: Exception, most: int = 1000) -> str:
    """What another library's error says first, or at its end where that is the cause; a sentence."""
    text = (str(error).strip() or type(error).__name__).rpartition("Exception encountered: ")[2]
    _, _, example = text.partition("Example error message for object ")
    plain = re.sub(r"\x1b\[[0-9;]*m", "", example.partition(":\n")[2] or text)
    lines = [line.strip() for line in plain.splitlines() if line.strip()]
    calling = len(lines) > 1 and lines[0].startswith("Exception encountered when calling")
    first = lines[calling] if lines else type(error).__name__
    return (first if len(first) <= most else f"{first[: most // 2]} ... {first[-most // 2 :]}").rstrip(". ") + "."
