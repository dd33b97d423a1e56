import sys
from pathlib import Path

import pytest

from batchdigit.doctor import packages
from batchdigit.doctor.findings import OK, PROBLEM, WARNING
from tests.support.doctor import check, examined_without_gpu
from tests.support.platforms import needs_linux


def test_package_that_cannot_be_loaded(tmp_path: Path) -> None:
    code, findings = examined_without_gpu(tmp_path, cv2="raise ImportError('libGL.so.1')")
    assert code == 1
    faults = [finding for finding in findings if finding.name == "packages"]
    assert [fault.status for fault in faults] == [PROBLEM]
    assert "cannot load opencv-python-headless: libGL.so.1" in faults[0].found
    assert findings[-1].name == "output"  # all checks were made


@needs_linux("checks run in forks, which inherit what is patched")
def test_package_that_only_some_runs_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (finding,) = check("packages")
    assert (finding.status, "Parquet" in finding.found) == (WARNING, True)
    (finding,) = check("packages", out=Path("preds.parquet"))
    assert finding.status == PROBLEM


@needs_linux("checks run in forks, which inherit what is patched")
def test_packages_that_are_too_old_or_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"numpy": "1.9.3", "pandas": "2.10", "torch": "2.10.0+cpu", "torchvision": "0.25.0"}
    needed = {
        "batchdigit": ["numpy>=1.26", "pandas>=2.2", "onnx>=1.18; extra == 'test'"],
        "torchvision": ["torch==2.10.0"],
    }

    def version(name: str) -> str:
        if name not in versions:
            raise packages.metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(packages.metadata, "version", version)
    monkeypatch.setattr(packages.metadata, "requires", needed.get)
    declared = packages.declared_requirements()
    assert {name: str(declared[name].specifier) for name in declared} == {
        "numpy": ">=1.26",
        "pandas": ">=2.2",
    }
    old, apart = check("packages")
    assert old.status == apart.status == WARNING
    assert old.found == "numpy 1.9.3 is installed, but batchdigit is made for numpy>=1.26"
    assert old.remedy == "pip install 'numpy>=1.26'"
    assert apart.found.startswith("torchvision 0.25.0 does not fit torch 2.10.0+cpu")

    versions |= {"numpy": "1.26", "torch": "2.10.0"}
    assert [finding.status for finding in check("packages")] == [OK]
    versions["torch"] = "2.11.0"
    (apart,) = check("packages")
    assert "does not fit torch 2.11.0" in apart.found
    del versions["torchvision"]
    (missing,) = check("packages")
    assert missing.found.startswith("torchvision is not installed")


def test_python_is_not_judged_where_the_needed_version_is_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (finding,) = check("python")
    assert finding.status == OK

    def missing(name: str) -> None:
        raise packages.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(packages.metadata, "metadata", missing)
    (finding,) = check("python")
    assert finding.status == OK


def test_python_that_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages.metadata, "metadata", lambda _: {"Requires-Python": ">=3.99"})
    (finding,) = check("python")
    assert (finding.status, "3.99" in finding.remedy) == (PROBLEM, True)


@pytest.mark.parametrize(
    ("version", "fits"),
    [
        ("2.10", True),
        ("2.10.0+cu130", True),
        ("2.10.0a0+git1a2b3c", True),  # as NVIDIA's containers have it
        ("2.10.0.dev20260101", True),
        ("2.9.1", False),
        ("2.9.1.post1", False),
        ("1!2.9", True),
        ("from somewhere", False),
    ],
)
def test_build_or_preview_of_a_version_counts_as_that_version(
    monkeypatch: pytest.MonkeyPatch, version: str, fits: bool
) -> None:
    monkeypatch.setattr(packages.metadata, "version", lambda _: version)
    monkeypatch.setattr(packages.metadata, "requires", {"batchdigit": ["torch>=2.10"]}.get)
    found = list(packages._unfit(packages.declared_requirements()))
    assert [finding.found for finding in found] == (
        [] if fits else [f"torch {version} is installed, but batchdigit is made for torch>=2.10"]
    )


@needs_linux("checks run in forks, which inherit what is patched")
def test_other_checks_are_made_without_the_package_that_reads_versions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in list(sys.modules):
        if name.partition(".")[0] == "packaging":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "packaging", None)
    for name in ("python", "packages"):
        (finding,) = check(name)
        assert finding.status == PROBLEM
        assert finding.found.startswith("cannot load a package: ")
        assert "packaging" in finding.found
    (finding,) = check("memory")
    assert finding.status != PROBLEM
