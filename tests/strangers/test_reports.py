"""batchdigit's reports say what the loops of strangers' networks say, image by image."""

import csv
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.strangers.catalogue import STRANGERS, Stranger
from tests.strangers.reporting import declare, model_options, save_pictures, traces
from tests.strangers.trained import FORMATS, author_report, formats_of, pictures
from tests.support.programs import app

COUNT = 60


def rotating() -> list[tuple[Stranger, str]]:
    """Every stranger in one format, and every format of some stranger."""
    return [
        (stranger, (formats := formats_of(stranger))[number % len(formats)])
        for number, stranger in enumerate(STRANGERS)
    ]


def check_report(
    stranger: Stranger, how: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (elsewhere := folder / "elsewhere").mkdir()
    monkeypatch.chdir(elsewhere)
    save_pictures(stranger, folder / "images", COUNT)
    model = model_options(stranger, how, folder / "model")
    declared = declare(stranger, folder / "model")
    out = folder / "out.csv"
    command = ["run", str(folder / "images"), *model, *declared, "--out", str(out)]
    before = traces()
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    with out.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    labels, probabilities_BK = author_report(stranger, pictures(stranger, COUNT))
    assert [row["prediction"] for row in rows] == labels
    confidences = [float(row["confidence"]) for row in rows]
    assert confidences == pytest.approx(probabilities_BK.amax(1).tolist(), abs=1e-4)
    assert traces() == before  # the author's program has not run
    assert not list(elsewhere.iterdir())


def test_every_format_is_tried() -> None:
    assert {how for _, how in rotating()} == set(FORMATS)


@pytest.mark.parametrize(("stranger", "how"), rotating(), ids=str)
def test_report_is_the_authors(
    stranger: Stranger, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_report(stranger, how, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stranger", "how"), [(one, how) for one in STRANGERS for how in formats_of(one)], ids=str
)
def test_report_from_every_format_is_the_authors(
    stranger: Stranger, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_report(stranger, how, tmp_path, monkeypatch)
