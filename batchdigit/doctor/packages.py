"""Python, and the packages that batchdigit's metadata names."""

from __future__ import annotations

import contextlib
import importlib
import platform
import sys
from collections.abc import Iterator
from importlib import metadata
from typing import TYPE_CHECKING

from batchdigit.doctor.checking import findings_apart
from batchdigit.doctor.findings import Earlier, Finding, ok, problem, warning
from batchdigit.job import Job
from batchdigit.reports.formats import choose_format
from batchdigit.system.working_folder import importing_elsewhere
from batchdigit.version import __version__

if TYPE_CHECKING:
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet

# Packages that are small enough to import here, and what to import. The others have checks of their
# own.
MODULES = {
    "msgspec": "msgspec",
    "numpy": "numpy",
    "opencv-python-headless": "cv2",
    "packaging": "packaging",
    "pandas": "pandas",
    "pillow": "PIL",
    "prometheus-client": "prometheus_client",
    "pyarrow": "pyarrow",
    "safetensors": "safetensors",
    "tqdm": "tqdm",
    "typer": "typer",
}
# Packages that a run can do without, and what needs them.
OPTIONAL = {
    "msgspec": "batchdigit bench",
    "pandas": "batchdigit.predict",
    "prometheus-client": "--metrics",
    "pyarrow": "Parquet",
    "safetensors": "models in .safetensors",
    "torchvision": "batchdigit train",
}
_EXTRAS = ("onnx", "heif")
# The package `packaging`, which only this file needs, is imported where it is used, so that the
# other checks are made without it, too.


def python(_job: Job, _earlier: Earlier) -> Iterator[Finding]:
    """Whether Python is new enough for batchdigit, as far as that is known."""
    text = f"{platform.python_version()} in {sys.prefix} on {platform.platform()}"
    try:
        needed = metadata.metadata("batchdigit")["Requires-Python"] or ""
    except metadata.PackageNotFoundError:
        needed = ""
    from packaging.specifiers import SpecifierSet

    # Not platform.python_version(), to which some Linux distributions append a plus sign.
    if _is_in(".".join(map(str, sys.version_info[:3])), SpecifierSet(needed)):
        yield ok("python", text)
    else:
        yield problem("python", text, f"make a virtual environment with Python {needed}")


def packages(job: Job, _earlier: Earlier) -> list[Finding]:
    """Whether packages can be imported, and have the versions that batchdigit is made for."""
    return findings_apart("packages", _packages, job)


def _packages(job: Job) -> Iterator[Finding]:
    declared = declared_requirements()
    if not declared:
        yield warning(
            "packages",
            "batchdigit is not installed, so it is not known which versions it needs",
            "pip install it from its folder",
        )
    needed = choose_format(job.out, job.format).packages
    fine = [f"batchdigit {__version__}"]
    faults = []
    for name, module in MODULES.items():
        try:
            version = _version(name, module)
        except Exception as error:  # noqa: BLE001  (whatever a damaged installation raises)
            remedy = f"pip install {_wanted(name, declared)}"
            if name in OPTIONAL and name not in needed:
                text = f"{name} is needed for {OPTIONAL[name]}, and cannot be loaded: {error}"
                faults.append(warning("packages", text, remedy))
            else:
                faults.append(problem("packages", f"cannot load {name}: {error}", remedy))
            continue
        fine.append(f"{name} {version}")
    faults += [*_unfit(declared), *_torchvision()]
    with contextlib.suppress(metadata.PackageNotFoundError):
        fine.append(f"torchvision {metadata.version('torchvision')}")
    yield from faults or [ok("packages", ", ".join(fine))]


def declared_requirements() -> dict[str, Requirement]:
    """What batchdigit's metadata requires of each package; empty where there is no metadata.

    Includes those of the extras that a run may use.
    """
    from packaging.requirements import Requirement

    try:
        declared = metadata.requires("batchdigit") or []
    except metadata.PackageNotFoundError:
        return {}
    return {
        requirement.name: requirement
        for requirement in map(Requirement, declared)
        if requirement.marker is None
        or any(requirement.marker.evaluate({"extra": extra}) for extra in _EXTRAS)
    }


def _is_in(version: str, specifier: SpecifierSet) -> bool:
    """Whether a version meets a specifier; builds and previews may count as the version itself."""
    from packaging.version import InvalidVersion, Version

    try:
        release = Version(version).base_version
    except InvalidVersion:
        return False
    return any(specifier.contains(each, prereleases=True) for each in (version, release))


def _version(name: str, module: str) -> str:
    """The version of a package. Raises whatever importing its module raises."""
    with importing_elsewhere():
        imported = importlib.import_module(module)
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:  # OpenCV comes in several packages
        return str(getattr(imported, "__version__", "of some version"))


def _unfit(declared: dict[str, Requirement]) -> Iterator[Finding]:
    for name, requirement in declared.items():
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        if not _is_in(version, requirement.specifier):
            yield warning(
                "packages",
                f"{name} {version} is installed, but batchdigit is made for "
                f"{name}{requirement.specifier}",
                f"pip install {_wanted(name, declared)}",
            )


def _torchvision() -> Iterator[Finding]:
    """Whether it fits PyTorch. It is not imported, because that takes seconds."""
    from packaging.requirements import Requirement
    from packaging.version import Version

    try:
        torch = metadata.version("torch")
    except metadata.PackageNotFoundError:  # PyTorch has a check of its own
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
    builds = [Version(version).local for version in (torch, torchvision)]
    required = map(Requirement, metadata.requires("torchvision") or [])
    pins = [requirement.specifier for requirement in required if requirement.name == "torch"]
    if ("cpu" in builds and builds[0] != builds[1]) or not all(_is_in(torch, pin) for pin in pins):
        yield warning(
            "packages",
            f"torchvision {torchvision} does not fit torch {torch}; "
            f"only {OPTIONAL['torchvision']} needs it",
            "pip install both again, in one command from one index",
        )


def _wanted(name: str, declared: dict[str, Requirement]) -> str:
    return f"'{name}{declared[name].specifier}'" if name in declared else name
