"""Whether the cells of every network of `keras.applications` see exactly their receptive fields.

    python benchmarks/receptive.py                       all of them; half an hour, and memory for the last
    python benchmarks/receptive.py Xception NASNetLarge  these

Each network is converted up to its last map. With positive weights on an image of zeros a line of ones must be answered
by the cells whose field it is in, and by no other: "exactly". A context (squeeze-and-excite) does not show on zeros; on
noise, changing all that is outside the field of a cell must leave it as it is, and at the first context a change of the
field's first line and of its last must not: "nothing outside". Both run on a strip of the image's width.
"""

from __future__ import annotations

import argparse
import inspect
import sys
import time
from pathlib import Path

import keras

import fullyconv

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import receptive_nets

NETWORKS = [
    *("MobileNet", "MobileNetV2", "MobileNetV3Small", "MobileNetV3Large", "NASNetMobile"),
    *("VGG16", "VGG19", "ResNet50", "ResNet50V2", "ResNet101", "ResNet101V2", "ResNet152", "ResNet152V2"),
    *("DenseNet121", "DenseNet169", "DenseNet201", "Xception", "InceptionV3", "InceptionResNetV2", "NASNetLarge"),
    *("ConvNeXtTiny", "ConvNeXtSmall", "ConvNeXtBase"),
    *(f"EfficientNetV2{size}" for size in ("B0", "B1", "B2", "B3", "S", "M", "L")),
    *(f"EfficientNetB{size}" for size in range(8)),
    *("ConvNeXtLarge", "ConvNeXtXLarge"),
]
WINDOWS = {"Xception": 71, "InceptionV3": 139, "InceptionResNetV2": 139}


def main() -> None:
    """Print the table; fail if a cell sees anything else than its field."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=NETWORKS, metavar="NETWORK")
    print("| network | window | stride | effective padding | receptive field | its cells see | seconds |")
    print("|---|---|---|---|---|---|---|")
    results = [row(name) for name in parser.parse_args().networks]
    sys.exit(0 if all(results) else 1)


def row(name: str) -> bool:
    """Print the row of one network, and say whether it holds."""
    keras.utils.clear_session(free_memory=True)
    started = time.perf_counter()
    model = build(name)
    geometry = fullyconv.geometry(model)
    last = geometry.layers[-1]
    found = seen(model, geometry)
    numbers = f"{last.stride[0]} | {last.padding[0]} | {last.field_size[0]}"
    window, took = geometry.window[0], time.perf_counter() - started
    print(f"| {name} | {window} | {numbers} | {found} | {took:.0f} |", flush=True)
    return not found.startswith("something else")


def build(name: str) -> keras.Model:
    """The network without its head, for small images."""
    kind = getattr(keras.applications, name)
    plain = {"include_preprocessing": False} if "include_preprocessing" in inspect.signature(kind).parameters else {}
    window = WINDOWS.get(name, 64)
    return kind(weights=None, include_top=False, input_shape=(window, window, 3), **plain)


def seen(model: keras.Model, geometry: fullyconv.Geometry) -> str:
    """What the cells of the last map see."""
    contexts = [layer for layer in geometry.layers if any(remark.startswith("a context") for remark in layer.remarks)]
    try:
        if contexts:
            check_context(model, geometry, contexts[0].name)
            return "nothing outside"
        fcn = fullyconv.convert(receptive_nets.make_positive(model), until=geometry.layers[-1].name)
        receptive_nets.seen_by(fcn, geometry.layers[-1], geometry.window[1])
    except AssertionError as error:
        return f"something else: {error}"
    return "exactly it"


def check_context(model: keras.Model, geometry: fullyconv.Geometry, first: str) -> None:
    """Assert what can be asserted of a network with contexts, with the weights that Keras has drawn."""
    fcn = fullyconv.convert(model, until=first)  # its contexts stand as close as its own cells
    outside, *edges = receptive_nets.perturbed(model, fcn, fullyconv.geometry(fcn).layers[-1])
    assert outside <= 1e-6, f"{outside:.0e} of the first context changes"
    assert min(edges) > outside, "the edge of the first context's field changes nothing"
    fcn = fullyconv.convert(model, until=geometry.layers[-1].name)
    outside, *_ = receptive_nets.perturbed(model, fcn, geometry.layers[-1])
    assert outside <= 1e-6, f"{outside:.0e} of the last map changes"


if __name__ == "__main__":
    main()
