"""Classifiers of `keras.applications`, and what users build on them. The whole zoo: `make zoo`."""

from __future__ import annotations

import pytest

import fullyconv
import nets
import zoo_nets

pytestmark = pytest.mark.skipif(
    nets.BACKEND != "openvino", reason="whole applications run on the default engine only: `make zoo` runs all of them"
)

SMALL = {
    "MobileNet": (64, "native"),
    "MobileNetV2": (64, "native"),
    "MobileNetV3Small": (64, "approximate"),
    "EfficientNetB0": (64, "approximate"),
    "DenseNet121": (32, "native"),
    "ResNet50V2": (32, "native"),
    "ConvNeXtTiny": (32, "native"),
    "VGG16": (32, "native"),
}


@pytest.mark.parametrize("name", SMALL)
def test_an_application(name, tally):
    window, exactness = SMALL[name]
    model = zoo_nets.prepared(name, window, classes=10)
    fcn = fullyconv.convert(model)
    assert fcn.exactness == exactness
    nets.check_native_in_the_engine(model, fcn)
    tally(at_two_sizes(fcn))


def at_two_sizes(fcn) -> int:
    """Compares cells at an odd distance from the field and at a stride's; gives their number."""
    compared = nets.Compared()
    stride = int(fcn.grid.stride[0])
    nets.compare_sizes(fcn, [1, stride], compared)
    assert compared.error <= nets.TOLERANCES["float32"].relative
    return compared.cells
