"""The laws of a run: one row for each image, and the rows of the plain loop."""

import csv
import hashlib
import itertools
import json
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image

from batchdigit import (
    CheckpointError,
    Job,
    OutputError,
    SourceError,
    Tolerance,
    UsageError,
    run,
)
from batchdigit.errors import AccountingError, ExitCode, StoppedBySignal
from batchdigit.reports.summary import FolderNote
from batchdigit.resume import journal
from tests.support.fakes import decode_by
from tests.support.oracle import SeedRow
from tests.support.own_models import FILE, own, plain_loop, saved_weights
from tests.support.platforms import needs_linux
from tests.support.reports import OLD
from tests.support.samples import SAMPLES, age, lose_the_last_batch, save_grey


def report(out: Path) -> list[dict[str, str]]:
    with out.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def run_to(out: Path, source: Path, **options: object) -> list[dict[str, str]]:
    run(Job((source,), out, **options))  # type: ignore[arg-type]
    return report(out)


def assert_same_as(
    rows: list[dict[str, str]], seed_rows: list[SeedRow], sample_paths: list[Path]
) -> None:
    assert [row["filename"] for row in rows] == [path.name for path in sample_paths]
    for row, seed in zip(rows, seed_rows, strict=True):
        assert int(row["prediction"]) == seed.prediction
        assert float(row["confidence"]) == pytest.approx(max(seed.probs), abs=1e-4)
        assert row["error"] == ""


@pytest.mark.parametrize("backend", ["torch", "onnxruntime"])
@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("batch_size", [1, 7, 100, 1000])
def test_rows_are_those_of_the_plain_loop(
    tmp_path: Path,
    seed_rows: list[SeedRow],
    sample_paths: list[Path],
    batch_size: int,
    workers: int,
    backend: str,
) -> None:
    options = {"batch_size": batch_size, "workers": workers, "backend": backend}
    rows = run_to(tmp_path / "out.csv", SAMPLES, **options)
    assert_same_as(rows, seed_rows, sample_paths)


@pytest.mark.parametrize("backend", ["torch", "onnxruntime"])
@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_rows_are_those_of_the_plain_loop_however_workers_start(
    tmp_path: Path,
    seed_rows: list[SeedRow],
    sample_paths: list[Path],
    start_method: str,
    backend: str,
) -> None:
    options = {"batch_size": 30, "workers": 2, "start_method": start_method, "backend": backend}
    rows = run_to(tmp_path / "out.csv", SAMPLES, **options)
    assert_same_as(rows, seed_rows, sample_paths)


def test_decoder_of_heic_is_named_where_it_may_have_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batchdigit.sources.folder.heif_version", lambda: "1.2.3")
    save_grey(tmp_path / "a.png")
    out = tmp_path / "out.csv"
    assert "pillow-heif" not in run(Job((tmp_path,), out)).account["versions"]
    (tmp_path / "b.heic").touch()
    assert run(Job((tmp_path,), out)).account["versions"]["pillow-heif"] == "1.2.3"


@pytest.mark.parametrize("backend", ["torch", "onnxruntime"])
def test_number_of_workers_changes_no_byte(tmp_path: Path, backend: str) -> None:
    contents = set()
    for workers in (0, 1, 2):
        run_to(tmp_path / "out.csv", SAMPLES, batch_size=16, workers=workers, backend=backend)
        contents.add((tmp_path / "out.csv").read_bytes())
    assert len(contents) == 1


DAMAGES = {
    "empty": lambda data: b"",
    "cut off": lambda data: data[: len(data) // 2],
    "flipped bit": lambda data: data[:60] + bytes([data[60] ^ 1]) + data[61:],
    "not an image": lambda data: b"hello",
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("position", [0, 4, 9])
@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_damaged_file_changes_no_other_row(
    tmp_path: Path, digits: Path, damage: str, position: int, batch_size: int
) -> None:
    whole = run_to(tmp_path / "whole.csv", digits, batch_size=batch_size)
    victim = digits / f"{position:02}.png"
    victim.write_bytes(DAMAGES[damage](victim.read_bytes()))
    rows = run_to(tmp_path / "damaged.csv", digits, batch_size=batch_size)
    row = rows.pop(position)
    assert row["filename"] == victim.name
    assert row["prediction"] == row["confidence"] == ""
    assert row["error"].startswith("decode: ")
    del whole[position]
    # A batch of another size may be rounded differently in the last digits.
    for before, after in zip(whole, rows, strict=True):
        assert float(after.pop("confidence")) == pytest.approx(
            float(before.pop("confidence")), abs=1e-6
        )
        assert before == after


@needs_linux("names of any bytes")
def test_every_kind_of_bad_file_is_one_row(tmp_path: Path, digits: Path) -> None:
    (digits / "empty.png").touch()
    (digits / "text.png").write_text("hello")
    (digits / "folder.png").mkdir()
    (digits / "folder.png" / "1.png").write_bytes((digits / "01.png").read_bytes())
    Image.new("L", (28, 28)).save(digits / "nothing.png")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(digits / "socket.png"))
    os.symlink(".", digits / "loop.png")
    (digits / "cut.png").write_bytes((digits / "00.png").read_bytes()[:100])
    os.mkfifo(digits / "fifo.png")
    os.symlink("01.png", digits / "link.png")
    os.symlink("nowhere.png", digits / "dangling.png")
    Image.new("1", (30_000, 30_000)).save(digits / "huge.png")
    names = [b"=cmd.png", b"new\nline.png", b"\xff.png"]
    for name in names:
        with open(os.path.join(os.fsencode(digits), name), "wb") as file:
            file.write((digits / "00.png").read_bytes())
    summary = run(Job((digits,), tmp_path / "out.csv"))
    rows = {row["filename"]: row for row in report(tmp_path / "out.csv")}
    assert summary.found == summary.predicted + summary.failed == len(rows) == 25
    assert summary.failures_by_stage == {"decode": 3, "read": 6, "too-large": 1, "blank": 1}
    assert summary.exit_code is ExitCode.BAD_IMAGES
    errors = {name: row["error"] for name, row in rows.items() if row["error"]}
    assert errors["empty.png"] == "decode: the file is empty"
    assert errors["text.png"].startswith("decode: plain text")
    assert errors["cut.png"].startswith("decode: truncated PNG")
    assert errors["fifo.png"] == "read: not a regular file but a FIFO"
    assert errors["folder.png"] == "read: not a regular file but a folder"
    assert "folder.png/1.png" not in errors
    assert errors["socket.png"] == "read: not a regular file but a socket"
    assert "--follow-symlinks" in errors["loop.png"]
    assert "--follow-symlinks" in errors["link.png"]
    assert errors["huge.png"].startswith("too-large: ")
    assert errors["nothing.png"] == "blank: no strokes found"
    for name in ("./=cmd.png", "new\nline.png", "\\xff.png"):
        assert rows[name]["prediction"] == rows["00.png"]["prediction"]


def test_image_that_crashes_its_reader_costs_no_other_row(
    tmp_path: Path, digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run_to(tmp_path / "whole.csv", digits, workers=0, batch_size=3)
    decode_by(monkeypatch)
    (digits / "10.png").write_bytes(b"out of memory")
    rows = run_to(tmp_path / "out.csv", digits, workers=2, batch_size=3, start_method="fork")
    assert rows[:10] == whole
    assert rows[10]["error"] == "decode: crashed the process that read it (SIGKILL)"


def test_summary_counts_what_needs_review_and_names_folders_of_one_kind(
    tmp_path: Path, digits: Path
) -> None:
    for path in digits.iterdir():
        Image.fromarray(~np.asarray(Image.open(path))).save(path)
    summary = run(Job((digits,), tmp_path / "out.csv", review_below=0.999))
    marked = [row["needs_review"] for row in report(tmp_path / "out.csv")]
    assert summary.to_review == marked.count("true") > 0
    assert summary.notes == (FolderNote(".", 10, "inverted", 10),)
    everything = run(Job((digits,), tmp_path / "out.csv", review_below=1.0))
    assert everything.to_review > summary.to_review


def test_faint_images_are_read_and_with_exact_the_folder_is_named(
    tmp_path: Path, digits: Path
) -> None:
    labels = [row["prediction"] for row in run_to(tmp_path / "out.csv", digits)]
    for path in digits.iterdir():
        Image.fromarray(np.asarray(Image.open(path)) // 10).save(path)
    assert [row["prediction"] for row in run_to(tmp_path / "out.csv", digits)] == labels
    summary = run(Job((digits,), tmp_path / "out.csv", preprocess="exact"))
    assert summary.notes == (FolderNote(".", 10, "faint", 10),)


@pytest.mark.parametrize("form", ["TIFF", "GIF"])
def test_first_of_several_pages_is_read_and_the_row_marked(
    form: str, tmp_path: Path, digits: Path
) -> None:
    plain = run_to(tmp_path / "out.csv", digits)
    first, second = (Image.open(digits / name) for name in ("04.png", "05.png"))
    blank = Image.new("L", (50, 50))
    for name, pages in (("04.png", [first, second]), ("05.png", [blank, second])):
        pages[0].save(digits / name, form, save_all=True, append_images=pages[1:])
        os.utime(digits / name, (0, 0))  # what has just been written is not trusted to stay
    for _ in range(2):  # the second time from the state
        summary = run(Job((digits,), tmp_path / "out.csv", update=True))
        rows = report(tmp_path / "out.csv")
        assert rows[4] == plain[4] | {"needs_review": "true"}
        assert rows[5]["error"] == (
            "blank: no strokes found; only the first of several pages was read"
        )
        assert summary.more_pages == 2
    assert summary.update == {"unchanged": 10, "new": 0, "changed": 0, "gone": 0, "retried": 0}
    others = [row for place, row in enumerate(rows) if place not in (4, 5)]
    assert others == [row for place, row in enumerate(plain) if place not in (4, 5)]
    account = json.loads((tmp_path / "out.csv.run.json").read_text())
    assert account["more_pages"] == 2


def test_limits_of_the_job_reach_the_reader(tmp_path: Path, digits: Path) -> None:
    size = (digits / "00.png").stat().st_size
    rows = run_to(tmp_path / "out.csv", digits, max_bytes=size - 1)
    assert rows[0]["error"].startswith(f"too-large: {size} bytes")
    rows = run_to(tmp_path / "out.csv", digits, max_pixels=28 * 28 - 1)
    assert {row["error"] for row in rows} == {"too-large: more than 783 pixels"}


def test_folder_of_nothing_but_bad_files_is_reported(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(5):
        (tmp_path / "in" / f"{number}.png").touch()
    rows = run_to(tmp_path / "out.csv", tmp_path / "in", batch_size=2, topk=2, probs=True)
    assert len(rows) == 5
    assert all(row["error"] and not row["prediction"] for row in rows)


def test_formats_hold_the_same_rows(
    tmp_path: Path, digits: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    (digits / "05.png").write_bytes(b"damaged")
    expected = run_to(tmp_path / "out.csv", digits, topk=2)
    table = pyarrow.parquet  # the oracle for Parquet
    run(Job((digits,), tmp_path / "out.parquet", topk=2))
    run(Job((digits,), tmp_path / "out.jsonl", topk=2))
    run(Job((digits,), Path("-"), topk=2))
    assert capfdbinary.readouterr().out == (tmp_path / "out.csv").read_bytes()

    def as_text(cell: object) -> str:
        if cell is None or isinstance(cell, bool):
            return {None: "", True: "true", False: "false"}[cell]
        return str(cell)

    parquet_rows = table.read_table(tmp_path / "out.parquet").to_pylist()
    jsonl_rows = [
        json.loads(line) for line in (tmp_path / "out.jsonl").read_text("utf-8").splitlines()
    ]
    for rows in (parquet_rows, jsonl_rows):
        for row, wanted in zip(rows, expected, strict=True):
            for name, cell in row.items():
                if isinstance(cell, float):
                    assert np.float32(cell) == np.float32(wanted[name])
                else:
                    assert as_text(cell) == wanted[name]


def test_account_lies_beside_the_report(tmp_path: Path, digits: Path) -> None:
    run(Job((digits,), tmp_path / "out.csv", workers=0, batch_size=4))
    account = json.loads((tmp_path / "out.csv.run.json").read_text())
    assert (account["found"], account["predicted"], account["failed"]) == (10, 10, 0)
    assert account["reader"] == {
        "batch_size": 4,
        "batch_size_by": "given",
        "workers": 0,
        "start_method": None,
        "how": "this process",
    }
    assert (
        account["report"]["sha256"]
        == hashlib.sha256((tmp_path / "out.csv").read_bytes()).hexdigest()
    )
    assert len(account["model"]["sha256"]) == 64
    assert account["options"]["source"] == [str(digits)]
    stages = {name: value for name, value in account["seconds"].items() if name != "total"}
    assert set(stages) == {"import", "load", "list", "start", "read", "predict", "journal", "write"}
    assert sum(stages.values()) <= account["seconds"]["total"] + 0.001


def test_output_inside_the_source_never_becomes_input(digits: Path) -> None:
    out = digits / "report.dat"
    for _ in range(2):
        summary = run(Job((digits,), out, format="csv"))
        assert (summary.found, list(summary.ignored)) == (10, [])


def test_no_images_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.txt").touch()
    with pytest.raises(SourceError, match=r"no images in .*left out: 1 \.txt"):
        run(Job((tmp_path / "in",), tmp_path / "out.csv"))
    assert os.listdir(tmp_path) == ["in"]


def test_unwritable_folder_is_found_before_any_work(tmp_path: Path, digits: Path) -> None:
    with pytest.raises(OutputError):
        run(Job((digits,), tmp_path / "missing" / "out.csv"), find=lambda _job: 1 / 0)  # type: ignore[arg-type,return-value]


def test_more_labels_than_classes_is_an_error(tmp_path: Path, digits: Path) -> None:
    with pytest.raises(UsageError, match="10 classes"):
        run(Job((digits,), tmp_path / "out.csv", topk=11))


@pytest.mark.parametrize(
    ("tolerance", "code"),
    [("0", 3), ("1", 3), ("2", 0), ("19%", 3), ("20%", 0)],
)
def test_tolerance_decides_the_exit_code(
    tmp_path: Path, digits: Path, tolerance: str, code: int
) -> None:
    for number in (2, 3):
        (digits / f"{number:02}.png").write_bytes(b"damaged")
    summary = run(Job((digits,), tmp_path / "out.csv", max_bad=Tolerance.parse(tolerance)))
    assert summary.exit_code == code


def test_progress_is_told_after_each_batch(tmp_path: Path, digits: Path) -> None:
    (digits / "00.png").write_bytes(b"damaged")
    calls: list[tuple[int, int, int]] = []
    run(
        Job((digits,), tmp_path / "out.csv", batch_size=4),
        on_progress=lambda *call: calls.append(call),
    )
    assert calls == [(4, 1, 10), (8, 1, 10), (10, 1, 10)]


@pytest.mark.parametrize("extension", ["csv", "parquet", "jsonl", "csv.gz"])
def test_run_that_loses_a_batch_publishes_nothing(
    tmp_path: Path, digits: Path, monkeypatch: pytest.MonkeyPatch, extension: str
) -> None:
    out = tmp_path / f"out.{extension}"
    out.write_text(OLD)
    lose_the_last_batch(monkeypatch)
    with pytest.raises(AccountingError):
        run(Job((digits,), out, batch_size=4))
    assert out.read_text() == OLD
    assert sorted(os.listdir(tmp_path)) == ["digits", out.name]


def test_clock_may_go_backwards(
    tmp_path: Path, digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = run_to(tmp_path / "before.csv", digits, workers=1, batch_size=3)
    now = time.time_ns()
    clock = itertools.count(now, -60 * 10**9)
    monkeypatch.setattr(time, "time_ns", lambda: next(clock))
    monkeypatch.setattr(time, "time", lambda: next(clock) / 1e9)
    assert run_to(tmp_path / "out.csv", digits, workers=1, batch_size=3) == rows
    assert next(clock) < now - 60 * 10**9, "nobody looked at the clock"
    summary = run(Job((digits,), tmp_path / "out.csv", update=True))
    assert summary.predicted + summary.reused == 10
    assert report(tmp_path / "out.csv") == rows


@needs_linux("/proc")
def test_run_leaves_no_descriptor_open(tmp_path: Path, digits: Path) -> None:
    run(Job((digits,), tmp_path / "out.csv", workers=1, batch_size=2))
    before = len(os.listdir("/proc/self/fd"))
    run(Job((digits,), tmp_path / "out.csv", workers=1, batch_size=2))
    assert len(os.listdir("/proc/self/fd")) == before


def test_first_failures_are_the_first_error_rows_of_the_report(
    tmp_path: Path, digits: Path
) -> None:
    for number in (9, 2, 7, 4, 6):
        (digits / f"{number:02}.png").write_bytes(b"damaged" * number)
        age(digits / f"{number:02}.png")
    job = Job((digits,), tmp_path / "out.csv", update=True, workers=0, batch_size=3)
    for reused in (0, 5):
        summary = run(job)
        assert summary.reused == reused
        first = [row for row in report(tmp_path / "out.csv") if row["error"]][:3]
        assert [row["filename"] for row in first] == ["02.png", "04.png", "06.png"]
        assert [(row.filename, row.error) for row in summary.first_failures] == [
            (row["filename"], row["error"]) for row in first
        ]


# Networks of the user's own


@pytest.fixture
def own_job(tmp_path: Path) -> dict[str, object]:
    """Options of a job whose network the tests may change: its file and its weights are copies."""
    (tmp_path / "mine.py").write_text(FILE.read_text())
    return {
        "model": saved_weights(tmp_path),
        "network": f"{tmp_path / 'mine.py'}:Linear",
        "model_check": False,
        "batch_size": 10,
    }


def changed_source(folder: Path) -> dict[str, object]:
    code = (folder / "mine.py").read_text()
    (folder / "mine.py").write_text(code.replace("return self.fc(", "return 2 * self.fc(", 1))
    return {}


def changed_weights(folder: Path) -> dict[str, object]:
    saved_weights(folder, own("Linear", prepare=lambda pixels: pixels / 2))
    return {}


CHANGES: dict[str, Callable[[Path], dict[str, object]]] = {
    "source": changed_source,
    "weights": changed_weights,
    "class": lambda folder: {"network": f"{folder / 'mine.py'}:InATuple"},
    "arguments": lambda _folder: {"network_args": {"classes": 10}},
    "declaration": lambda _folder: {"mean": 0.1, "std": 1.0},
}


@pytest.mark.parametrize("what", CHANGES)
def test_update_computes_rows_anew_where_a_network_has_changed(
    tmp_path: Path, digits: Path, own_job: dict[str, Any], what: str
) -> None:
    out = tmp_path / "out.csv"
    run(Job((digits,), out, update=True, **own_job))
    assert run(Job((digits,), out, update=True, **own_job)).reused == 10
    changed = own_job | CHANGES[what](tmp_path)
    summary = run(Job((digits,), out, update=True, **changed))
    assert (summary.reused, summary.predicted) == (0, 10)
    assert run(Job((digits,), out, update=True, **changed)).reused == 10


@pytest.mark.parametrize("what", [None, *CHANGES])
def test_unfinished_run_continues_only_with_the_same_network(
    tmp_path: Path, own_job: dict[str, Any], what: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "SECONDS_IN_A_PART", 0.0)
    monkeypatch.setattr(journal, "SHARE_IN_A_PART", 0.0)

    def stop_half_way(done: int, _failed: int, _found: int) -> None:
        if done >= 50:
            raise StoppedBySignal(signal.SIGTERM)

    out = tmp_path / "out.csv"
    with pytest.raises(StoppedBySignal):
        run(Job((SAMPLES,), out, **own_job), on_progress=stop_half_way)
    changed = own_job | (CHANGES[what](tmp_path) if what else {})
    summary = run(Job((SAMPLES,), out, **changed))
    assert (summary.resumed > 0) is (what is None)
    run(Job((SAMPLES,), tmp_path / "whole.csv", **changed))
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_own_network_gives_the_rows_of_the_plain_loop(
    tmp_path: Path, own_job: dict[str, Any], sample_paths: list[Path], workers: int, batch_size: int
) -> None:
    expected = plain_loop(own("Linear"), sample_paths)
    options = own_job | {"workers": workers, "batch_size": batch_size, "preprocess": "exact"}
    run(Job((SAMPLES,), tmp_path / "out.csv", **options))
    rows = report(tmp_path / "out.csv")
    assert [int(row["prediction"]) for row in rows] == expected.argmax(1).tolist()
    assert [float(row["confidence"]) for row in rows] == pytest.approx(expected.max(1), abs=1e-4)


def test_network_that_cannot_be_used_leaves_everything_as_it_was(
    tmp_path: Path, own_job: dict[str, Any]
) -> None:
    out = tmp_path / "out.csv"
    out.write_text("filename,prediction,confidence,error\n")
    job = own_job | {"network": f"{tmp_path / 'mine.py'}:ForgetsThatItIsTrained"}
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(CheckpointError, match="answers differently each time"):
        run(Job((tmp_path / "no-such-folder",), out, **job))
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert out.read_text() == "filename,prediction,confidence,error\n"
