"""All that a run writes appears together, the report last."""

import errno
import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from batchdigit import Job, OutputError, UsageError, run
from batchdigit.system import publish
from batchdigit.system.signals import signals_as_exceptions
from tests.support.reports import OLD

Patch = pytest.MonkeyPatch


def on_rename_to(name: str, patch: Patch, *, error: int = 0, signum: int = 0) -> list[str]:
    """Fail, or send this process a signal, when a file gets its final name; return all renames."""
    renamed: list[str] = []

    def disturbed(put: Callable[[Path, Path], None], source: Path, target: Path) -> None:
        if target.name == name:
            if signum:
                os.kill(os.getpid(), signum)
            if error:
                raise OSError(error, os.strerror(error))
        put(source, target)
        renamed.append(target.name)

    # A file takes the place of another by a rename, and a free place by a link.
    for call in ("replace", "link"):
        patch.setattr(publish.os, call, partial(disturbed, getattr(os, call)))
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
    out.write_text(OLD)
    with monkeypatch.context() as patch, pytest.raises(OutputError, match="Input/output"):
        on_rename_to(name, patch, error=errno.EIO)
        run(Job((digits,), out, workers=0))
    assert out.read_text() == OLD
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
    out.write_text(OLD)
    on_rename_to("out.csv", monkeypatch, signum=signal.SIGTERM, error=errno.EIO)
    with pytest.raises(OutputError, match="Input/output"), signals_as_exceptions():
        run(Job((digits,), out, workers=1))
    assert out.read_text() == OLD


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


def test_report_of_somebody_else_is_found_before_any_work(
    tmp_path: Path, digits: Path, monkeypatch: Patch
) -> None:
    truth = "filename,label\n00.png,7\n"
    (tmp_path / "truth.csv").write_text(truth)
    with monkeypatch.context() as patch, pytest.raises(OutputError, match="add --force") as caught:
        patch.delattr("batchdigit.engines.local.open_backend")
        patch.delattr("batchdigit.reports.outputs.hold_output")
        run(Job((digits,), tmp_path / "truth.csv", wait=3600))
    assert caught.value.exit_code == 73
    assert (tmp_path / "truth.csv").read_text() == truth
    assert sorted(os.listdir(tmp_path)) == ["digits", "truth.csv"]
    run(Job((digits,), tmp_path / "truth.csv", workers=0, force=True))
    assert (tmp_path / "truth.csv").read_text().startswith("filename,prediction,")
    run(Job((digits,), tmp_path / "truth.csv", workers=0))  # it is ours by now


@pytest.mark.parametrize("name", ["out.csv", "out.csv.run.json"])
def test_file_that_appears_during_the_run_is_not_lost(
    tmp_path: Path, digits: Path, name: str
) -> None:
    def write(_done: int, _failed: int, _found: int) -> None:
        (tmp_path / name).write_text("precious")

    with pytest.raises(OutputError, match=f"{name} exists and is not"):
        run(Job((digits,), tmp_path / "out.csv", workers=0, batch_size=5), on_progress=write)
    assert (tmp_path / name).read_text() == "precious"
    assert not (tmp_path / ".out.csv.state").exists()  # nothing was published
    (tmp_path / name).unlink()
    assert run(Job((digits,), tmp_path / "out.csv", workers=0, batch_size=5)).resumed == 10


def test_report_is_no_image_of_the_source(digits: Path) -> None:
    before = (digits / "00.png").read_bytes()
    with pytest.raises(UsageError, match="--out"):
        run(Job((digits,), digits / "00.png", format="csv", force=True))
    assert (digits / "00.png").read_bytes() == before
    assert len(os.listdir(digits)) == 10
