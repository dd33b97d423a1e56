"""What commands have in common."""

import io
import json
import logging
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from batchdigit import OutputError, UsageError, __version__
from batchdigit.cli.options import (
    is_terminal,
    log,
    number_or_auto,
    print_json,
    print_lines,
    source_paths,
)
from tests.support.programs import app


@pytest.mark.parametrize(("text", "number"), [("auto", None), ("0", 0), ("12", 12), ("-1", -1)])
def test_number_or_auto(text: str, number: int | None) -> None:
    assert number_or_auto("--workers", text) == number


@pytest.mark.parametrize("text", ["", "x", "1.5", "Auto", "1e3"])
def test_what_is_neither_a_number_nor_auto_is_said(text: str) -> None:
    with pytest.raises(UsageError, match=r"--workers .* neither a whole number nor auto; write 2"):
        number_or_auto("--workers", text)
    with pytest.raises(UsageError, match="write 256 or auto"):
        number_or_auto("--batch-size", text)


def test_source_without_a_name_is_refused() -> None:
    assert source_paths(["a", "b/c.png"]) == (Path("a"), Path("b/c.png"))
    with pytest.raises(UsageError, match="empty name"):
        source_paths(["a", ""])


def test_version_is_printed_and_nothing_is_done() -> None:
    for arguments in (["--version"], ["run", "--version"]):
        done = CliRunner().invoke(app, arguments)
        assert (done.exit_code, done.stdout) == (0, f"batchdigit {__version__}\n")


def test_stream_is_a_terminal_only_if_it_says_so() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    assert is_terminal(Terminal())
    assert not is_terminal(io.StringIO())
    assert not is_terminal(None)


def test_fields_go_with_the_first_line_only(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    log(logging.INFO, ["one", "100%"], "finished", count=3)
    assert caplog.messages == ["one", "100%"]
    fields = [getattr(record, "fields", {}) for record in caplog.records]
    assert fields == [{"event": "finished", "count": 3}, {}]


def test_lines_and_json_go_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    print_lines(["one", "two"], "")
    print_json({"a": "ü", "b": None}, "")
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["one", "two"]
    assert json.loads(lines[2]) == {"a": "ü", "b": None}


def test_standard_output_that_is_closed_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", None)
    with pytest.raises(OutputError, match="standard output is closed; write elsewhere"):
        print_lines(["one"], "write elsewhere")


@pytest.mark.parametrize(
    ("error", "raised"),
    [(OSError(28, "No space left on device"), OutputError), (BrokenPipeError(), BrokenPipeError)],
)
def test_full_disk_is_an_error_of_ours_and_a_reader_that_left_is_not(
    monkeypatch: pytest.MonkeyPatch, error: OSError, raised: type[Exception]
) -> None:
    def fail(_line: str, **_options: object) -> None:
        raise error

    monkeypatch.setattr(typer, "echo", fail)
    with pytest.raises(raised):
        print_lines(["one"], "")
