import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.support.measurements import STEADY, of_rates, scaled, sweep
from tests.support.programs import app

runner = CliRunner()


def write(path: Path, data: object) -> Path:
    path.write_text(json.dumps(data))
    return path


def test_command_says_what_changed_and_exits_as_documented(tmp_path: Path) -> None:
    old = sweep(2, (16, 64, 256), (0, 2), samples=6)
    before = write(tmp_path / "old.json", old.as_json())
    after = write(tmp_path / "new.json", scaled(old, 0.7).as_json())
    done = runner.invoke(app, ["bench", "compare", str(before), str(before)])
    assert done.exit_code == 0
    assert "no difference" in done.output
    done = runner.invoke(app, ["bench", "compare", str(before), str(after)])
    assert done.exit_code == 4
    assert "verdict: slower by more than 10%" in done.output
    done = runner.invoke(app, ["bench", "compare", str(before), str(after), "--fail-over", "40%"])
    assert done.exit_code == 0
    done = runner.invoke(app, ["bench", "compare", str(before), str(after), "--json"])
    assert done.exit_code == 4
    data = json.loads(done.stdout)
    assert (data["verdict"], data["failed"]) == ("slower", True)
    assert len(data["points"]) == 12


@pytest.mark.parametrize("text", ["10", "ten%", "-1%", "1001%", "nan%", "%", "", "1e3%", "٣%"])
def test_fail_over_must_be_a_percentage(tmp_path: Path, text: str) -> None:
    old = write(tmp_path / "old.json", of_rates(STEADY).as_json())
    done = runner.invoke(app, ["bench", "compare", str(old), str(old), f"--fail-over={text}"])
    assert done.exit_code == 2


def test_file_that_is_no_measurement_is_wrong_usage_in_one_line(tmp_path: Path) -> None:
    data = of_rates(STEADY).as_json()
    data["points"][0]["samples"][0]["images"] = True
    path = write(tmp_path / "damaged.json", data)
    done = runner.invoke(app, ["bench", "compare", str(path), str(path)])
    assert done.exit_code == 2
    (line,) = done.output.splitlines()
    assert str(path) in line
    assert "`$.points[0].samples[0].images`" in line
