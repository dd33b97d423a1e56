"""``batchdigit doctor``: exit codes, and where its output goes."""

import json
from pathlib import Path

import pytest

from tests.support.platforms import needs_linux
from tests.support.programs import problem
from tests.support.samples import Program


def test_problem_ends_with_1_and_stands_on_standard_output(program: Program) -> None:
    done = program("doctor", "--model", "none.pt", "--json")
    assert (done.returncode, done.stderr) == (1, "")
    findings = json.loads(done.stdout)
    assert "none.pt" in json.dumps(findings)


@pytest.mark.parametrize("arguments", [[""], ["--out", "preds.xls"]])
def test_wrong_usage_ends_with_2(program: Program, arguments: list[str]) -> None:
    problem(program("doctor", *arguments), 2)


@needs_linux("/dev/full")
def test_full_standard_output_ends_with_73(program: Program) -> None:
    with Path("/dev/full").open("w") as full:
        done = program("doctor", "--model", "none.pt", capture_output=False, stdout=full, stderr=-1)
    assert done.returncode == 73
    assert done.stderr.startswith("batchdigit: cannot write standard output")


def test_report_that_a_run_would_write_may_name_its_format_apart(program: Program) -> None:
    assert "give --format" in problem(program("doctor", "--out", "report"), 2)
    done = program("doctor", "--out", "report", "--format", "csv", "--model", "none.pt", "--json")
    assert (done.returncode, done.stderr) == (1, "")  # the model is missing
