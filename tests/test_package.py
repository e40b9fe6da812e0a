"""The package's own shape: imports go one way, the public names are sorted and documented, nothing grows too large."""

import ast
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module, metadata
from pathlib import Path
from types import ModuleType

import keras
import pytest

import fullyconv
from fullyconv import errors

PACKAGE = Path(fullyconv.__file__).parent
ROOT = PACKAGE.parents[1]

# A module imports only modules above it.
ORDER = [
    *("errors", "backend", "_openvino_core", "doctor", "_lazy", "__init__"),
    *("printable", "files", "outputs", "geometry", "units", "preprocessing"),
    *("hdf5_heaps", "model_limits", "model_files", "facts"),
    *("_composite", "_keras", "_saved"),
    *("rules.rule", "rules.order", "rules.places", "rules.fragments", "rules.conv"),
    *("rules.pool", "rules.flatten", "rules.pointwise", "rules.dense", "rules.normalization", "rules.merge"),
    *("rules.channels", "rules.unconverted", "rules"),
    *("inputs", "walk", "finite", "work", "cost", "plan"),
    *("_layout", "_layout_rules", "_openvino", "engine"),
    *("convert", "reference", "logits", "verify", "formats", "export"),
    *("weight_files", "classifier_weights", "entering", "answers", "weight_sources"),
    *("leftovers", "matching", "dense_weights", "likeness"),
    *("replay", "restoration"),
    *("scaling", "patches", "picture_files", "images", "labels", "demo.statedict", "demo.pretrained", "pretrained"),
    *("colours", "drawing", "render"),
    *("placement", "detections", "map_files", "reading", "heatmap", "error_map"),
    *("field_picture", "layer_geometry", "receptive"),
    *("report", "comparison", "page.markup", "page.embedded", "page.figures", "page.sections", "page", "demo"),
    *(
        "cli.process",
        "cli.app",
        "cli.options",
        "cli.targets",
        "cli.conversion",
        "cli.pictures",
        "cli.restoration",
        "cli.reporting",
    ),
    *("cli.geometry", "cli.tools"),
    *("cli", "__main__"),
]


def modules() -> dict[str, Path]:
    """The package's modules, by their dotted names below it."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)] = path
    return found


def imported(path: Path) -> Iterator[str]:
    """The modules of the package that a file imports, at any place in it."""
    known = modules()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name.removeprefix("fullyconv.") in known else node.module for name in inner]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        below = [name.removeprefix("fullyconv.") for name in names if name.startswith("fullyconv.")]
        yield from (name for name in below if name in known)


def python(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a line of Python in a process of its own."""
    environment = {**os.environ, **variables}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)


def test_every_module_has_its_place():
    assert sorted(modules()) == sorted(set(ORDER) & set(modules())), "add the new module to ORDER"


def test_imports_go_one_way():
    place = {name: i for i, name in enumerate(ORDER)}
    wrong = [
        f"{name} imports {other}, which comes after it"
        for name, path in modules().items()
        for other in imported(path)
        if name != "__init__" and place[other] >= place[name]
    ]
    assert not wrong


def test_public_names_are_sorted_and_complete():
    assert fullyconv.__all__ == sorted(fullyconv.__all__)
    assert set(fullyconv.__all__) == set(fullyconv._homes)
    kinds = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}
    assert kinds <= set(fullyconv.__all__)


def test_type_checkers_see_the_same_names():
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name: node.module for node in ast.walk(block) for alias in getattr(node, "names", [])}
    assert seen == {name: f"fullyconv.{home}" for name, home in fullyconv._homes.items()}


@pytest.mark.parametrize("name", fullyconv.__all__)
def test_public_names_are_documented(name: str):
    value = getattr(fullyconv, name)
    assert value.__doc__
    assert value.__module__.startswith("fullyconv.")
    members = vars(value).items() if isinstance(value, type) else ()
    bare = [key for key, member in members if not key.startswith("_") and callable(member) and not member.__doc__]
    assert not bare


def test_unknown_names():
    with pytest.raises(AttributeError, match="module 'fullyconv' has no attribute 'nonsense'"):
        _ = fullyconv.nonsense
    assert set(fullyconv.__all__) <= set(dir(fullyconv))


@pytest.mark.parametrize("name", ["convert", "cost", "geometry", "heatmap", "plan", "reference", "verify"])
def test_functions_are_not_hidden_by_their_modules(name: str):
    module = import_module(f"fullyconv.{name}")
    assert isinstance(module, ModuleType)
    home = import_module(f"fullyconv.{fullyconv._homes[name]}")
    assert getattr(fullyconv, name) is getattr(home, name)


@pytest.mark.once
def test_a_module_imported_first_does_not_hide_its_function():
    names = ("convert", "cost", "geometry", "heatmap", "plan", "reference", "verify")
    done = python("".join(f"import fullyconv.{name}; fullyconv.{name}.__code__; " for name in names))
    assert done.returncode == 0, done.stderr


@pytest.mark.once
def test_import_is_quick_and_changes_nothing():
    code = (
        "import keras, os, time; before = dict(os.environ); start = time.perf_counter(); import fullyconv; "
        "print(time.perf_counter() - start); assert dict(os.environ) == before"
    )
    took = min(float(python(code).stdout) for _ in range(2))
    assert took < 0.1


@pytest.mark.once
@pytest.mark.parametrize("code", ["import fullyconv", "from fullyconv import convert", "import fullyconv.plan"])
def test_no_backend(code: str, tmp_path: Path):
    done = python(code, KERAS_BACKEND="cntk", KERAS_HOME=str(tmp_path))
    message = (
        r"fullyconv\.errors\.BackendError: Keras is to use the backend 'cntk' \(KERAS_BACKEND names it\), which is not "
        r"one of the four fullyconv works with: set KERAS_BACKEND to \w+(, \w+)*\."
    )
    assert done.returncode == 1
    assert re.fullmatch(message, done.stderr.splitlines()[-1])
    assert not list(tmp_path.iterdir()), "Keras's settings were written"


def test_version():
    version = metadata.version("fullyconv")
    assert f'version = "{version}"' in (ROOT / "pyproject.toml").read_text().splitlines()
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text()


def test_this_run_is_on_the_backend_that_was_asked_for():
    assert keras.backend.backend() == os.environ.get("KERAS_BACKEND", keras.backend.backend())


def bodies() -> dict[str, int]:
    """How many lines each function's body has, its docstring left out."""
    lengths = {}
    for name, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                body = node.body[ast.get_docstring(node) is not None :]
                lengths[f"{name}.{node.name}:{node.lineno}"] = body[-1].end_lineno - body[0].lineno + 1 if body else 0
    return lengths


def test_functions_are_short():
    lengths = bodies()
    in_order = sorted(lengths.values())
    assert {name: length for name, length in lengths.items() if length > 60} == {}
    assert statistics.median(in_order) <= 6
    assert in_order[len(in_order) * 9 // 10] <= 25


def test_modules_are_short():
    lengths = {name: len(path.read_text().splitlines()) for name, path in modules().items()}
    assert {name: length for name, length in lengths.items() if length > 400} == {}
