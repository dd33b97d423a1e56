"""A terminal gets nothing to obey; what is shown there is otherwise the report."""

import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchdigit.reports.terminal import ForTerminal
from tests.support.platforms import needs_linux


def shown(*parts: bytes) -> str:
    stream = io.BytesIO()
    terminal = ForTerminal(stream)
    for part in parts:
        assert terminal.write(part) == len(part)
    return stream.getvalue().decode()


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("filename,prediction\nä\t1\n", "filename,prediction\nä\t1\n"),
        ("\x1b[2J.png,1\n", "\\x1b[2J.png,1\n"),
        ("a\u202egnp.png\r,1\n", "a\\u202egnp.png\\r,1\n"),
        ("\x9b31m", "\\x9b31m"),
    ],
)
def test_what_cannot_be_seen_is_spelled_out(text: str, seen: str) -> None:
    assert shown(text.encode()) == seen


@given(st.text(), st.integers(1, 5))
def test_text_may_come_in_any_parts(text: str, size: int) -> None:
    data = text.encode()
    parts = [data[start : start + size] for start in range(0, len(data), size)]
    assert shown(*parts) == shown(data)
    assert all(letter.isprintable() or letter in "\n\t" for letter in shown(data))


@needs_linux("a pseudo-terminal")
def test_report_on_a_terminal_and_in_a_pipe(digits: Path, tmp_path: Path) -> None:
    (digits / "00.png").rename(digits / "\x1b]0;title\x07.png")
    command = [sys.executable, "-m", "batchdigit", "run", digits, "--out", "-", "--quiet"]
    piped = subprocess.run(command, stdout=subprocess.PIPE, cwd=tmp_path, check=True).stdout
    assert b"\x1b]0;title\x07.png" in piped
    master, terminal = pty.openpty()
    with subprocess.Popen(command, stdout=terminal, cwd=tmp_path) as process:
        os.close(terminal)
        seen = b""
        while part := _read(master):
            seen += part
    assert process.returncode == 0
    assert b"\\x1b]0;title\\x07.png" in seen
    assert b"\x1b" not in seen
    assert len(seen.splitlines()) == len(piped.splitlines()) == 11
    os.close(master)


def _read(master: int) -> bytes:
    try:
        return os.read(master, 10_000)
    except OSError:  # as Linux says that nobody has the terminal open
        return b""
