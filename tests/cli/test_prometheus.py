"""The textfile for Prometheus, read back by Prometheus' own parser."""

import os
from pathlib import Path

import pytest
import typer
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from batchdigit import GoneError, Job, OutputError, run
from batchdigit.cli.prometheus import write_metrics
from batchdigit.errors import StoppedBySignal


def read(path: Path) -> dict[tuple[str, ...], float]:
    """Values by name and labels, the report first."""
    return {
        (sample.name.removeprefix("batchdigit_last_run_"), *sorted_labels(sample.labels)): (
            sample.value
        )
        for family in text_string_to_metric_families(path.read_text())
        for sample in family.samples
    }


def sorted_labels(labels: dict[str, str]) -> list[str]:
    names = ("report", "outcome", "stage", "change", "ending")
    return [labels[name] for name in names if name in labels]


def test_outcome_of_a_run(tmp_path: Path, digits: Path) -> None:
    (digits / "03.png").write_bytes(b"damaged")
    for name in ("a.pdf", "b.pdf", "README"):
        (digits / name).touch()
    digit = Image.open(digits / "04.png")
    digit.save(digits / "04.png", "TIFF", save_all=True, append_images=[digit])
    out = tmp_path / 'a "report"\\.csv'
    path = tmp_path / "run.prom"
    with pytest.raises(typer.Exit), write_metrics(path, out) as metrics:
        metrics.summary = run(Job((digits,), out))
        raise typer.Exit(3)
    values = read(path)
    assert values["exit_code", str(out)] == 3
    for outcome, count in (("predicted", 9), ("reused", 0), ("failed", 1)):
        assert values["images", str(out), outcome] == count
    assert values["failures", str(out), "decode"] == 1
    assert values["more_pages", str(out)] == 1
    assert values["left_out", str(out), ".pdf"] == 2
    assert values["left_out", str(out), "none"] == 1
    assert 0 < values["duration_seconds", str(out)] < 600
    assert values["images_per_second", str(out)] > 0
    assert path.stat().st_mtime == pytest.approx(values["timestamp_seconds", str(out)], abs=60)
    assert {name for name in os.listdir(tmp_path) if "prom" in name} == {"run.prom"}


@pytest.mark.parametrize(
    ("error", "code"),
    [(OutputError("no"), 73), (StoppedBySignal(15), 143), (ZeroDivisionError(), 1)],
)
def test_run_that_fails_leaves_its_exit_code(
    tmp_path: Path, error: BaseException, code: int
) -> None:
    path = tmp_path / "run.prom"
    with pytest.raises(type(error)), write_metrics(path, Path("out.csv")):
        raise error
    values = read(path)
    assert values["exit_code", os.path.abspath("out.csv")] == code
    assert not any(name[0] == "images" for name in values)


def test_files_are_counted_against_the_last_report(tmp_path: Path, digits: Path) -> None:
    out, path = tmp_path / "out.csv", tmp_path / "run.prom"
    with write_metrics(path, out) as metrics:
        metrics.summary = run(Job((digits,), out, workers=0))
    assert not any(name[0] == "files" for name in read(path))
    (digits / "00.png").unlink()
    (digits / "01.png").rename(digits / "new.png")
    os.utime(digits / "02.png", (1e9, 1e9))
    with write_metrics(path, out) as metrics:
        metrics.summary = run(Job((digits,), out, workers=0, update=True))
    assert {name[2]: count for name, count in read(path).items() if name[0] == "files"} == {
        "unchanged": 7, "new": 1, "changed": 1, "gone": 2, "retried": 0,
    }  # fmt: skip


def test_run_that_misses_files_leaves_their_number(tmp_path: Path) -> None:
    path = tmp_path / "run.prom"
    with pytest.raises(GoneError), write_metrics(path, Path("out.csv")):
        raise GoneError("gone", counts={"gone": 7})
    values = read(path)
    report = os.path.abspath("out.csv")
    assert (values["exit_code", report], values["files", report, "gone"]) == (74, 7)


def test_metrics_that_cannot_be_written_do_not_hide_why_the_run_ended(
    tmp_path: Path, digits: Path
) -> None:
    folder = tmp_path / "metrics"
    folder.mkdir()
    with pytest.raises(StoppedBySignal), write_metrics(folder / "a.prom", Path("out.csv")):
        folder.rmdir()
        raise StoppedBySignal(15)
    folder.mkdir()
    with pytest.raises(OutputError), write_metrics(folder / "a.prom", Path("out.csv")) as metrics:
        folder.rmdir()
        metrics.summary = run(Job((digits,), tmp_path / "out.csv"))
        raise typer.Exit(0)


def test_closed_pipe_is_141(tmp_path: Path) -> None:
    path = tmp_path / "run.prom"
    with pytest.raises(BrokenPipeError), write_metrics(path, Path("out.csv")):
        raise BrokenPipeError
    assert read(path)["exit_code", os.path.abspath("out.csv")] == 141


def test_missing_folder_is_found_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(OutputError), write_metrics(tmp_path / "no" / "a.prom", Path("out.csv")):
        raise AssertionError


def test_nothing_is_written_unless_asked(tmp_path: Path) -> None:
    with write_metrics(None, Path("out.csv")):
        pass
    assert os.listdir(tmp_path) == []


def test_file_that_holds_no_metrics_of_ours_is_replaced_only_by_force(tmp_path: Path) -> None:
    path = tmp_path / "run.prom"
    path.write_text("# HELP node_load1 1m load average.\n")
    with (
        pytest.raises(OutputError, match="run.prom exists.*--force"),
        write_metrics(path, Path("out.csv")),
    ):
        pytest.fail("the run has begun")
    assert "node_load1" in path.read_text()
    for force in (True, False):  # then they are ours
        with write_metrics(path, Path("out.csv"), force=force):
            pass
    assert read(path)["exit_code", os.path.abspath("out.csv")] == 0
