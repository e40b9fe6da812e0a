"""The doctor, --version and completion, which run in processes of their own: nothing may import Keras."""

import os
import re
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import pytest

from fullyconv import backend, doctor


def process(*arguments: str, **variables: str | None) -> subprocess.CompletedProcess[str]:
    """The command; a variable that is None is unset."""
    unset = dict.fromkeys((*doctor.THREADS, *doctor.BLAS))
    merged = {**os.environ, **unset, **variables}
    environment = {name: value for name, value in merged.items() if value is not None}
    command = [sys.executable, "-m", "fullyconv", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def section(text: str, heading: str) -> list[str]:
    """The lines below a heading."""
    parts = [part.splitlines() for part in text.strip().split("\n\n")]
    return next(([line.strip() for line in lines[1:]] for lines in parts if lines[0].startswith(heading)), [])


def fake(folder: Path, package: str, code: str) -> str:
    """A package that comes before the real one; its folder, for PYTHONPATH."""
    (folder / package).mkdir()
    (folder / package / "__init__.py").write_text(code)
    return str(folder)


@pytest.mark.once
def test_what_it_says_and_how_long_it_takes(tmp_path: Path):
    start = time.perf_counter()
    done = process("doctor", KERAS_BACKEND="openvino", KERAS_HOME=str(tmp_path))
    assert time.perf_counter() - start < 3
    assert (done.returncode, done.stderr) == (0, "")
    own = section(done.stdout, f"fullyconv {metadata.version('fullyconv')}")
    assert f"keras       {metadata.version('keras')}" in own
    rows = {line.split()[0]: line for line in section(done.stdout, "Keras backends")}
    assert set(rows) == set(backend.PACKAGES)
    assert re.search(r"openvino +\d+\.\d+\.\d+ +the engine's; devices: CPU \(.+\)", rows["openvino"])
    assert section(done.stdout, "Backend in use") == ["openvino (KERAS_BACKEND names it)", "engine: OpenVINO"]
    assert {line.split()[0] for line in section(done.stdout, "Extras")} == set(doctor.EXTRAS)
    assert re.match(r"\w+ \w+, \d+ cores", section(done.stdout, "Machine")[0])
    assert done.stdout.endswith("\nNothing is wrong.\n")
    assert not list(tmp_path.iterdir()), "Keras's settings were written"


@pytest.mark.once
def test_it_imports_no_backend_but_openvino():
    code = (
        "import sys; from fullyconv import doctor; doctor.diagnose(); doctor.summary(); "
        "assert not {'keras', 'jax', 'tensorflow', 'torch'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_extra_is_known():
    extras = set(metadata.metadata("fullyconv").get_all("Provides-Extra") or ())
    to_work_on_fullyconv = {"bench", "browser", "dev", "docs", "examples", "hub"}
    assert extras - to_work_on_fullyconv == {*doctor.EXTRAS, *backend.PACKAGES} - {"openvino"}


@pytest.mark.once
def test_a_broken_engine(tmp_path: Path):
    path = fake(tmp_path, "openvino", 'raise ImportError("no libopenvino.so\\nand more")')
    done = process("doctor", KERAS_BACKEND="openvino", PYTHONPATH=path)
    known = metadata.version("openvino")
    assert done.returncode == 1
    assert section(done.stdout, "Problems") == [
        f"openvino {known} is broken: ImportError: no libopenvino.so.  pip install --force-reinstall openvino"
    ]
    other = process("doctor", KERAS_BACKEND="jax", PYTHONPATH=path)
    assert other.returncode == 0
    assert "broken: ImportError: no libopenvino.so" in other.stdout
    assert section(other.stdout, "Backend in use") == ["jax (KERAS_BACKEND names it)", "engine: Keras's own predict"]


@pytest.mark.once
def test_a_backend_that_does_not_start(tmp_path: Path):
    path = fake(tmp_path, "keras", 'raise ImportError("half of it is gone")')
    done = process("doctor", "--start", KERAS_BACKEND="jax", PYTHONPATH=path)
    assert done.returncode == 1
    assert section(done.stdout, "Problems") == [
        "Keras does not start on jax: ImportError: half of it is gone  pip install --force-reinstall 'fullyconv[jax]'"
    ]


@pytest.mark.once
def test_a_backend_that_starts():
    done = process("doctor", "--start", KERAS_BACKEND="openvino")
    assert done.returncode == 0, done.stdout
    assert section(done.stdout, "Backend in use")[-1] == "Keras starts on it"


@pytest.mark.parametrize(
    ("chosen", "settings", "in_use", "oddities", "problems"),
    [
        (
            "cntk",
            None,
            "cntk (KERAS_BACKEND names it)",
            [],
            ["The backend cntk is none of the four fullyconv works with.  export KERAS_BACKEND=openvino"],
        ),
        (
            None,
            '{"backend": "cntk"}',
            "openvino in the command, as cntk (HOME/keras.json names it, and KERAS_BACKEND is not set) "
            "is not installed",
            ["In Python, Keras will look for cntk and fail.  export KERAS_BACKEND=openvino"],
            [],
        ),
        (
            None,
            '{"backend": "jax"}',
            "jax (HOME/keras.json names it, and KERAS_BACKEND is not set)",
            [],
            [],
        ),
        (
            None,
            "jax",
            "tensorflow (HOME/keras.json names it, and KERAS_BACKEND is not set)",
            ["HOME/keras.json is no JSON object, so Keras ignores it.  Correct or remove it."],
            [],
        ),
        (None, None, "tensorflow (Keras's default, as KERAS_BACKEND is not set)", [], []),
    ],
)
def test_which_backend_and_why(
    chosen: str | None,
    settings: str | None,
    in_use: str,
    oddities: list[str],
    problems: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    for name in (*doctor.THREADS, *doctor.BLAS, backend.VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(doctor, "_memory", lambda: (0, 0))
    if chosen:
        monkeypatch.setenv(backend.VARIABLE, chosen)
    if settings:
        (tmp_path / "keras.json").write_text(settings)
    found = doctor.diagnose()
    text = [line.replace(str(tmp_path), "HOME") for line in (found.sections["Backend in use"][0], *found.oddities)]
    assert text == [in_use, *oddities]
    assert list(found.problems) == problems


def test_packages_that_are_missing_or_too_old(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(backend.VARIABLE, "openvino")
    known = {"keras": "3.2.0", "pillow": None}
    real = doctor.version
    monkeypatch.setattr(doctor, "version", lambda name: known[name] if name in known else real(name))
    assert list(doctor.diagnose().problems) == [
        "keras 3.2.0 is older than 3.15, the least that was tried.  pip install 'keras>=3.15'",
        "pillow is not installed.  pip install 'pillow>=11'",
    ]


def test_fullyconv_that_is_not_installed(monkeypatch: pytest.MonkeyPatch):
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    monkeypatch.setattr(metadata, "requires", missing)
    found = doctor.diagnose()
    assert found.problems[0] == (
        "fullyconv is found, but not installed, so what it needs is not known.  pip install fullyconv"
    )
    assert found.sections["Extras"] == ("not known",)


def test_backends_and_extras_that_are_missing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(backend.VARIABLE, "jax")
    monkeypatch.setattr(backend, "is_installed", lambda _: False)
    real = doctor.version
    monkeypatch.setattr(doctor, "version", lambda name: None if name == "zarr" else real(name))
    found = doctor.diagnose()
    assert found.sections["Keras backends"][0] == "jax         missing      pip install 'fullyconv[jax]'"
    assert found.sections["Extras"][-1] == (
        "scan        missing      maps as .tif and .zarr, images larger than memory: pip install 'fullyconv[scan]'"
    )
    assert found.problems == ("The backend jax is not installed.  pip install 'fullyconv[jax]'",)


def test_odd_threads_and_memory(monkeypatch: pytest.MonkeyPatch):
    for name in (*doctor.THREADS, *doctor.BLAS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(backend.VARIABLE, "openvino")
    monkeypatch.setattr(doctor, "_cores", lambda: 4)
    monkeypatch.setattr(doctor, "_memory", lambda: (4 * 10**9, 10**9))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("MKL_NUM_THREADS", "4")
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "64")
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Prescott")
    found = doctor.diagnose()
    assert found.oddities == (
        "OMP_NUM_THREADS=1 on 4 cores leaves cores idle.  unset OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS=64 on 4 cores makes threads wait for each other.  unset OPENBLAS_NUM_THREADS",
        "OPENBLAS_CORETYPE=Prescott can slow NumPy down, which chooses for itself.  unset OPENBLAS_CORETYPE",
        "1.0 GB of memory are free: converting VGG16 takes 1.2 GB.  Close other programs.",
    )
    assert "4 cores, 4.0 GB of memory, 1.0 GB of it free" in found.sections["Machine"][0]
    assert found.problems == ()


def test_version_names_backends_and_engine():
    start = time.perf_counter()
    done = process("--version", KERAS_BACKEND="openvino")
    assert time.perf_counter() - start < 2
    first, second, third, fourth, fifth = done.stdout.splitlines()
    assert first.startswith(f"fullyconv {metadata.version('fullyconv')} on Python 3.")
    assert second == f"keras: {metadata.version('keras')}"
    assert third.startswith("backends: ")
    assert f"openvino {metadata.version('openvino')}" in third
    assert (fourth, fifth) == ("in use: openvino (KERAS_BACKEND names it)", "engine: OpenVINO")


@pytest.mark.parametrize(
    ("typed", "completions"),
    [("fullyconv doc", ["doctor"]), ("fullyconv export x --for", ["--format"])],
)
def test_completion(typed: str, completions: list[str]):
    count = str(len(typed.split()) - 1)
    done = process(COMP_WORDS=typed, COMP_CWORD=count, _FULLYCONV_COMPLETE="complete_bash")
    assert done.stdout.split() == completions


@pytest.mark.once
def test_bash_completes_the_command(tmp_path: Path):
    """With the script that --show-completion prints, in a bash that asks as the Tab key does."""
    script = process("--show-completion", "bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1").stdout
    (tmp_path / "completion.sh").write_text(script)
    (tmp_path / "fullyconv").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m fullyconv "$@"\n')
    (tmp_path / "fullyconv").chmod(0o755)
    asked = (
        "source ./completion.sh; COMP_WORDS=(fullyconv heat); COMP_CWORD=1; "
        '_fullyconv_completion ./fullyconv; echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.stdout, done.stderr) == ("heatmap\n", "")


def test_help_names_all_of_it():
    text = " ".join(process("--help").stdout.split())
    for words in ("fullyconv doctor", "--install-completion", "--version Print the versions", "export Write the"):
        assert words in text
