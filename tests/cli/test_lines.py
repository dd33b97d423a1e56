"""What commands say about their outcome."""

from pathlib import Path
from typing import Any

import pytest

from batchdigit import Job, RunSummary, Tolerance
from batchdigit.backends.convert import Conversion
from batchdigit.cli.lines import (
    conversion_lines,
    inspection_lines,
    run_complaints,
    run_details,
    run_lines,
    run_warnings,
)
from batchdigit.errors import ExitCode
from batchdigit.models.inspection import Inspection
from batchdigit.places import STDOUT
from batchdigit.reports.summary import FailedRow, FolderNote
from batchdigit.sources.filelist import FileList


def summary(**others: Any) -> RunSummary:
    values: dict[str, Any] = {
        "found": 10,
        "predicted": 10,
        "reused": 0,
        "failed": 0,
        "resumed": 0,
        "update": None,
        "ignored": FileList(),
        "failures_by_stage": {},
        "to_review": 0,
        "more_pages": 0,
        "fitted": 0,
        "dark_on_light": 0,
        "faint": 0,
        "notes": (),
        "seconds": {"read": 1.0, "total": 4.0},
        "busy": {},
        "backend": "torch",
        "device": "cpu",
        "exit_code": ExitCode.OK,
        "account": {"computed": {"precision": "fp32"}, "reader": {"batch_size": 256}},
    }
    return RunSummary(**(values | others))


def lines(summary: RunSummary, **options: Any) -> list[str]:
    return list(run_lines(summary, Job((Path("images"),), **({"out": Path("a.csv")} | options))))


def warnings(summary: RunSummary, **options: Any) -> list[str]:
    return list(run_warnings(summary, Job((Path("images"),), Path("a.csv"), **options)))


def test_run_without_events_is_two_lines() -> None:
    assert lines(summary()) == [
        "10 images found = 10 predicted + 0 failed",
        "4.0 s, 2 images/s on cpu by torch; report in a.csv",
    ]
    assert lines(summary(), out=STDOUT)[-1] == "4.0 s, 2 images/s on cpu by torch"


def test_failures_reused_rows_reviews_and_ignored_files_are_counted() -> None:
    said = lines(
        summary(
            predicted=5,
            reused=3,
            failed=2,
            failures_by_stage={"decode": 1, "read": 1},
            update={"unchanged": 4, "new": 6},
            to_review=7,
            ignored=FileList([b"a.txt", b"b.txt"]),
        )
    )
    assert said[:3] == [
        "10 images found = 5 predicted + 3 reused + 2 failed (1 decode, 1 read)",
        "since the last report: 4 unchanged, 6 new",
        "7 predictions to review (the column needs_review)",
    ]
    assert said[-1] == "left out: 2 .txt (--verbose names them)"


def test_files_with_more_pages_are_counted() -> None:
    rest = "more pages than the first, which alone was read"
    assert lines(summary(more_pages=3))[1] == f"3 files have {rest}"
    assert lines(summary(more_pages=1))[1] == f"1 file has {rest}"


def test_one_of_a_kind_is_not_many() -> None:
    said = lines(summary(found=1, predicted=1, to_review=1, ignored=FileList([b"a.txt"])))
    assert said[0] == "1 image found = 1 predicted + 0 failed"
    assert said[1] == "1 prediction to review (the column needs_review)"
    assert said[-1] == "left out: 1 .txt (--verbose names them)"


PAPER = tuple(FolderNote(f"d{number}", 11, "inverted", 11) for number in range(6))


@pytest.mark.parametrize(
    ("fitted", "dark", "line"),
    [
        (66, 66, "66 images were fitted: dark ink on a light ground"),
        (1, 1, "1 image was fitted: dark ink on a light ground"),
        (66, 60, "66 images were fitted, 60 of them dark ink on a light ground"),
        (3, 0, "3 images were fitted"),
    ],
)
def test_images_that_were_fitted_are_one_line_whatever_the_folders(
    fitted: int, dark: int, line: str
) -> None:
    outcome = summary(fitted=fitted, dark_on_light=dark, notes=PAPER)
    assert [said for said in lines(outcome) if "ink" in said or "fitted" in said] == [line]
    assert warnings(outcome) == []


def test_dark_ink_that_is_not_fitted_is_one_warning_with_its_remedy() -> None:
    outcome = summary(dark_on_light=66, notes=PAPER)
    (warning,) = warnings(outcome, preprocess="exact")
    assert warning.startswith("66 images are dark ink on a light ground, which --preprocess exact ")
    assert "; leave it off" in warning
    assert len(lines(outcome, preprocess="exact")) == len(lines(summary()))
    (warning,) = warnings(summary(dark_on_light=1), preprocess="exact")
    assert warning.startswith("1 image is dark ink")
    (warning,) = warnings(summary(faint=9), preprocess="exact")
    assert warning.startswith("9 images are fainter than any of MNIST's, which --preprocess exact ")


def test_blank_folders_are_one_warning_that_names_three() -> None:
    notes = tuple(FolderNote(f"d{number}", 9, "blank", 8) for number in range(7))
    (warning,) = warnings(summary(notes=notes))
    assert warning.startswith(
        "nearly all images are blank in d0 (8 of 9), d1 (8 of 9), d2 (8 of 9), 4 more folders; "
    )
    (warning,) = warnings(summary(notes=notes[:4]))
    assert "d2 (8 of 9), 1 more folder; " in warning
    (warning,) = warnings(summary(notes=notes[:1]))
    assert warning.startswith("nearly all images are blank in d0 (8 of 9); ")


@pytest.mark.parametrize(
    ("computed", "line"),
    [
        ({"precision": "bf16"}, "computed in bf16"),
        (
            {"precision": "bf16", "label_flips_in_1000": 1},
            "computed in bf16: 1 of 1000 digits gets a different label than in fp32",
        ),
        (
            {"precision": "fp32", "label_flips_in_1000": 3},
            "computed in fp32: a lower precision would change the labels of 3 of 1000 digits",
        ),
    ],
)
def test_precision_that_was_asked_for_is_said(computed: dict[str, Any], line: str) -> None:
    account = {"computed": computed, "reader": {}}
    assert lines(summary(account=account), precision="auto")[-1] == line


def test_details_name_ignored_files_settings_and_times() -> None:
    details = list(run_details(summary(ignored=FileList([b"\xff.txt"]))))
    assert details == [
        "left out: \\xff.txt",
        "settings: precision fp32, batch_size 256",
        "seconds: read 1.00, total 4.00",
    ]


def test_complaint_is_made_about_a_run_with_more_errors_than_tolerated() -> None:
    job = Job((Path("images"),), Path("a.csv"), max_bad=Tolerance.parse("5%"))
    bad = summary(predicted=8, failed=2, exit_code=ExitCode.BAD_IMAGES)
    (complaint,) = run_complaints(bad, job)
    assert complaint.startswith("2 of 10 rows are errors, more than --max-bad 5% tolerates")
    assert list(run_complaints(summary(), job)) == []


def test_names_in_a_model_file_cannot_command_the_terminal() -> None:
    inspection = Inspection(
        path="CNN.pt",
        size=1234,
        sha256="ab",
        format="PyTorch archive",
        globals={"os.system": "", "torch.\x1b[31mFloatStorage": "storage"},
        metadata={"name": "x\ny"},
        problem="no weights",
        remedy="save some",
    )
    said = list(inspection_lines(inspection))
    assert said[0] == "CNN.pt"
    assert all(line.isprintable() for line in said)
    facts = {" ".join(line.split()) for line in said}
    assert facts >= {
        "size 1,234 bytes",
        "kind no weights found",
        "finite not checked",
        "checksums none",
        "metadata name x y",
        "usable no: no weights; save some",
        "os.system REFUSED: not tensor data",
        "classes and functions that its pickles name: 2",
    }


def test_model_of_one_class_has_no_classes() -> None:
    conversion = Conversion(Path("CNN.onnx"), 1, "ONNX", "state dict", 1, "the same digits")
    assert next(conversion_lines(conversion)) == (
        "CNN.onnx: ONNX, 1 byte, 1 class, from a state dict"
    )


def test_conversion_says_how_it_was_checked() -> None:
    conversion = Conversion(Path("CNN.onnx"), 12_345, "ONNX", "state dict", 10, "the same digits")
    assert list(conversion_lines(conversion)) == [
        "CNN.onnx: ONNX, 12,345 bytes, 10 classes, from a state dict",
        "checked: the same digits",
    ]


ROWS = tuple(FailedRow(f"{n}.png", f"read: {n}") for n in range(3))


@pytest.mark.parametrize(
    ("failed", "named"),
    [
        (1, "0.png (read: 0)"),
        (3, "0.png (read: 0), 1.png (read: 1), 2.png (read: 2)"),
        (4, "0.png (read: 0), 1.png (read: 1), 2.png (read: 2) and 1 more"),
    ],
)
def test_first_error_rows_are_named_with_their_reasons(failed: int, named: str) -> None:
    bad = summary(failed=failed, exit_code=ExitCode.BAD_IMAGES, first_failures=ROWS[:failed])
    (complaint,) = run_complaints(bad, Job("images"))
    assert complaint == (
        f"{failed} of 10 rows {'is an error' if failed == 1 else 'are errors'}, more than "
        f"--max-bad 0 tolerates: {named}; "
        "see the column error"
    )
    tolerated = summary(failed=failed, first_failures=ROWS[:failed])
    assert f"errors: {named}" in lines(tolerated)
    assert not any("errors: " in line for line in lines(bad))  # the complaint names them


def test_name_of_an_error_row_is_short_and_printable() -> None:
    rows = (FailedRow("a\n" + "b" * 300, "read: x"),)
    bad = summary(failed=1, exit_code=ExitCode.BAD_IMAGES, first_failures=rows)
    (complaint,) = run_complaints(bad, Job("images"))
    assert f"tolerates: a {'b' * 97}… (read: x); see" in complaint


def made_by(**model: object) -> RunSummary:
    """The summary of a run with this model."""
    account = {"computed": {"precision": "fp32"}, "reader": {}, "model": model, "options": {}}
    return summary(account=account)


def test_output_is_said_to_be_taken_for_what_it_looks_like_where_nobody_said_it() -> None:
    found = made_by(scores="probabilities")
    line = "the network's output was taken for probabilities"
    assert line in lines(found)
    assert line in lines(found, scores="auto")
    assert line not in lines(found, scores="probabilities")
    assert not any("output" in said for said in lines(made_by(scores="logits")))


def test_probabilities_that_do_not_add_up_are_said_to_be_as_they_are() -> None:
    said = "its probabilities don't add up to 1, and are reported as they are"
    assert said in lines(made_by(adds_up=False))
    assert said not in lines(made_by(adds_up=True))


def test_details_name_what_declares_the_input() -> None:
    told = list(run_details(made_by(declared_by=["--mean 0.5 --std 0.5", "model.toml"])))
    assert "the input is declared by --mean 0.5 --std 0.5, model.toml" in told
    assert not any("declared" in line for line in run_details(made_by(declared_by=[])))


def test_dark_ink_is_what_a_network_of_dark_ink_takes() -> None:
    account = {"computed": {}, "reader": {}, "options": {}, "model": {"expects": "dark-on-light"}}
    assert warnings(summary(dark_on_light=9, account=account), preprocess="exact") == []
    account["model"] = {"expects": "light-on-dark"}
    (line,) = warnings(summary(dark_on_light=9, account=account), preprocess="exact")
    assert "9 images are dark ink" in line


def test_conversion_says_from_what_and_what_is_still_to_be_declared() -> None:
    conversion = Conversion(
        Path("a.pt"), 12, "pt", "ONNX graph by pytorch", 10, "it is the same", "--mean 0.5 --std 1"
    )
    first, *_, last = conversion_lines(conversion)
    assert first.endswith(", 10 classes, from an ONNX graph by pytorch")
    assert last == "a state dict cannot say what it takes; declare it: --mean 0.5 --std 1"
