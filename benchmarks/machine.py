"""The machine and the versions that a figure was measured with."""

import compileall
import os
import platform
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    *("batchdigit", "numpy", "onnxruntime", "opencv-python-headless", "pillow"),
    *("torch", "torchvision", "lightning", "ray", "timm"),
)


def compile_packages(repository: Path = Path(__file__).parents[1]) -> None:
    """Compile the packages that are timed, as pip does when it installs a package.

    Python itself may be forbidden to store compiled files (PYTHONDONTWRITEBYTECODE).
    """
    for package in ("batchdigit", "benchmarks", "tests"):
        compileall.compile_dir(repository / package, quiet=1)


def machine() -> dict[str, Any]:
    return {
        "date": date.today().isoformat(),
        "cores": os.cpu_count(),
        "processor": _processor(),
        "memory GiB": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": _versions(),
    }


def in_words(facts: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    return (
        f"{facts['date']}, {facts['cores']} cores ({facts['processor']}), "
        f"{facts['memory GiB']} GiB, Python {facts['python']}, {versions}"
    )


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    for line in cpuinfo.read_text().splitlines() if cpuinfo.exists() else ():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _versions() -> dict[str, str]:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
