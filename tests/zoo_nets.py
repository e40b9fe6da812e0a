"""The classifiers of `keras.applications`, the smallest first, and how they are built to be tested.

Their names are there without Keras, which is imported when one is built.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras

CLASSIFIERS = (
    *("MobileNetV3Small", "MobileNetV3Large", "MobileNetV2", "MobileNet", "EfficientNetB0", "EfficientNetV2B0"),
    *("NASNetMobile", "EfficientNetB1", "EfficientNetV2B1", "DenseNet121", "EfficientNetB2", "EfficientNetV2B2"),
    *("ResNet50", "ResNet50V2", "DenseNet169", "EfficientNetB3", "EfficientNetV2B3", "ConvNeXtTiny", "DenseNet201"),
    *("InceptionV3", "ResNet101", "ResNet101V2", "EfficientNetB4", "EfficientNetV2S", "Xception", "ConvNeXtSmall"),
    *("ResNet152", "ResNet152V2", "InceptionResNetV2", "VGG16", "VGG19", "EfficientNetB5", "ConvNeXtBase"),
    *("EfficientNetB6", "EfficientNetV2M", "ConvNeXtLarge", "NASNetLarge", "EfficientNetB7", "EfficientNetV2L"),
    "ConvNeXtXLarge",
)
LEAST = {"InceptionV3": 75, "InceptionResNetV2": 75, "Xception": 71}  # what Keras builds these at
CONTEXT = ("MobileNetV3", "EfficientNet")  # their fields grow with the window


def build(name: str, window: int | None = None, classes: int = 1000, seed: int = 0) -> keras.Model:
    """A classifier with random weights that gives logits, at its own window or another."""
    import keras

    keras.utils.set_random_seed(seed)
    if window is None and name.startswith("MobileNetV3"):
        window = 224  # what its weights were trained at; Keras leaves it open
    size = {} if window is None else {"input_shape": (window, window, 3)}
    return getattr(keras.applications, name)(weights=None, classes=classes, classifier_activation=None, **size)


def prepared(name: str, window: int | None = None, classes: int = 1000, seed: int = 0) -> keras.Model:
    """A classifier with weights with which a broken trunk shows (contract C1)."""
    import nets

    return nets.prepare(build(name, window, classes, seed), seed, count=2)


def reduced(name: str, window: int, stride: int) -> int:
    """The smallest window at which every layer pads as it does at this one: it differs by a multiple of the stride.

    Without a context, at least two cells of the last map fit in, so that the head is more than one position.
    """
    least = max(LEAST.get(name, 32), stride if name.startswith(CONTEXT) else 2 * stride)
    return least + (window - least) % stride
