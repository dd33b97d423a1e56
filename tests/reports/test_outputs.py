"""All that a run writes appears together, the report last."""

import errno
import os
import signal
from pathlib import Path

import pytest

from batchdigit import Job, OutputError, run
from batchdigit.system import publish
from batchdigit.system.signals import signals_as_exceptions

Patch = pytest.MonkeyPatch


def on_rename_to(name: str, patch: Patch, *, error: int = 0, signum: int = 0) -> list[str]:
    """Fail, or send this process a signal, when a file gets its final name; return all renames."""
    renamed: list[str] = []
    replace = os.replace

    def disturbed(source: Path, target: Path) -> None:
        if target.name == name:
            if signum:
                os.kill(os.getpid(), signum)
            if error:
                raise OSError(error, os.strerror(error))
        replace(source, target)
        renamed.append(target.name)

    patch.setattr(publish.os, "replace", disturbed)
    return renamed


FILES = [".out.csv.state", "out.csv.run.json", "out.csv"]


def test_report_takes_its_place_last(tmp_path: Path, digits: Path, monkeypatch: Patch) -> None:
    renamed = on_rename_to("none", monkeypatch)
    run(Job((digits,), tmp_path / "out.csv", workers=0))
    assert renamed[-3:] == FILES


@pytest.mark.parametrize("name", FILES)
def test_old_report_stays_until_all_the_rest_is_in_its_place(
    tmp_path: Path, digits: Path, monkeypatch: Patch, name: str
) -> None:
    out = tmp_path / "out.csv"
    out.write_text("old")
    with monkeypatch.context() as patch, pytest.raises(OutputError, match="Input/output"):
        on_rename_to(name, patch, error=errno.EIO)
        run(Job((digits,), out, workers=0))
    assert out.read_text() == "old"
    assert run(Job((digits,), out, workers=0)).resumed == 10
    assert out.read_text().startswith("filename,")


@pytest.mark.parametrize("name", FILES)
def test_signal_while_all_is_put_in_its_place_comes_too_late(
    tmp_path: Path, digits: Path, monkeypatch: Patch, name: str
) -> None:
    out = tmp_path / "out.csv"
    on_rename_to(name, monkeypatch, signum=signal.SIGTERM)
    with signals_as_exceptions():
        summary = run(Job((digits,), out, workers=0))
    assert summary.predicted == 10
    assert sorted(os.listdir(tmp_path)) == sorted([*FILES, "digits"])


def test_signal_does_not_hide_that_nothing_was_published(
    tmp_path: Path, digits: Path, monkeypatch: Patch
) -> None:
    out = tmp_path / "out.csv"
    out.write_text("old")
    on_rename_to("out.csv", monkeypatch, signum=signal.SIGTERM, error=errno.EIO)
    with pytest.raises(OutputError, match="Input/output"), signals_as_exceptions():
        run(Job((digits,), out, workers=1))
    assert out.read_text() == "old"


def test_journal_that_cannot_be_removed_does_not_make_a_complete_report_an_error(
    tmp_path: Path, digits: Path, monkeypatch: Patch
) -> None:
    def fail(_journal: object) -> None:
        raise OutputError("no")

    monkeypatch.setattr("batchdigit.resume.journal.Journal._discard_runs", fail)
    assert run(Job((digits,), tmp_path / "out.csv", workers=0)).predicted == 10


@pytest.mark.parametrize("name", ["out.csv.run.json", ".out.csv.state", ".out.csv.lock"])
def test_what_leads_elsewhere_is_found_before_any_work(
    tmp_path: Path, digits: Path, monkeypatch: Patch, name: str
) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / name).symlink_to(tmp_path / "precious")
    monkeypatch.delattr("batchdigit.engines.local.open_backend")
    with pytest.raises(OutputError, match="is a symbolic link instead of a regular file") as caught:
        run(Job((digits,), tmp_path / "out.csv"))
    assert name in str(caught.value)
    assert (tmp_path / "precious").read_text() == "precious"
    assert not (tmp_path / "out.csv").exists()
