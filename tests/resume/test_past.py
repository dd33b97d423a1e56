"""Nothing is reused from a run that differed: neither from its journal nor from its report."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from batchdigit import GoneError, Job, run
from batchdigit.backends.onnx_backend import OnnxBackend
from batchdigit.engines import local
from batchdigit.job import PACKAGED_WEIGHTS
from batchdigit.resume import journal
from batchdigit.resume.journal import differences

Patch = pytest.MonkeyPatch
Change = Callable[[Path, Path, Patch], dict[str, Any]]


def another_model(folder: Path, _digits: Path, _patch: Patch) -> dict[str, Any]:
    state = torch.load(PACKAGED_WEIGHTS, weights_only=True)
    state["fc.4.bias"] += 1e-3
    torch.save(state, folder / "other.pt")
    return {"model": folder / "other.pt"}


def another_folder(folder: Path, digits: Path, _patch: Patch) -> dict[str, Any]:
    """With the same names, sizes and times."""
    shutil.copytree(digits, folder / "copy")
    return {"source": (folder / "copy",)}


def other_versions(_folder: Path, _digits: Path, patch: Patch) -> dict[str, Any]:
    other = local.versions() | {"pillow": "0"}
    patch.setattr(local, "versions", lambda _backend: other)
    return {}


def another_device(_folder: Path, _digits: Path, patch: Patch) -> dict[str, Any]:
    patch.setattr(OnnxBackend, "device", "cpu (another)")
    return {}


def option(**options: Any) -> Change:
    return lambda _folder, _digits, _patch: options


CHANGES: dict[str, tuple[str, Change]] = {
    "model": ("model", another_model),
    "folder": ("folder", another_folder),
    "versions": ("versions", other_versions),
    "device": ("device", another_device),
    "backend": ("--backend", option(backend="torch")),
    "precision": ("--precision", option(backend="torch", precision="bf16")),
    "topk": ("--topk or --probs", option(topk=3)),
    "preprocess": ("--preprocess", option(preprocess="exact")),
    "probs": ("--topk or --probs", option(probs=True)),
    "max-bytes": ("--max-bytes", option(max_bytes=100_000)),
    "max-pixels": ("--max-pixels", option(max_pixels=100_000)),
    "timeout": ("--timeout", option(timeout=3.0)),
    "save-fitted": (
        "--save-fitted",
        lambda folder, _digits, _patch: {"save_fitted": folder / "fitted"},
    ),
    "follow-symlinks": ("--follow-symlinks", option(follow_symlinks=True)),
}


@pytest.fixture(autouse=True)
def one_batch_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "SECONDS_IN_A_PART", 0.0)
    monkeypatch.setattr(journal, "SHARE_IN_A_PART", 0.0)


def options_of(digits: Path) -> dict[str, Any]:
    """The options of the run that each change is made to."""
    return {
        "source": (digits,),
        "workers": 0,
        "batch_size": 2,
        "backend": "onnxruntime",
        "device": "cpu",
    }


class Stopped(Exception):  # noqa: N818
    pass


def run_and_stop(job: Job) -> None:
    def stop(done: int, _failed: int, _found: int) -> None:
        if done >= 4:
            raise Stopped

    with pytest.raises(Stopped):
        run(job, on_progress=stop)


def changed_file(_folder: Path, digits: Path, _patch: Patch) -> dict[str, Any]:
    os.utime(digits / "09.png", (1e9, 1e9))
    return {}


def gone_file(_folder: Path, digits: Path, _patch: Patch) -> dict[str, Any]:
    (digits / "09.png").unlink()
    return {}


@pytest.mark.parametrize(
    ("name", "change"),
    [
        *CHANGES.values(),
        ("batch size", option(batch_size=3)),
        ("files", changed_file),
        ("files", gone_file),
    ],
    ids=[*CHANGES, "batch-size", "changed file", "gone file"],
)
def test_run_that_differed_is_not_continued(
    tmp_path: Path, digits: Path, monkeypatch: Patch, caplog: pytest.LogCaptureFixture,
    name: str, change: Change,
) -> None:  # fmt: skip
    options = options_of(digits)
    out = tmp_path / "out.csv"
    run_and_stop(Job(out=out, **options))
    options |= change(tmp_path, digits, monkeypatch)
    summary = run(Job(out=out, **options))
    assert summary.resumed == 0
    (message,) = [text for text in caplog.messages if "set aside" in text]
    assert name in message
    undisturbed = tmp_path / "undisturbed.csv"
    run(Job(out=undisturbed, **options))
    assert out.read_bytes() == undisturbed.read_bytes()


def test_the_same_run_is_continued(tmp_path: Path, digits: Path) -> None:
    """When nothing has changed, what the test above rules out does happen."""
    job = Job((digits,), tmp_path / "out.csv", workers=0, batch_size=2)
    run_and_stop(job)
    assert run(job).resumed >= 2


@pytest.mark.parametrize(("name", "change"), CHANGES.values(), ids=list(CHANGES))
def test_report_that_differed_is_not_reused(
    tmp_path: Path, digits: Path, monkeypatch: Patch, caplog: pytest.LogCaptureFixture,
    name: str, change: Change,
) -> None:  # fmt: skip
    options: dict[str, Any] = {
        "source": (digits,), "workers": 0, "update": True,
        "backend": "onnxruntime", "device": "cpu",
    }  # fmt: skip
    out = tmp_path / "out.csv"
    run(Job(out=out, **options))
    assert run(Job(out=out, **options)).reused == 10
    caplog.clear()
    summary = run(Job(out=out, **(options | change(tmp_path, digits, monkeypatch))))
    assert (summary.reused, summary.predicted) == (0, 10)
    assert name in caplog.text


def test_journal_of_an_update_is_bound_to_the_report_that_it_updates(
    tmp_path: Path, digits: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = options_of(digits)
    update = Job(out=tmp_path / "out.csv", update=True, **options)
    run(update)
    for number in range(6):
        os.utime(digits / f"{number:02}.png", (1e9, 1e9))
    run_and_stop(update)
    shutil.copytree(tmp_path / ".out.csv.journal", tmp_path / "kept")
    assert run(update).resumed >= 2  # the same report is updated
    for number in range(3):
        os.utime(digits / f"{number:02}.png", (2e9, 2e9))
    run(update)
    for number in range(3):  # the files match the journal again, the report does not
        os.utime(digits / f"{number:02}.png", (1e9, 1e9))
    shutil.move(tmp_path / "kept", tmp_path / ".out.csv.journal")
    assert run(update).resumed == 0
    assert "last report" in caplog.text


def bytes_below(folder: Path) -> dict[str, bytes]:
    """All files of the folder, the hidden ones too."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def take_away(digits: Path, count: int) -> None:
    """As if a share were not mounted: the first ``count`` files are hidden."""
    for path in sorted(digits.iterdir())[:count]:
        path.rename(path.with_name(f".{path.name}"))


@pytest.mark.parametrize(
    ("gone", "max_gone", "refused"),
    [
        (5, None, False),
        (6, None, True),
        (6, "60%", False),
        (6, "59.9%", True),
        (3, 3, False),
        (3, 2, True),
        (1, 0, True),
        (9, "100%", False),
    ],
)
def test_update_refuses_if_more_files_are_gone_than_tolerated(
    tmp_path: Path, digits: Path, monkeypatch: Patch, gone: int, max_gone: Any, refused: bool
) -> None:
    reports = tmp_path / "reports"
    reports.mkdir()
    job = Job((digits,), reports / "out.csv", workers=0, update=True, max_gone=max_gone)
    run(job)
    before = bytes_below(reports)
    take_away(digits, gone)
    if not refused:
        summary = run(job)
        assert summary.update is not None
        assert (summary.found, summary.update["gone"]) == (10 - gone, gone)
        return
    monkeypatch.setattr(OnnxBackend, "predictor", lambda *_: pytest.fail("computes"))
    with pytest.raises(GoneError, match=f"{gone} of the 10 files") as caught:
        run(job)
    assert "--max-gone 100%" in caught.value.remedy
    assert caught.value.exit_code == 74
    assert caught.value.counts == {
        "unchanged": 10 - gone, "new": 0, "changed": 0, "gone": gone, "retried": 0,
    }  # fmt: skip
    assert bytes_below(reports) == before


@pytest.mark.parametrize("fresh", [True, False])
def test_unfinished_update_does_not_get_files_past_the_check(
    tmp_path: Path, digits: Path, fresh: bool
) -> None:
    reports = tmp_path / "reports"
    reports.mkdir()
    options = options_of(digits) | {"out": reports / "out.csv", "update": True}
    run(Job(**options))
    for number in range(6, 10):
        os.utime(digits / f"{number:02}.png", (1e9, 1e9))
    take_away(digits, 6)
    run_and_stop(Job(**options, max_gone="100%"))  # as it would have been before there was a check
    before = bytes_below(reports)
    assert any(name.endswith(".part") for name in before)
    with pytest.raises(GoneError):
        run(Job(**options, fresh=fresh))
    assert bytes_below(reports) == before
    assert run(Job(**options, max_gone="100%")).resumed >= 2


@pytest.mark.parametrize("name", ["topk", "model", "versions", "follow-symlinks"])
def test_files_are_missed_though_no_row_can_be_reused(
    tmp_path: Path, digits: Path, monkeypatch: Patch, name: str
) -> None:
    options = options_of(digits) | {"out": tmp_path / "out.csv", "update": True}
    run(Job(**options))
    options |= CHANGES[name][1](tmp_path, digits, monkeypatch)
    take_away(digits, 6)
    with pytest.raises(GoneError, match="6 of the 10 files"):
        run(Job(**options))


@pytest.mark.parametrize("versions", [("1.0", "2.0"), ("1.0", ""), ("", "1.0")])
def test_files_are_missed_though_heic_is_decoded_anew(
    tmp_path: Path, digits: Path, monkeypatch: Patch, versions: tuple[str, str]
) -> None:
    (digits / "00.heic").touch()
    options = options_of(digits) | {"out": tmp_path / "out.csv", "update": True}
    monkeypatch.setattr("batchdigit.sources.folder.heif_version", lambda: versions[0])
    run(Job(**options))
    monkeypatch.setattr("batchdigit.sources.folder.heif_version", lambda: versions[1])
    for path in sorted(digits.glob("*.png"))[:9]:
        path.unlink()
    with pytest.raises(GoneError, match="9 of the 11 files"):
        run(Job(**options))


def test_files_are_missed_though_one_of_them_is_the_first_heic(
    tmp_path: Path, digits: Path, monkeypatch: Patch
) -> None:
    options = options_of(digits) | {"out": tmp_path / "out.csv", "update": True}
    monkeypatch.setattr("batchdigit.sources.folder.heif_version", lambda: "1.0")
    run(Job(**options))
    (digits / "new.heic").touch()
    take_away(digits, 9)
    with pytest.raises(GoneError, match="9 of the 10 files"):
        run(Job(**options))


def test_files_of_another_folder_are_not_missed(
    tmp_path: Path, digits: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = tmp_path / "other"
    shutil.copytree(digits, other)
    run(Job((digits,), tmp_path / "out.csv", workers=0))
    take_away(other, 9)
    assert run(Job((other,), tmp_path / "out.csv", workers=0, update=True)).found == 1
    assert "differs in folder" in caplog.text


@pytest.mark.parametrize(
    ("before", "now", "gone"),
    [
        ("a b", "a", 7),
        ("a b", "a b more", 0),
        ("", "a", 7),
        ("a", "", 0),
        ("a/deep", "a", 0),
        ("b", "", 0),
        ("b", "a", 0),
        ("", "b/07.png", 9),
        ("a/00.png a/01.png", "a/01.png b", 1),
    ],
)
def test_files_are_missed_though_one_folder_lies_in_the_other(
    tmp_path: Path, digits: Path, before: str, now: str, gone: int
) -> None:
    """``r/*/`` names another folder in common once only one of those in ``r`` is mounted."""
    root = tmp_path / "r"
    for number, path in enumerate(sorted(digits.iterdir())):
        folder = root / ("a" if number < 2 else "a/deep" if number < 3 else "b")
        folder.mkdir(parents=True, exist_ok=True)
        path.rename(folder / path.name)
    options = {"out": tmp_path / "out.csv", "workers": 0, "update": True}
    run(Job([root / name for name in before.split() or [""]], **options))
    shutil.copytree(root / "a", root / "more")
    options["source"] = [root / name for name in now.split() or [""]]
    if gone:
        with pytest.raises(GoneError, match=rf"^{gone} of .* \(.*/r/[ab]/0\d.png is the first\)"):
            run(Job(**options, max_gone=gone - 1))
    run(Job(**options, max_gone=gone))


@pytest.mark.parametrize("damage", ["lost", "damaged", "open to others"])
@pytest.mark.parametrize(("gone", "refused"), [(5, False), (6, True)])
def test_files_are_counted_where_their_names_are_lost(
    tmp_path: Path, digits: Path, damage: str, gone: int, refused: bool
) -> None:
    job = Job((digits,), tmp_path / "out.csv", workers=0, update=True)
    run(job)
    state = tmp_path / ".out.csv.state"
    if damage == "lost":
        state.unlink()
    elif damage == "damaged":
        os.truncate(state, 100)
    else:
        os.link(state, tmp_path / "another name")
    take_away(digits, gone)
    if refused:
        with pytest.raises(GoneError, match="at least 6 of the 10 files"):
            run(job)
    else:
        assert run(job).found == 5


@pytest.mark.parametrize(
    "account", ["", "[]", "{}", '{"found": "many"}', '{"found": 10}', "[" * 100_000]
)
def test_account_that_tells_nothing_is_no_hindrance(
    tmp_path: Path, digits: Path, account: str
) -> None:
    job = Job((digits,), tmp_path / "out.csv", workers=0, update=True)
    run(job)
    (tmp_path / ".out.csv.state").unlink()
    (tmp_path / "out.csv.run.json").write_text(account)
    take_away(digits, 9)
    assert run(replace(job, force=True)).found == 1  # the account might be somebody's file


def test_other_versions_are_the_only_difference_that_is_named() -> None:
    now = {"versions": {"batchdigit": "2"}, "model": "a", "new name": 1}
    before = {"versions": {"batchdigit": "1"}, "model": "a", "old name": 1}
    assert differences(now, before) == ["versions"]
    assert differences(now, now | {"model": "b"}) == ["model"]
    assert differences(now, now) == []
