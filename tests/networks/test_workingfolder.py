"""Of the working folder, only the user's module can be imported, and what that imports."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from batchdigit.networks.workingfolder import WorkingFolderFinder, working_folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    for name in ("wf_net", "wf_helper", "wf_other"):
        (tmp_path / f"{name}.py").write_text("WHERE = __file__\n")
    yield tmp_path
    sys.modules.pop("wf_net", None)


def is_found(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def test_all_modules_of_the_folder_are_found_while_the_users_is_imported(folder: Path) -> None:
    assert not is_found("wf_net")
    with working_folder("wf_net"):
        assert is_found("wf_net")
        assert is_found("wf_helper")
    assert str(folder) not in sys.path


@pytest.mark.usefixtures("folder")
def test_afterwards_those_that_were_asked_for_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    with working_folder("wf_net"):
        importlib.import_module("wf_net")
        assert is_found("wf_helper")
    assert is_found("wf_helper")
    assert not is_found("wf_other")


@pytest.mark.usefixtures("folder")
def test_nothing_is_left_behind_if_nothing_was_imported() -> None:
    before = [*sys.meta_path]
    with working_folder("wf_net"):
        assert any(isinstance(one, WorkingFolderFinder) for one in sys.meta_path)
    assert sys.meta_path == before


@pytest.mark.usefixtures("folder")
def test_folder_without_the_module_is_not_looked_into() -> None:
    before = [*sys.meta_path]
    with working_folder("wf_missing") as names:
        assert sys.meta_path == before
        assert names == set()


def test_installed_modules_come_first(folder: Path) -> None:
    (folder / "json.py").write_text("raise RuntimeError")
    with working_folder("json"):
        spec = importlib.util.find_spec("json")
    assert spec is not None
    assert str(folder) not in str(spec.origin)
