"""``batchdigit run`` as its user meets it: what it writes and what it says."""

import argparse
import csv
import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import batchdigit
from batchdigit.job import PACKAGED_WEIGHTS
from tests.support.modelfiles import trained_on
from tests.support.programs import app, problem
from tests.support.reports import OLD, UNDECLARED
from tests.support.samples import SAMPLES, Program


def test_main_job(program: Program, tmp_path: Path) -> None:
    done = program("run", SAMPLES, "--out", "preds.csv")
    assert done.returncode == 0
    assert done.stdout == ""
    assert "100 images found = 100 predicted + 0 failed" in done.stderr
    with (tmp_path / "preds.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    right = sum(row["prediction"] == row["filename"][-5] for row in rows)
    assert len(rows) == 100
    assert right >= 99


class Config:
    """The settings of a training, of a class that nobody else knows."""


@pytest.mark.parametrize("backend", ["onnxruntime", "torch"])
def test_run_warns_once_of_what_it_does_not_know_beside_the_weights(
    program: Program, tmp_path: Path, digits: Path, backend: str
) -> None:
    weights = torch.load(PACKAGED_WEIGHTS, weights_only=True)
    known = {"model": weights, "args": argparse.Namespace(lr=0.1), "best": np.float64(0.9)}
    for name, content in (("known", known), ("unknown", known | {"config": Config()})):
        torch.save(content, tmp_path / f"{name}.pt")
        done = program(
            *("run", digits, "--out", f"{name}.csv", "--model", f"{name}.pt"),
            *("--backend", backend),
        )
        assert done.returncode == 0, done.stderr
        lines = [line for line in done.stderr.splitlines() if "Config" in line]
        assert len(lines) == (name == "unknown")
    assert lines[0].startswith(f"batchdigit: the model unknown.pt also names {__name__}.Config")
    assert (tmp_path / "known.csv").read_bytes() == (tmp_path / "unknown.csv").read_bytes()


@pytest.mark.parametrize("backend", ["onnxruntime", "torch"])
def test_rows_of_one_model_of_a_file_are_never_those_of_another(
    program: Program, tmp_path: Path, digits: Path, backend: str
) -> None:
    weights = torch.load(PACKAGED_WEIGHTS, weights_only=True)
    other = weights | {"fc.4.bias": torch.eye(10)[7] * 1e3}  # which sees a 7 in everything
    torch.save({"model": weights, "ema": {"model": other}}, tmp_path / "last.pt")
    command = ("run", digits, "--out", "preds.csv", "--model", "last.pt", "--backend", backend)
    refused = program(*command)
    assert refused.returncode == 65
    assert "under model, ema.model; choose one by its key: --key model" in refused.stderr
    reports = []
    for key in ("model", "ema", "ema.model", "model"):
        done = program(*command, "--key", key, "--update")
        assert done.returncode == 0, done.stderr
        with (tmp_path / "preds.csv").open(newline="") as file:
            reports.append([row["prediction"] for row in csv.DictReader(file)])
        account = json.loads((tmp_path / "preds.csv.run.json").read_text())
        assert account["model"]["key"] == {"ema": "ema.model"}.get(key, key)
        assert account["reused"] == (len(reports[0]) if key == "ema.model" else 0)
    assert set(reports[1]) == {"7"} != set(reports[0])
    assert reports == [reports[0], reports[1], reports[1], reports[0]]


def test_model_option_comes_before_the_environment_and_that_before_the_package(
    program: Program, tmp_path: Path, digits: Path
) -> None:
    for classes in (3, 4):
        torch.save(batchdigit.CNN(classes).state_dict(), tmp_path / f"{classes}.pt")

    def model(*arguments: str, **environment: str) -> dict[str, object]:
        done = program(
            *("run", digits, "--out", "preds.csv", "--json", *arguments),
            env=os.environ | environment,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)["model"]

    # The program is the installed one, which need not be the one that these tests import.
    packaged = model()
    assert Path(str(packaged.pop("path"))).parts[-3:] == PACKAGED_WEIGHTS.parts[-3:]
    assert packaged == {
        "sha256": hashlib.sha256(PACKAGED_WEIGHTS.read_bytes()).hexdigest(),
        "kind": "state dict",
        "format": "PyTorch archive",
        "classes": 10,
        **UNDECLARED,
        "known_digits": None,
    }
    assert model(BATCHDIGIT_MODEL="3.pt")["classes"] == 3
    assert model("--model", "4.pt", BATCHDIGIT_MODEL="3.pt")["classes"] == 4


def test_labels_name_the_predictions(program: Program, tmp_path: Path, digits: Path) -> None:
    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    (tmp_path / "labels.txt").write_text("\n".join(names))
    numbers = program("run", digits)
    words = program("run", digits, "--labels", "labels.txt")
    assert words.returncode == 0, words.stderr
    expected = [
        [name, names[int(label)], rest]
        for name, label, rest in (line.split(",", 2) for line in numbers.stdout.splitlines()[1:])
    ]
    assert [line.split(",", 2) for line in words.stdout.splitlines()[1:]] == expected
    (tmp_path / "labels.txt").write_text("\n".join(names[:9]))
    assert "9 labels" in problem(program("run", digits, "--labels", "labels.txt"), 2)
    assert "labels none.txt" in problem(program("run", digits, "--labels", "none.txt"), 2)


def test_paths_are_judged_by_the_program_not_by_the_parser(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parser would refuse an unreadable path as wrong usage, before anything is tried."""
    (tmp_path / "CNN.pt").write_bytes(PACKAGED_WEIGHTS.read_bytes())
    (tmp_path / "out.csv").write_text(OLD)
    paths = [digits, digits / "01.png", "--model", tmp_path / "CNN.pt", "-o", tmp_path / "out.csv"]
    monkeypatch.setattr(os, "access", lambda _path, mode, **__: mode == os.W_OK)
    assert CliRunner().invoke(app, ["run", *map(str, paths)]).exit_code == 0


def test_options_reach_the_run(program: Program, digits: Path, tmp_path: Path) -> None:
    (digits / "01.png").write_bytes(b"damaged")
    torch.save(batchdigit.CNN().state_dict(), tmp_path / "CNN.pt")
    done = program(
        *("run", digits, "-o", "out.txt", "-m", "CNN.pt", "-b", "3", "-j", "1", "--probs"),
        *("--topk", "2", "--format", "jsonl", "--device", "cpu", "--precision", "bf16"),
        *("--max-bad", "10%", "--follow-symlinks", "--preprocess", "fit", "--explain"),
        *("--review-below", "0.5", "--save-fitted", "fitted"),
    )
    assert done.returncode == 0
    options = json.loads((tmp_path / "out.txt.run.json").read_text())["options"]
    assert options["model"] == "CNN.pt"
    assert (options["batch_size"], options["workers"]) == (3, 1)
    assert (options["topk"], options["probs"], options["precision"]) == (2, True, "bf16")
    assert options["follow_symlinks"] is True
    assert (options["preprocess"], options["review_below"]) == ("fit", 0.5)
    assert len(os.listdir(tmp_path / "fitted")) == 9
    row = json.loads((tmp_path / "out.txt").read_text().splitlines()[0])
    assert list(row)[-3:] == ["polarity", "fitted", "ink"]
    assert list(row)[6:9] == ["prediction_2", "confidence_2", "prob_0"]


def test_rows_go_to_stdout_and_all_else_to_stderr(program: Program, digits: Path) -> None:
    done = program("run", digits)
    lines = done.stdout.splitlines()
    assert lines[0] == "filename,prediction,confidence,error,margin,needs_review"
    assert len(lines) == 11
    assert "10 images found" in done.stderr


def test_summary_tells_what_to_look_at(program: Program, digits: Path) -> None:
    for path in digits.iterdir():
        Image.fromarray(~np.asarray(Image.open(path))).save(path)
    done = program("run", digits, "--out", "out.csv", "--preprocess", "exact")
    marked = (digits.parent / "out.csv").read_text().count(",true")
    assert marked
    assert f"{marked} predictions to review" in done.stderr
    assert "10 images are dark ink on a light ground" in done.stderr
    assert "--preprocess exact leaves so; leave it off" in done.stderr


def test_summary_as_json(program: Program, digits: Path) -> None:
    (digits / "01.png").write_bytes(b"damaged")
    (digits / "notes.txt").touch()
    done = program("run", digits, "--out", "out.csv", "--json", "--quiet")
    assert done.returncode == 3
    summary = json.loads(done.stdout)
    assert (summary["found"], summary["predicted"], summary["failed"]) == (10, 9, 1)
    assert summary["ignored"] == 1
    assert summary["exit_code"] == 3
    assert summary["failures_by_stage"] == {"decode": 1}


def test_verbose_names_ignored_files(program: Program, digits: Path) -> None:
    (digits / "notes.txt").touch()
    done = program("run", digits, "--out", "out.csv", "--verbose")
    assert "left out: notes.txt" in done.stderr
    assert "settings: " in done.stderr
    assert "seconds: " in done.stderr


def test_quiet_says_nothing_when_all_is_well(program: Program, digits: Path) -> None:
    done = program("run", digits, "--out", "out.csv", "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_quiet_says_one_line_when_rows_are_errors(program: Program, digits: Path) -> None:
    (digits / "01.png").write_bytes(b"damaged")
    done = program("run", digits, "--out", "out.csv", "--quiet")
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1
    assert "1 of 10 rows is an error" in done.stderr


def test_quiet_run_says_one_line_when_something_is_wrong(program: Program, digits: Path) -> None:
    done = program("run", digits, "-o", "out.csv", "--quiet", "--update")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    (digits / "05.png").write_bytes(b"damaged")
    done = program("run", digits, "-o", "out.csv", "--quiet", "--update")
    line = problem(done, 3)
    assert "1 of 10 rows is an error" in line
    assert "tolerates: 05.png (decode: " in line


def test_log_and_metrics_tell_of_every_run(program: Program, digits: Path, tmp_path: Path) -> None:
    arguments = ("run", digits, "-o", "out.csv", "-q", "--metrics", "run.prom",
                 "--log-file", "run.log", "--log-format", "json")  # fmt: skip
    assert program(*arguments).returncode == 0
    assert program(*arguments, "--update").returncode == 0
    assert program(*arguments, "--model", "missing.pt").returncode == 65
    (digits / "05.png").write_bytes(b"damaged")
    assert program(*arguments).returncode == 3
    records = [json.loads(line) for line in (tmp_path / "run.log").read_text().splitlines()]
    finished = [record for record in records if record.get("event") == "finished"]
    counts = ("found", "predicted", "reused", "failed", "exit_code")
    assert [[record[name] for name in counts] for record in finished] == [
        [10, 10, 0, 0, 0], [10, 0, 10, 0, 0], [10, 9, 0, 1, 3],
    ]  # fmt: skip
    assert all(0 < record["seconds"] < 600 for record in finished)
    (errors,) = (record for record in records if record.get("event") == "error_rows")
    assert (errors["level"], errors["failed"], errors["exit_code"]) == ("error", 1, 3)
    assert "05.png (decode: " in errors["message"]
    (refused,) = (record for record in records if record.get("event") == "error")
    assert refused["exit_code"] == 65
    assert 0 < refused["seconds"] < 600
    summaries = [record["summary"] for record in records if "summary" in record]
    assert [summary["reused"] for summary in summaries] == [0, 10, 0]
    assert records[-1]["level"] == "error"
    assert records[-1]["exit_code"] == 3
    assert (
        'exit_code{report="' + str(tmp_path / "out.csv") + '"} 3.0'
        in (tmp_path / "run.prom").read_text()
    )


@pytest.mark.parametrize(
    "options",
    [
        ("--metrics", "out.csv"),
        ("--log-file", "./out.csv"),
        ("--log-file", "side", "--metrics", "link"),
    ],
)
def test_log_and_metrics_are_files_of_their_own(
    program: Program, digits: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    (tmp_path / "out.csv").write_text(OLD)
    (tmp_path / "link").symlink_to("side")
    line = problem(program("run", digits, "-o", "out.csv", *options), 2)
    assert "name one file" in line
    assert (tmp_path / "out.csv").read_text() == OLD
    assert not (tmp_path / "side").exists()


@pytest.mark.parametrize("option", ["--metrics", "--log-file"])
@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("out.csv.run.json", "the account of the run"),
        (".out.csv.state", "the state of the report"),
        (".out.csv.lock", "the lock of the report"),
        (".out.csv.journal", "the journal of the run"),
        (".out.csv.journal/log", "the journal of the run"),
    ],
)
def test_log_and_metrics_are_no_files_that_lie_beside_the_report(
    program: Program, digits: Path, tmp_path: Path, option: str, name: str, what: str
) -> None:
    line = problem(program("run", digits, "-o", "out.csv", option, name), 2)
    assert f"{option} {name} is {what}" in line
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize("option", ["--labels", "--log-file", "--metrics", "--model"])
def test_fifo_that_nobody_writes_or_reads_does_not_hang(
    program: Program, digits: Path, tmp_path: Path, option: str
) -> None:
    os.mkfifo(tmp_path / "fifo")
    done = program("run", digits, "-o", "out.csv", option, "fifo", timeout=30)
    assert "fifo" in problem(done, {"--labels": 2, "--model": 65}.get(option, 73))


@pytest.mark.parametrize("output", ["--out", "--log-file", "--metrics"])
@pytest.mark.parametrize("given", ["--model", "--labels"])
def test_inputs_are_not_outputs(
    program: Program, digits: Path, tmp_path: Path, output: str, given: str
) -> None:
    path = tmp_path / "input.csv"
    path.write_text("precious")
    options = ["--out", "out.csv", "--out", path] if output == "--out" else [output, path]
    line = problem(program("run", digits, "-o", "out.csv", given, path, *options[-2:]), 2)
    assert f"{given} and {output} name one file" in line
    assert path.read_text() == "precious"


@pytest.mark.parametrize("backend", ["onnxruntime", "torch"])
def test_model_trained_on_other_numbers_is_warned_of_and_can_be_declared(
    program: Program, tmp_path: Path, backend: str
) -> None:
    torch.save(trained_on(0.1307, 0.3081), tmp_path / "CNN.pt")
    run = ["run", SAMPLES, "--model", "CNN.pt", "--backend", backend, "--device", "cpu", "--quiet"]
    undeclared = program(*run, "--out", "wrong.csv")
    assert undeclared.returncode == 0
    (line,) = undeclared.stderr.splitlines()
    assert line.startswith("batchdigit: the model CNN.pt reads ")
    assert "known digits right with pixels from 0 to 1, but " in line
    assert "% with --mean 0.1307 --std 0.3081; " in line
    account = json.loads((tmp_path / "wrong.csv.run.json").read_text())["model"]
    assert account["known_digits"]["better"]["mean"] == [0.1307]
    assert program(*run, "--no-model-check", "--out", "wrong.csv").stderr == ""

    flags = ["--mean", "0.1307", "--std", "0.3081"]
    declared = program(*run, *flags, "--out", "right.csv")
    assert (declared.returncode, declared.stderr) == (0, "")
    account = json.loads((tmp_path / "right.csv.run.json").read_text())["model"]
    assert (account["mean"], account["std"]) == ([0.1307], [0.3081])
    program("run", SAMPLES, "--out", "packaged.csv")
    for name in ("right", "packaged"):
        with (tmp_path / f"{name}.csv").open(newline="") as file:
            rows = [(row["filename"], row["prediction"]) for row in csv.DictReader(file)]
        if name == "right":
            expected = rows
    assert rows == expected


def test_rows_with_another_mean_are_not_reused(
    program: Program, tmp_path: Path, digits: Path
) -> None:
    torch.save(trained_on(0.5, 0.5), tmp_path / "CNN.pt")
    run = ["run", digits, "--model", "CNN.pt", "--out", "preds.csv", "--update"]
    assert program(*run).returncode == 0
    again = program(*run, "--mean", "0.5", "--std", "0.5")
    assert "differs in the declared input: every image is predicted" in again.stderr


@pytest.mark.parametrize("flags", [["--mean", "0.5"], ["--mean", "0.5", "--std", "0"]])
def test_mean_without_a_usable_deviation_is_wrong_usage(
    program: Program, digits: Path, flags: list[str]
) -> None:
    assert "--std" in problem(program("run", digits, *flags), 2)


@pytest.mark.parametrize("option", ["--out", "--log-file", "--metrics"])
@pytest.mark.parametrize("source", ["digits", "digits/00.png"])
def test_images_are_not_outputs(
    program: Program, digits: Path, tmp_path: Path, option: str, source: str
) -> None:
    before = (digits / "00.png").read_bytes()
    options = ("--format", "csv", "--out", "out.csv", option, "digits/00.png", "--force")
    assert f"{option} digits/00.png" in problem(program("run", source, *options), 2)
    assert (digits / "00.png").read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["digits"]
    assert len(os.listdir(digits)) == 10


@pytest.mark.parametrize("mode", [0o644, 0o444])
def test_files_of_others_are_replaced_only_by_force(
    program: Program, digits: Path, tmp_path: Path, mode: int
) -> None:
    names = ("truth.csv", "truth.csv.run.json", "load.prom")
    arguments = ("run", digits, "-o", "truth.csv", "--metrics", "load.prom", "--wait", "3600")
    for name in names:
        (tmp_path / name).write_text("precious")
        (tmp_path / name).chmod(mode)
        line = problem(program(*arguments), 73)
        assert name in line
        assert "--force" in line
        assert (tmp_path / name).read_text() == "precious"
        (tmp_path / name).unlink()
    for name in names:
        (tmp_path / name).write_text("precious")
    assert program(*arguments, "-f").returncode == 0
    assert program(*arguments).returncode == 0
    assert all((tmp_path / name).read_text() != "precious" for name in names)


def test_folders_of_the_outputs_are_made_on_request(
    program: Program, digits: Path, tmp_path: Path
) -> None:
    files = [
        "--out",
        "new/a/preds.csv",
        "--log-file",
        "new/logs/run.log",
        "--metrics",
        "prom/b.prom",
    ]
    done = program("run", digits, *files)
    assert done.returncode == 73
    assert "create its folder first, or add --parents" in done.stderr
    assert not (tmp_path / "new").exists()
    done = program("run", tmp_path / "none", *files[:2], "--parents")
    assert done.returncode == 66
    assert not (tmp_path / "new").exists()
    done = program("run", digits, *files, "--parents")
    assert done.returncode == 0, done.stderr
    assert all((tmp_path / file).is_file() for file in files[1::2])


def test_report_for_excel_begins_with_a_mark_and_is_updated(
    program: Program, digits: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.csv"
    assert program("run", digits, "--out", out).returncode == 0
    plain = out.read_bytes()
    assert program("run", digits, "--out", out, "--bom").returncode == 0
    assert out.read_bytes() == b"\xef\xbb\xbf" + plain
    done = program("run", digits, "--out", out, "--bom", "--update")
    assert done.returncode == 0
    assert "published" not in done.stderr
    assert out.read_bytes() == b"\xef\xbb\xbf" + plain
    done = program("run", digits, "--out", "out.jsonl", "--bom")
    assert done.returncode == 2
    assert "--bom is for csv and tsv" in done.stderr


def test_images_that_are_not_of_the_models_polarity_are_told_of(
    program: Program, tmp_path: Path
) -> None:
    torch.save(trained_on(1, -1), tmp_path / "dark.pt")
    run = ["run", SAMPLES, "--model", "dark.pt", "--preprocess", "exact", "--quiet"]
    done = program(*run, "--out", "wrong.csv")
    assert done.returncode == 0
    (line,) = done.stderr.splitlines()
    assert line.startswith(
        "batchdigit: 100 images are light on a dark ground, but the model reads "
    )
    assert line.endswith("; give --expects dark-on-light")
    for flags in (["--expects", "dark-on-light"], ["--mean", "1", "--std", "-1"]):
        assert program(*run, *flags, "--out", "right.csv").stderr == ""
        with (tmp_path / "right.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert sum(row["prediction"] == row["filename"][-5] for row in rows) >= 99
