"""Turn a trained Keras classifier into a fully convolutional network with the same weights, and prove it.

The names below are the whole public interface; each is imported from its module when it is first used.
"""

from typing import TYPE_CHECKING

from fullyconv import _lazy

if TYPE_CHECKING:
    from fullyconv.classifier_weights import convert_weights
    from fullyconv.convert import FullyConv, convert, load
    from fullyconv.cost import Cost, StrideCost, cost
    from fullyconv.dense_weights import LoadedWeights, load_dense_weights
    from fullyconv.detections import Detection
    from fullyconv.engine import compile
    from fullyconv.errors import (
        BackendError,
        ExportError,
        FullyConvError,
        GeometryError,
        ImageError,
        InputTooSmallError,
        LabelError,
        ModelFileError,
        OutputError,
        UnsupportedLayerError,
        UnsupportedModelError,
        VerificationError,
        WeightsError,
        WindowError,
    )
    from fullyconv.export import Exported, export
    from fullyconv.facts import SavingWarning
    from fullyconv.geometry import Grid
    from fullyconv.heatmap import Heatmap, heatmap
    from fullyconv.layer_geometry import Geometry
    from fullyconv.page import write_report
    from fullyconv.plan import Plan, plan
    from fullyconv.receptive import geometry
    from fullyconv.reference import reference
    from fullyconv.restoration import to_classifier
    from fullyconv.verify import Verification, verify

__all__ = [
    "BackendError",
    "Cost",
    "Detection",
    "ExportError",
    "Exported",
    "FullyConv",
    "FullyConvError",
    "Geometry",
    "GeometryError",
    "Grid",
    "Heatmap",
    "ImageError",
    "InputTooSmallError",
    "LabelError",
    "LoadedWeights",
    "ModelFileError",
    "OutputError",
    "Plan",
    "SavingWarning",
    "StrideCost",
    "UnsupportedLayerError",
    "UnsupportedModelError",
    "Verification",
    "VerificationError",
    "WeightsError",
    "WindowError",
    "compile",
    "convert",
    "convert_weights",
    "cost",
    "export",
    "geometry",
    "heatmap",
    "load",
    "load_dense_weights",
    "plan",
    "reference",
    "to_classifier",
    "verify",
    "write_report",
]

_lazy.make_lazy(
    __name__,
    {
        "classifier_weights": ("convert_weights",),
        "convert": ("FullyConv", "convert", "load"),
        "cost": ("Cost", "StrideCost", "cost"),
        "detections": ("Detection",),
        "dense_weights": ("LoadedWeights", "load_dense_weights"),
        "engine": ("compile",),
        "errors": tuple(name for name in __all__ if name.endswith("Error")),
        "export": ("Exported", "export"),
        "facts": ("SavingWarning",),
        "geometry": ("Grid",),
        "heatmap": ("Heatmap", "heatmap"),
        "layer_geometry": ("Geometry",),
        "page": ("write_report",),
        "plan": ("Plan", "plan"),
        "receptive": ("geometry",),
        "reference": ("reference",),
        "restoration": ("to_classifier",),
        "verify": ("Verification", "verify"),
    },
)
