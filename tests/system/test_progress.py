import io

import pytest

from batchdigit.system import progress
from batchdigit.system.progress import show_progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_terminal_gets_a_bar_with_rate_and_time_left() -> None:
    terminal = Terminal()
    with show_progress(terminal) as report:
        report(10, 1, 100)
        report(100, 1, 100)
    shown = terminal.getvalue()
    assert "100/100" in shown
    assert "images/s" in shown
    assert "failed=1" in shown


def test_file_gets_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 30.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    with show_progress(stream) as report:
        for second in range(1, 71):
            now[0] = float(second)
            report(second * 10, second // 35, 1000)
    assert stream.getvalue() == (
        "310 of 1000 images, 10 images/s, about 69 s left\n"
        "610 of 1000 images (1 failed), 10 images/s, about 39 s left\n"
    )


def test_quiet_is_quiet() -> None:
    terminal = Terminal()
    with show_progress(terminal, quiet=True) as report:
        report(100, 0, 100)
        report.say("hello")
    assert terminal.getvalue() == ""


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_a_line_of_text_is_shown(stream: io.StringIO) -> None:
    with show_progress(stream, unit="batches") as report:
        report(1, 0, 2)
        report.say("epoch 1")
    assert "epoch 1\n" in stream.getvalue()
