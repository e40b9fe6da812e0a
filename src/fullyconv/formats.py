"""The formats `export` writes: on which Keras backend, by what, and what runs the file.

What was tried, every spatial size left open, on the trunks of the tests, MobileNetV2 and EfficientNetB0 (Keras 3.15,
OpenVINO 2026.4, TensorFlow 2.21, PyTorch 2.13, JAX 0.10):

    format          openvino        tensorflow      torch           jax
    openvino        all (1)         all but (2)     no              no
    onnx            no              all but (3)     all but (4)     some (7)
    litert          no              all but (5)     no              no
    tf_saved_model  no              all             no              all but (6)

Where it says "all" the combination is offered, through Keras's own exporter, except at (1) and (4): there Keras traces
a network at a size of 1, at which a converted one has no cell. (1) is the graph that `compile` runs, (4) is
`torch.onnx.export` called at a larger size.

Not written, each refused with what the exporter says: (2) swish, and so EfficientNet, whose file would have its outputs
twice; (3) grouped convolutions; (4) signals, denser maps, and squeeze-and-excite pooled by the window; (5) volumes and
float16, for which LiteRT has no operations of its own; (6) several images, denser maps, and squeeze-and-excite pooled
by the window. (7) is not offered: its package, jax2onnx, takes 300 MB and writes few of the networks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import util
from pathlib import Path
from typing import Any

import keras
import numpy as np

from fullyconv import _keras
from fullyconv._openvino_core import core
from fullyconv.engine import openvino_graph

Arrays = list[np.ndarray]
Example = Callable[[], Arrays]
Write = Callable[[keras.Model, Path, Example], None]
Run = Callable[[Arrays], Arrays]


@dataclass(frozen=True)
class Way:
    """How a backend writes a format.

    Args:
        write: Writes a model to a path; the third argument makes an example of its inputs.
        packages: What it imports, and what installs that.
    """

    write: Write
    packages: Mapping[str, str] = field(default_factory=dict)

    @property
    def missing(self) -> dict[str, str]:
        """The packages that are not installed."""
        return {name: extra for name, extra in self.packages.items() if util.find_spec(name) is None}


@dataclass(frozen=True)
class Format:
    """A format.

    Args:
        ending: What its files' names end in; empty for a folder.
        ways: How each backend that can writes it.
        open: What runs a file of it, given the model it was made from.
        hint: What its user has to know.
    """

    ending: str
    ways: Mapping[str, Way]
    open: Callable[[Path, keras.Model], Run]
    hint: str = ""


def signature(model: keras.Model) -> list[Any]:
    """What the model takes, sizes and batch left open, in the way Keras's exporters are told."""
    specs = keras.tree.map_structure(
        lambda t: keras.layers.InputSpec(shape=(None, *t.shape[1:]), dtype=t.dtype, name=t.name),
        _keras.input_structure(model),
    )
    return [specs]


def _by_keras(kind: str, **options: Any) -> Write:
    """Keras's own exporter."""

    def write(model: keras.Model, path: Path, _: Example) -> None:
        with _keras.normalization_by_arrays(model):
            model.export(str(path), format=kind, verbose=False, input_signature=signature(model), **options)

    return write


def _litert(model: keras.Model, path: Path, example: Example) -> None:
    """Keras's exporter, held to LiteRT's own operations, so that the file runs without parts of TensorFlow."""
    import tensorflow as tf  # noqa: PLC0415  present on this backend only

    builtins = {"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS]}
    _by_keras("litert", target_spec=builtins)(model, path, example)


def _openvino(model: keras.Model, path: Path, _: Example) -> None:
    """The graph that the engine runs."""
    import openvino as ov  # noqa: PLC0415  other backends run without OpenVINO

    ov.serialize(openvino_graph(model, _keras.output_names(model)), str(path))


def _onnx_of_torch(model: keras.Model, path: Path, example: Example) -> None:
    """PyTorch's own exporter, at the size of the example: it takes a size for fixed where a map has a single cell."""
    import torch  # noqa: PLC0415  present on this backend only

    structure, tensors = _keras.input_structure(model), keras.tree.flatten(_keras.input_structure(model))

    class Flat(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *flat: Any) -> tuple[Any, ...]:
            outputs = self.model(keras.tree.pack_sequence_as(structure, list(flat)), training=False)
            return tuple(keras.tree.flatten(outputs))

    open_sizes = [{i: torch.export.Dim.DYNAMIC for i, n in enumerate(t.shape) if n is None} for t in tensors]
    was_training = model.training
    with torch.no_grad():
        torch.onnx.export(
            Flat().eval(),
            tuple(keras.ops.convert_to_tensor(a) for a in example()),
            str(path),
            input_names=[t.name for t in tensors],
            output_names=_keras.output_names(model),
            dynamic_shapes={"flat": tuple(open_sizes)},
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    model.train(was_training)


def _openvino_file(path: Path, _: keras.Model) -> Run:
    compiled = core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda arrays: list(compiled(arrays).to_tuple())


def _onnx_file(path: Path, model: keras.Model) -> Run:
    """ONNX Runtime where it is installed, else OpenVINO, which reads ONNX too."""
    if util.find_spec("onnxruntime") is None:
        return _openvino_file(path, model)
    import onnxruntime  # noqa: PLC0415  an extra

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised too
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [x.name for x in session.get_inputs()]
    return lambda arrays: session.run(None, dict(zip(names, arrays, strict=True)))


def _litert_file(path: Path, model: keras.Model) -> Run:
    """LiteRT's own interpreter where it is installed, else TensorFlow's copy of it."""
    if util.find_spec("ai_edge_litert") is not None:
        from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415  an extra
    else:
        import tensorflow as tf  # noqa: PLC0415  present where this format is written

        Interpreter = tf.lite.Interpreter  # noqa: N806  a class
    interpreter = Interpreter(model_path=str(path))
    run = interpreter.get_signature_runner(next(iter(interpreter.get_signature_list())))
    names, results = _by_number(run.get_input_details()), _by_number(run.get_output_details())
    expected = [t.name for t in keras.tree.flatten(_keras.input_structure(model))]
    names = expected if set(expected) == set(names) else names

    def runner(arrays: Arrays) -> Arrays:
        found = run(**dict(zip(names, arrays, strict=True)))
        return [found[name] for name in results]

    return runner


def _by_number(names: Sequence[str] | Mapping[str, Any]) -> list[str]:
    """Names in the order of the numbers they end in, such as output_2 before output_10."""
    return sorted(names, key=lambda name: (len(name.rstrip("0123456789")) == len(name), len(name), name))


def _saved_model(path: Path, model: keras.Model) -> Run:
    import tensorflow as tf  # noqa: PLC0415  present where this format is written

    loaded, structure = tf.saved_model.load(str(path)), _keras.input_structure(model)

    def run(arrays: Arrays) -> Arrays:
        tensors = [tf.constant(a) for a in arrays]
        outputs = loaded.serve(keras.tree.pack_sequence_as(structure, tensors))
        return [np.asarray(y) for y in keras.tree.flatten(outputs)]

    return run


_TENSORFLOW = {"tensorflow": "fullyconv[tensorflow]"}

FORMATS: dict[str, Format] = {
    "litert": Format(".tflite", {"tensorflow": Way(_litert)}, _litert_file),
    "onnx": Format(
        ".onnx",
        {
            "tensorflow": Way(_by_keras("onnx"), {"tf2onnx": "fullyconv[export]"}),
            "torch": Way(_onnx_of_torch, {"onnxscript": "fullyconv[export]"}),
        },
        _onnx_file,
    ),
    "openvino": Format(
        ".xml",
        {"openvino": Way(_openvino), "tensorflow": Way(_by_keras("openvino"), {"openvino": "openvino"})},
        _openvino_file,
        "Some CPUs compute it in bfloat16 unless it is compiled with INFERENCE_PRECISION_HINT=f32, as it was here.",
    ),
    "tf_saved_model": Format(
        "",
        {
            "tensorflow": Way(_by_keras("tf_saved_model")),
            "jax": Way(_by_keras("tf_saved_model", jax2tf_kwargs={"with_gradient": False}), _TENSORFLOW),
        },
        _saved_model,
    ),
}
