"""What is installed, which backend will be used and why, and what is odd about it: found without importing Keras.

Versions are read from the packages' metadata. Of the backends only OpenVINO is imported, for its devices; what is
broken inside another shows when it is tried, which `try_backend` does in a process of its own.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

from fullyconv import backend
from fullyconv._openvino_core import core

# What may provide a backend's module, the usual package first.
PROVIDERS = {
    "jax": ("jax",),
    "openvino": ("openvino", "openvino-nightly"),
    "tensorflow": ("tensorflow", "tensorflow-cpu", "tensorflow-macos", "tf-nightly"),
    "torch": ("torch",),
}
# What each extra is for; those of the backends and of the tools to work on fullyconv are not listed.
EXTRAS = {
    "demo": "the trained network and photos of fullyconv demo",
    "export": "writing ONNX with fullyconv export",
    "scan": "maps as .tif and .zarr, images larger than memory",
}
BROKEN = "broken: "
LITTLE_MEMORY = 2 * 10**9  # converting VGG16, the largest network tried, takes 1.2 GB
FOR_OPENVINO = ("openvino", "scipy")  # the other backends run without them
THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
)
BLAS = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")


@dataclass(frozen=True)
class Diagnosis:
    """What was found.

    Args:
        sections: Headings, each with its lines.
        problems: What keeps fullyconv from running, each with what to do.
        oddities: What does not, but is worth knowing.
    """

    sections: Mapping[str, tuple[str, ...]]
    problems: tuple[str, ...]
    oddities: tuple[str, ...]

    def __str__(self) -> str:
        """All of it, as text."""
        parts = [f"{heading}\n" + "\n".join(f"  {line}" for line in lines) for heading, lines in self.sections.items()]
        if self.oddities:
            parts.append("Worth knowing\n" + "\n".join(f"  {line}" for line in self.oddities))
        verdict = "Problems\n" + "\n".join(f"  {line}" for line in self.problems)
        return "\n\n".join([*parts, verdict if self.problems else "Nothing is wrong."])


def diagnose(start: bool = False) -> Diagnosis:
    """What is installed and missing, which backend will be used, and what is odd about the machine.

    Args:
        start: Start Keras on that backend too, in a process of its own, where nothing else is wrong.
    """
    problems = [*_unmet(), *_no_backend()]
    tried = start and not problems
    problems += [failure] if tried and (failure := try_backend()) else []
    sections = {
        f"fullyconv {version('fullyconv') or '(not installed)'}": tuple(_base()),
        "Keras backends": tuple(_backends()),
        "Backend in use": (
            in_use(),
            f"engine: {_engine()}",
            *(["Keras starts on it"] if tried and not problems else []),
        ),
        "Extras": tuple(_extras()) or ("not known",),
        "Machine": tuple(_machine()),
    }
    return Diagnosis(sections, tuple(problems), (*_settings(), *_limits()))


def version(package: str) -> str | None:
    """A package's version, or None where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def summary() -> str:
    """The versions in a few lines."""
    found = [f"{name} {known}" for name in backend.PACKAGES if (known := backend_version(name))]
    return (
        f"fullyconv {version('fullyconv')} on Python {platform.python_version()}\n"
        f"keras: {version('keras') or 'missing'}\n"
        f"backends: {', '.join(found) or 'none'}\n"
        f"in use: {in_use()}\n"
        f"engine: {_engine()}"
    )


def backend_version(name: str) -> str | None:
    """The version of the package behind a backend, or None where it is not installed."""
    known = next((found for provider in PROVIDERS[name] if (found := version(provider))), None)
    if not backend.is_installed(name):
        return None
    return known or "of unknown version"


def in_use() -> str:
    """Which backend the command will use, and why."""
    name = backend.chosen() or backend.configured()
    if backend.chosen():
        reason = f"{backend.VARIABLE} names it"
    elif backend.settings_file().exists():
        reason = f"{backend.settings_file()} names it, and {backend.VARIABLE} is not set"
    else:
        reason = f"Keras's default, as {backend.VARIABLE} is not set"
    if name == _running():
        return f"{name} ({reason})"
    return f"{_running()} in the command, as {name} ({reason}) is not installed"


def _running() -> str:
    """The backend the command will use."""
    wanted = backend.chosen() or backend.configured()
    return wanted if backend.chosen() or backend.is_installed(wanted) else "openvino"


def _engine() -> str:
    return "OpenVINO" if _running() == "openvino" else "Keras's own predict"


def try_backend(seconds: float = 120) -> str | None:
    """What goes wrong when Keras is imported with the backend in use, or None where nothing does.

    Args:
        seconds: How long it may take.
    """
    environment = {**os.environ, backend.VARIABLE: _running()}
    code = "import keras; keras.ops.convert_to_numpy(keras.ops.ones((2, 2)) @ keras.ops.ones((2, 2)))"
    command = [sys.executable, "-c", code]
    try:
        done = subprocess.run(  # noqa: S603  its own interpreter, a fixed line
            command, capture_output=True, text=True, env=environment, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        return f"Keras on {_running()} did not start within {seconds:g} s."
    if done.returncode == 0:
        return None
    last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    fix = f"pip install --force-reinstall '{backend.PACKAGES[_running()][1]}'" if _running() in backend.PACKAGES else ""
    return f"Keras does not start on {_running()}: {last}  {fix}"


def _base() -> Iterator[str]:
    yield _row("python", platform.python_version(), sys.executable)
    for name, _ in _requirements(None):
        yield _row(name, version(name) or "missing")


def _backends() -> Iterator[str]:
    for name, (_, extra) in backend.PACKAGES.items():
        found = backend_version(name)
        if found is None:
            yield _row(name, "missing", f"pip install '{extra}'")
        else:
            yield _row(name, found, _devices() if name == "openvino" else "")


def _devices() -> str:
    """OpenVINO's devices, or what is wrong with it."""
    try:
        found = [
            f"{name} ({core().get_property(name, 'FULL_DEVICE_NAME').strip()})" for name in core().available_devices
        ]
    except Exception as error:  # noqa: BLE001  whatever it is, that is the diagnosis
        return f"{BROKEN}{type(error).__name__}: {error}".splitlines()[0]
    return f"the engine's; devices: {', '.join(found)}"


def _extras() -> Iterator[str]:
    for extra, purpose in EXTRAS.items() if version("fullyconv") else ():
        wanted = [name for name, _ in _requirements(extra)]  # none where the installation is older than the extra
        if not wanted or None in map(version, wanted):
            yield _row(extra, "missing", f"{purpose}: pip install 'fullyconv[{extra}]'")
        else:
            yield _row(extra, "installed", purpose)


def _machine() -> Iterator[str]:
    cores = _cores()
    total, free = _memory()
    memory = f", {total / 1e9:.1f} GB of memory" if total else ""
    yield f"{platform.system()} {platform.machine()}, {cores} cores{memory}" + (
        f", {free / 1e9:.1f} GB of it free" if free else ""
    )
    for name in (*THREADS, *BLAS, "XLA_FLAGS", "CUDA_VISIBLE_DEVICES"):
        if name in os.environ:
            yield f"{name}={os.environ[name]}"


def _cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory() -> tuple[int, int]:
    """Bytes of memory, and how many are free; 0 where the system does not say."""
    known: dict[str, int] = {}
    try:
        for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines():
            name, _, rest = line.partition(":")
            known[name] = int(rest.split()[0]) * 1024
    except (OSError, ValueError, IndexError):
        return 0, 0
    return known.get("MemTotal", 0), known.get("MemAvailable", 0)


def _requirements(extra: str | None) -> Iterator[tuple[str, str]]:
    """The packages that fullyconv asks for, or one of its extras does, each with its least version."""
    try:
        lines = metadata.requires("fullyconv") or []
    except metadata.PackageNotFoundError:
        return
    for line in lines:
        found = re.match(r"([\w.-]+)\s*(?:[>=]=\s*([\d.]+))?", line)
        marker = re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", line)
        if found and (marker[1] if marker else None) == extra:
            yield found[1], found[2] or "0"


def _unmet() -> Iterator[str]:
    """Packages that fullyconv cannot do without on the backend in use: missing, too old or broken."""
    if version("fullyconv") is None:
        yield "fullyconv is found, but not installed, so what it needs is not known.  pip install fullyconv"
    for name, least in _requirements(None):
        found = version(name)
        if name in FOR_OPENVINO and _running() != "openvino":
            continue
        if found is None:
            yield f"{name} is not installed.  pip install '{name}>={least}'"
        elif _numbers(found) < _numbers(least):
            yield f"{name} {found} is older than {least}, the least that was tried.  pip install '{name}>={least}'"
        elif util.find_spec({"pillow": "PIL"}.get(name, name)) is None:
            yield f"{name} {found} is broken: its files are gone.  pip install --force-reinstall {name}"
        elif name == "openvino" and (said := _devices()).startswith(BROKEN):
            yield f"{name} {found} is {said}.  pip install --force-reinstall {name}"


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(n) for n in re.findall(r"\d+", text.split("+", maxsplit=1)[0])[:3])


def _no_backend() -> Iterator[str]:
    name = _running()
    if backend.is_installed(name):
        return
    known = name in backend.PACKAGES
    problem = "is not installed" if known else "is none of the four fullyconv works with"
    others = [other for other in ("openvino", *backend.PACKAGES) if backend.is_installed(other)]
    fixes = [f"pip install '{backend.PACKAGES[name][1]}'"] if known else []
    fixes += [f"export {backend.VARIABLE}={others[0]}"] if others else []
    yield f"The backend {name} {problem}.  {' or '.join(fixes) or 'pip install fullyconv'}"


def _settings() -> Iterator[str]:
    """What is odd about how the backend is chosen."""
    wanted = backend.chosen() or backend.configured()
    if _running() != wanted:
        yield f"In Python, Keras will look for {wanted} and fail.  export {backend.VARIABLE}={_running()}"
    if not backend.chosen() and backend.settings_file().exists() and not backend.settings_are_readable():
        yield f"{backend.settings_file()} is no JSON object, so Keras ignores it.  Correct or remove it."


def _limits() -> Iterator[str]:
    """What is odd about memory and threads."""
    cores = _cores()
    for name in THREADS:
        given = os.environ.get(name, "")
        if given.isdigit() and int(given) != cores:
            effect = "leaves cores idle" if int(given) < cores else "makes threads wait for each other"
            yield f"{name}={given} on {cores} cores {effect}.  unset {name}"
    blas = [name for name in BLAS if name in os.environ]
    if blas:
        by_hand = " and ".join(f"{name}={os.environ[name]}" for name in blas)
        yield f"{by_hand} can slow NumPy down, which chooses for itself.  unset {' '.join(blas)}"
    free = _memory()[1]
    if 0 < free < LITTLE_MEMORY:
        yield f"{free / 1e9:.1f} GB of memory are free: converting VGG16 takes 1.2 GB.  Close other programs."


def _row(name: str, value: str, more: str = "") -> str:
    return f"{name:<11} {value:<12} {more}".rstrip()
