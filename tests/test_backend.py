"""Which backend Keras will use, asked without importing it."""

import json
from pathlib import Path

import keras  # noqa: F401
import pytest

from fullyconv import backend
from fullyconv.errors import BackendError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.delenv("KERAS_BACKEND")
    return tmp_path


@pytest.fixture
def only_openvino(monkeypatch: pytest.MonkeyPatch):
    """A machine with OpenVINO alone, before Keras is imported."""
    monkeypatch.setattr(backend, "is_installed", lambda name: name == "openvino")
    monkeypatch.setattr(backend.sys, "modules", {})


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (None, "tensorflow"),
        ('{"backend": "jax"}', "jax"),
        ("{}", "tensorflow"),
        ("[]", "tensorflow"),
        ("{", "tensorflow"),
    ],
)
def test_configured(home: Path, text: str | None, name: str):
    if text is not None:
        (home / "keras.json").write_text(text)
    assert backend.configured() == name


def test_chosen(monkeypatch: pytest.MonkeyPatch):
    assert backend.chosen() is None
    monkeypatch.setenv("KERAS_BACKEND", "")
    assert backend.chosen() is None
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    assert backend.chosen() == "torch"


def test_settings_below_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("KERAS_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".keras").mkdir()
    (tmp_path / ".keras" / "keras.json").write_text(json.dumps({"backend": "torch"}))
    assert backend.configured() == "torch"


def test_installed():
    assert backend.is_installed("openvino")
    assert not backend.is_installed("cntk")


def test_nothing_is_missing_once_keras_is_there(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("KERAS_BACKEND", "cntk")
    backend.require()


@pytest.mark.parametrize(
    ("variable", "settings", "message"),
    [
        (
            None,
            None,
            "Keras is to use the backend 'tensorflow' (its default, and KERAS_BACKEND is not set), which is not "
            "installed: pip install 'fullyconv[tensorflow]' or set KERAS_BACKEND to openvino.",
        ),
        (
            None,
            "jax",
            "Keras is to use the backend 'jax' (its settings name it, and KERAS_BACKEND is not set), which is not "
            "installed: pip install 'fullyconv[jax]' or set KERAS_BACKEND to openvino.",
        ),
        (
            "torch",
            "jax",
            "Keras is to use the backend 'torch' (KERAS_BACKEND names it), which is not installed: "
            "pip install 'fullyconv[torch]' or set KERAS_BACKEND to openvino.",
        ),
        (
            "cntk",
            None,
            "Keras is to use the backend 'cntk' (KERAS_BACKEND names it), which is not one of the four fullyconv works "
            "with: set KERAS_BACKEND to openvino.",
        ),
    ],
)
@pytest.mark.usefixtures("only_openvino")
def test_missing(home: Path, monkeypatch: pytest.MonkeyPatch, variable: str | None, settings: str | None, message: str):
    if variable:
        monkeypatch.setenv("KERAS_BACKEND", variable)
    if settings:
        (home / "keras.json").write_text(json.dumps({"backend": settings}))
    with pytest.raises(BackendError, match="Keras is to use") as caught:
        backend.require()
    assert str(caught.value) == message


def test_none_at_all(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(backend, "is_installed", lambda _: False)
    monkeypatch.setattr(backend.sys, "modules", {})
    with pytest.raises(BackendError, match=r": pip install 'fullyconv\[tensorflow\]'\.$"):
        backend.require()
