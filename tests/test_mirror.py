"""Tests mirror modules, so whoever changes a module knows which tests to look at."""

from pathlib import Path

from tests.support.samples import REPOSITORY

TESTED_ELSEWHERE = {
    "backends/base.py": "protocols, fulfilled in test_onnx_backend.py and test_torch_backend.py",
    "engines/base.py": "a protocol, fulfilled in test_local.py and test_seams.py",
    "sources/base.py": "a protocol, fulfilled in test_folder.py and test_seams.py",
    "cli/run_options.py": "declarations, in test_app.py and test_run.py",
}


def modules(package: Path) -> set[str]:
    return {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if path.name != "__init__.py"
    }


def test_every_module_has_tests_of_its_own() -> None:
    package, tests = REPOSITORY / "batchdigit", REPOSITORY / "tests"
    untested = {
        name
        for name in modules(package)
        if not (tests / name).with_name(f"test_{Path(name).stem.strip('_')}.py").exists()
    }
    assert untested == set(TESTED_ELSEWHERE)
