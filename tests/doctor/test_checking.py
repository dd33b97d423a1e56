import os
import signal
import time
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from typing import Any

import pytest

from batchdigit.doctor import checking
from batchdigit.doctor.findings import PROBLEM, Finding, ok


def sleep_and_answer() -> Iterator[Finding]:
    time.sleep(600)
    yield ok("check", "awake")


def end_by_signal() -> Iterator[Finding]:
    yield ok("check", "lost")
    os.kill(os.getpid(), signal.SIGKILL)


def exit_from_within() -> Iterator[Finding]:
    os.write(1, b"not to be seen")
    os._exit(3)
    yield ok("check", "lost")


def find_and_fail() -> Iterator[Finding]:
    yield ok("check", "half of it")
    raise KeyError("what nobody thought of")


@pytest.mark.parametrize(
    ("broken", "text"),
    [
        (end_by_signal, "ended with SIGKILL"),
        (exit_from_within, "ended with exit code 3"),
        (sleep_and_answer, "no answer within 0.5 seconds"),
    ],
)
def test_check_that_does_not_come_back(
    broken: checking.Check,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(checking, "SECONDS_TO_ANSWER", 0.5)
    (finding,) = checking.findings_apart("check", broken)
    assert finding.status == PROBLEM
    assert text in finding.found
    assert capfd.readouterr() == ("", "")


def test_process_for_a_check_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_process: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(BaseProcess, "start", refuse)
    (finding,) = checking.findings_apart("check", find_and_fail)
    assert finding.status == PROBLEM
    assert "Resource temporarily unavailable" in finding.found


@pytest.mark.parametrize("find", [checking.findings_of, checking.findings_apart])
def test_exception_in_a_check_is_a_problem_of_it(find: Any) -> None:
    first, last = find("check", find_and_fail)
    assert first == ok("check", "half of it")
    assert (last.name, last.status) == ("check", PROBLEM)
    assert "KeyError" in last.found
