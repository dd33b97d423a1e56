"""``batchdigit bench``: what is refused before anything is measured."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.support.programs import app

runner = CliRunner()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--seconds", "1"],
        ["--backends", "tensorflow"],
        ["--backends", ","],
        ["--devices", "auto"],
        ["--devices", "tpu"],
        ["--precisions", "fp8"],
        ["--batch-sizes", "0"],
        ["--batch-sizes", "1,many"],
        ["--workers", "-1"],
        ["--workers", "999"],
        ["--preprocess", "magic"],
        ["--out", "bench.xls"],
        ["--plot", "bench.pdf"],
        [""],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_one_line_and_2(arguments: list[str]) -> None:
    done = runner.invoke(app, ["bench", *arguments])
    assert (done.exit_code, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("batchdigit: ")
    assert "; " in line


@pytest.mark.parametrize("text", ["10", "-1%", "x", "1001%"])
def test_share_that_is_no_percentage_is_wrong_usage(text: str) -> None:
    done = runner.invoke(app, ["bench", "compare", "a.json", "b.json", f"--fail-over={text}"])
    assert done.exit_code == 2
    assert "is not a percentage" in done.stderr


def test_measurement_that_is_missing_is_wrong_usage(tmp_path: Path) -> None:
    done = runner.invoke(app, ["bench", "compare", str(tmp_path / "a"), str(tmp_path / "b")])
    assert done.exit_code == 2
