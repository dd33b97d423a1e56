import fnmatch
import os
from pathlib import Path

import pytest

from batchdigit.places import (
    HALF_WRITTEN,
    account_path,
    beside,
    journal_path,
    lock_path,
    state_path,
)
from batchdigit.system.publish import Publication

PLACES = {
    account_path: "preds.csv.run.json",
    state_path: ".preds.csv.state",
    journal_path: ".preds.csv.journal",
    lock_path: ".preds.csv.lock",
}


@pytest.mark.parametrize(("place", "name"), PLACES.items())
def test_names_of_what_lies_beside_a_report(tmp_path: Path, place: object, name: str) -> None:
    assert place(tmp_path / "preds.csv") == tmp_path / name  # type: ignore[operator]


def test_names_differ_and_none_is_the_reports() -> None:
    names = {place(Path("a")) for place in PLACES}
    assert len(names | {Path("a").resolve()}) == len(PLACES) + 1


@pytest.mark.parametrize("target", ["there/real.csv", "there/not yet.csv"])
def test_they_lie_beside_the_file_that_a_link_leads_to(tmp_path: Path, target: str) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "real.csv").touch()
    (tmp_path / "link.csv").symlink_to(target)
    (tmp_path / "link to link.csv").symlink_to("link.csv")
    for link in ("link.csv", "link to link.csv"):
        name = os.path.basename(target)
        assert lock_path(tmp_path / link) == tmp_path / "there" / f".{name}.lock"


def test_relative_path_and_another_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    place = account_path(Path("preds.csv"))
    monkeypatch.chdir("/")
    assert place == tmp_path / "preds.csv.run.json"


def test_name_of_a_report_may_hold_braces(tmp_path: Path) -> None:
    assert beside(tmp_path / "{0}{}.csv", ".{}.x") == tmp_path / ".{0}{}.csv.x"


def test_file_that_is_being_written_is_known_by_its_name(tmp_path: Path) -> None:
    with Publication() as publication:
        publication.create(tmp_path / "preds.csv")
        (name,) = os.listdir(tmp_path)
        assert fnmatch.fnmatch(name, HALF_WRITTEN)
