"""Python, and the packages that stand in batchdigit's own metadata."""

from __future__ import annotations

import contextlib
import importlib
import platform
import re
import sys
from collections.abc import Iterator
from importlib import metadata

from batchdigit.doctor.checking import findings_apart
from batchdigit.doctor.findings import Earlier, Finding, ok, problem, warning
from batchdigit.job import Job
from batchdigit.reports.formats import choose_format
from batchdigit.version import __version__

Version = tuple[int, ...]

# By what is imported, for packages that are small enough to import here. Others have checks of
# their own.
MODULES = {
    "numpy": "numpy",
    "opencv-python-headless": "cv2",
    "pandas": "pandas",
    "pillow": "PIL",
    "prometheus-client": "prometheus_client",
    "pyarrow": "pyarrow",
    "safetensors": "safetensors",
    "tqdm": "tqdm",
    "typer": "typer",
}
# What a run can do without, and what for it cannot.
OPTIONAL = {
    "pandas": "batchdigit.predict",
    "prometheus-client": "--metrics",
    "pyarrow": "Parquet",
    "safetensors": "models in .safetensors",
    "torchvision": "batchdigit train",
}
_REQUIREMENT = re.compile(r"([\w.-]+)\s*\(?>=\s*([\d.]+)")
_RELEASE = re.compile(r"\d+(?:\.\d+)*")


def python(_job: Job, _earlier: Earlier) -> Iterator[Finding]:
    """Python's version against the one that is needed, where it is, and the platform."""
    text = f"{platform.python_version()} in {sys.prefix} on {platform.platform()}"
    try:
        needed = metadata.metadata("batchdigit")["Requires-Python"] or ""
    except metadata.PackageNotFoundError:
        needed = ""
    floor = _RELEASE.search(needed)
    if floor and sys.version_info[:2] < release(floor[0]):
        yield problem("python", text, f"make a virtual environment with Python {floor[0]}")
    else:
        yield ok("python", text)


def packages(job: Job, _earlier: Earlier) -> list[Finding]:
    """Packages that cannot be imported, or are older than they should be."""
    return findings_apart("packages", _packages, job)


def _packages(job: Job) -> Iterator[Finding]:
    floors = declared_floors()
    if not floors:
        yield warning(
            "packages",
            "batchdigit is not installed, so which versions it needs is not known",
            "pip install it from its folder",
        )
    needed = {"pyarrow"} if choose_format(job.out, job.format).name == "parquet" else set()
    fine = [f"batchdigit {__version__}"]
    faults = []
    for name, module in MODULES.items():
        try:
            version = _version(name, module)
        except Exception as error:  # noqa: BLE001  (whatever a damaged installation raises)
            remedy = f"pip install {_wanted(name, floors)}"
            if name in OPTIONAL and name not in needed:
                text = f"{name} is needed for {OPTIONAL[name]}, and cannot be loaded: {error}"
                faults.append(warning("packages", text, remedy))
            else:
                faults.append(problem("packages", f"cannot load {name}: {error}", remedy))
            continue
        fine.append(f"{name} {version}")
    faults += [*_too_old(floors), *_torchvision()]
    with contextlib.suppress(metadata.PackageNotFoundError):
        fine.append(f"torchvision {metadata.version('torchvision')}")
    yield from faults or [ok("packages", ", ".join(fine))]


def declared_floors() -> dict[str, str]:
    """The least version of each package, by the metadata of batchdigit; none where it has none."""
    try:
        requirements = metadata.requires("batchdigit") or []
    except metadata.PackageNotFoundError:
        return {}
    floors = {}
    for requirement in requirements:
        specifier, _, condition = requirement.partition(";")
        found = _REQUIREMENT.match(specifier)
        if found and (not condition or "'onnx'" in condition.replace('"', "'")):
            floors[found[1]] = found[2]
    return floors


def release(version: str) -> Version:
    """The numbers of a version, without what marks a build or a preview."""
    numbers = _RELEASE.match(version)
    return tuple(map(int, numbers[0].split("."))) if numbers else ()


def _version(name: str, module: str) -> str:
    """Raises whatever importing the module raises."""
    imported = importlib.import_module(module)
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:  # OpenCV comes in several packages
        return str(getattr(imported, "__version__", "of some version"))


def _too_old(floors: dict[str, str]) -> Iterator[Finding]:
    for name, floor in floors.items():
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        if release(version) < release(floor):
            yield warning(
                "packages",
                f"{name} {version} is older than {floor}, the oldest that batchdigit is made for",
                f"pip install {_wanted(name, floors)}",
            )


def _torchvision() -> Iterator[Finding]:
    """Whether it fits PyTorch. It is not imported, which takes seconds."""
    try:
        torch = metadata.version("torch")
    except metadata.PackageNotFoundError:  # which has a check of its own
        return
    try:
        torchvision = metadata.version("torchvision")
    except metadata.PackageNotFoundError:
        yield warning(
            "packages",
            f"torchvision is not installed; only {OPTIONAL['torchvision']} needs it",
            "pip install torchvision, from where torch came",
        )
        return
    builds = [version.partition("+")[2] for version in (torch, torchvision)]
    pins = [
        pin[1]
        for requirement in metadata.requires("torchvision") or []
        if (pin := re.match(r"torch\s*\(?==\s*([\d.]+)", requirement))
    ]
    if ("cpu" in builds and builds[0] != builds[1]) or any(
        release(pin) != release(torch) for pin in pins
    ):
        yield warning(
            "packages",
            f"torchvision {torchvision} does not fit torch {torch}; "
            f"only {OPTIONAL['torchvision']} needs it",
            "pip install both anew, in one command from one index",
        )


def _wanted(name: str, floors: dict[str, str]) -> str:
    return f"'{name}>={floors[name]}'" if name in floors else name
