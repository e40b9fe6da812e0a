"""Environments in which users have the command: python tests/users/environments.py FOLDER

The package is built as a wheel and installed into three virtual environments:

name             what `pip install` would bring
alone            fullyconv                                   OpenVINO is the only backend
no-tensorflow    fullyconv[demo,export,jax,scan,torch]       JAX and PyTorch, and no TensorFlow
full             all of that and fullyconv[tensorflow]       all four backends

The packages beside the wheel are those of the running environment, linked: of each, what its metadata and the wheel's
ask for, and nothing else. So a dependency that is used and not declared is missing here, as it would be for a user,
and nothing is downloaded or copied a second time.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

EXTRAS = {
    "alone": (),
    "no-tensorflow": ("demo", "export", "jax", "scan", "torch"),
    "full": ("demo", "export", "jax", "scan", "tensorflow", "torch"),
}
PROJECT = Path(__file__).resolve().parents[2]


def make(folder: Path) -> None:
    """Build the wheel and make the environments, all anew."""
    built = folder / "wheel"
    for old in built.glob("*.whl"):
        old.unlink()
    _pip(sys.executable, "wheel", "--no-deps", "--wheel-dir", str(built), str(PROJECT))
    (wheel,) = built.glob("*.whl")
    for name, extras in EXTRAS.items():
        environment = folder / name
        venv.create(environment, clear=True, with_pip=False)
        python = str(environment / "bin" / "python")
        site = Path(_output(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"))
        _pip(sys.executable, "--python", python, "install", "--no-deps", str(wheel))
        for path in _needed("fullyconv", extras, site):
            link = site / path.name
            if not link.exists():
                link.symlink_to(path)


def _needed(name: str, extras: tuple[str, ...], site: Path) -> Iterator[Path]:
    """The files and folders of all packages that a package asks for, directly or through another."""
    first = next(iter(metadata.distributions(name=name, path=[str(site)])))
    seen, waiting = {(canonicalize_name(name), extras)}, [(first, extras)]
    while waiting:
        distribution, wanted = waiting.pop()
        for line in distribution.requires or ():
            requirement = Requirement(line)
            marker, key = requirement.marker, (canonicalize_name(requirement.name), tuple(sorted(requirement.extras)))
            asked = marker is None or any(marker.evaluate({"extra": extra}) for extra in wanted or ("",))
            if not asked or key in seen:
                continue
            seen.add(key)
            found = metadata.distribution(requirement.name)
            waiting.append((found, key[1]))
            yield from _top_level(found)


def _top_level(distribution: metadata.Distribution) -> Iterator[Path]:
    """What a package has in site-packages itself."""
    tops = {path.parts[0] for path in distribution.files or () if path.parts[0] not in ("..", "__pycache__")}
    yield from (Path(str(distribution.locate_file(top))) for top in sorted(tops))


def _pip(python: str, *arguments: str) -> None:
    subprocess.run([python, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments], check=True)


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    make(Path(sys.argv[1]).absolute())
