"""What the program says, and where."""

import json
import logging
import re
from pathlib import Path

import pytest
from PIL import Image

from batchdigit import OutputError, UsageError
from batchdigit.cli.messages import log_to_file, show_messages
from batchdigit.system.events import about
from tests.support.platforms import needs_linux

LOG = logging.getLogger("batchdigit.somewhere")


def say_everything() -> None:
    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
        LOG.log(level, "level %d", level)


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        (logging.DEBUG, ["level 10", "level 20", "batchdigit: level 30", "batchdigit: level 40"]),
        (logging.INFO, ["level 20", "batchdigit: level 30", "batchdigit: level 40"]),
        (logging.ERROR, ["batchdigit: level 40"]),
    ],
)
def test_standard_error_gets_records_from_a_level_on(
    capsys: pytest.CaptureFixture[str], level: int, shown: list[str]
) -> None:
    with show_messages(level):
        say_everything()
    say_everything()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert [line for line in captured.err.splitlines() if "batchdigit.some" not in line] == shown


class FullDisk:
    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("stream", [None, FullDisk()])
def test_closed_or_full_standard_error_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, stream: object
) -> None:
    monkeypatch.setattr("sys.stderr", stream)
    with show_messages():
        LOG.info("hello")


def test_text_log_has_a_line_for_each_record_and_is_appended_to(tmp_path: Path) -> None:
    for _ in range(2):
        with log_to_file(tmp_path / "log"):
            LOG.debug("two\nlines\x1b[31m")
    lines = (tmp_path / "log").read_text().splitlines()
    assert len(lines) == 2
    for line in lines:
        assert re.fullmatch(
            r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00 DEBUG \[\d+\] two lines \[31m", line
        )


def test_json_log_has_an_object_for_each_record_with_its_fields(tmp_path: Path) -> None:
    with log_to_file(tmp_path / "log", "json"):
        LOG.warning("%s is odd", "\udcff", extra={"fields": {"count": 3}})
    record = json.loads((tmp_path / "log").read_text())
    assert (record["level"], record["count"]) == ("warning", 3)
    assert record["message"].endswith("is odd")


def test_log_that_cannot_be_opened_is_an_output_error(tmp_path: Path) -> None:
    for path, said in (
        (tmp_path / "no" / "log", "create its folder first, or add --parents"),
        (tmp_path, "choose another place for --log-file"),
    ):
        with pytest.raises(OutputError, match=said), log_to_file(path):
            pass


def test_unknown_format_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="text, json"), log_to_file(tmp_path / "log", "xml"):
        pass


@needs_linux("/dev/full")
def test_log_on_a_full_disk_is_told_of_once_and_stops_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with show_messages(logging.ERROR), log_to_file(Path("/dev/full")):
        LOG.info("hello")
        LOG.warning("hello")
    assert capsys.readouterr().err == (
        "batchdigit: cannot write the log /dev/full any more: No space left on device; "
        "the run goes on\n"
    )


def test_log_is_added_to_text_alone(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("Größe\n", encoding="utf-8")
    with log_to_file(tmp_path / "log"):
        LOG.info("hello")
    assert (tmp_path / "log").read_text(encoding="utf-8").startswith("Größe\n")
    image = tmp_path / "image"
    Image.new("L", (9, 9)).save(image, "png")
    before = image.read_bytes()
    with pytest.raises(OutputError, match="image holds no text"), log_to_file(image):
        LOG.info("hello")
    assert image.read_bytes() == before


def test_record_says_what_it_is_about(tmp_path: Path) -> None:
    with log_to_file(tmp_path / "log", "json"):
        LOG.warning("part %d is damaged", 7, extra=about("journal_damaged", part=7))
    record = json.loads((tmp_path / "log").read_text())
    assert (record["event"], record["part"], record["message"]) == (
        *("journal_damaged", 7, "part 7 is damaged"),
    )


def test_what_must_not_go_unsaid_is_printed_at_any_level(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with show_messages(logging.ERROR):
        LOG.warning("wrong answers", extra={"always": True})
        LOG.warning("slow answers")
    assert capsys.readouterr().err == "batchdigit: wrong answers\n"
