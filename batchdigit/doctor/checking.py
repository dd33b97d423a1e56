"""Checks that cannot take each other along, whatever they meet.

What loads large libraries, or looks at files that may be on a file system that is gone, is called
in a process of its own: there are libraries that end the process on a processor which is too old,
and files that never answer. This process stays small, and forks in milliseconds.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from batchdigit.doctor.findings import Finding, problem
from batchdigit.errors import BatchdigitError
from batchdigit.system.signals import signals_blocked

SECONDS_TO_ANSWER = 120.0  # also to import PyTorch from a slow disk for the first time
SECONDS_TO_DIE = 2.0

Check = Callable[..., Iterable[Finding]]


def findings_of(name: str, check: Check, *arguments: Any) -> list[Finding]:
    """What ``check(*arguments)`` finds; an exception becomes a problem of the check ``name``."""
    findings: list[Finding] = []
    try:
        for finding in check(*arguments):
            findings.append(finding)  # noqa: PERF402  (what came before an exception counts)
    except BatchdigitError as error:
        findings.append(problem(name, error.problem, error.remedy))
    except ImportError as error:
        findings.append(problem(name, f"cannot load a package: {error}", "see packages above"))
    except Exception as error:  # noqa: BLE001  (what is broken may raise anything)
        findings.append(
            problem(
                name,
                f"{type(error).__name__}: {error}",
                "see to what it names; where nothing is wrong with that, report this as a bug",
            )
        )
    return findings


def findings_apart(name: str, check: Check, *arguments: Any) -> list[Finding]:
    """As :func:`findings_of`, but in a process of its own, whose end is a problem, too."""
    # A fork has what this process has imported; elsewhere it is not safe.
    context: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(theirs, name, check, arguments))
    try:
        with signals_blocked(), warnings.catch_warnings():
            # Python 3.12 and later warn of fork() beside the idle threads of a BLAS library.
            warnings.filterwarnings("ignore", ".*fork", DeprecationWarning)
            process.start()
    except OSError as error:
        ours.close()
        return [
            problem(name, f"cannot start a process: {error}", "allow for more processes or memory")
        ]
    finally:
        theirs.close()
    try:
        if not ours.poll(SECONDS_TO_ANSWER):
            return [
                problem(
                    name,
                    f"no answer within {SECONDS_TO_ANSWER:g} seconds",
                    "see whether a file system or a device is gone",
                )
            ]
        answer: list[Finding] = ours.recv()
    except EOFError:
        process.join(SECONDS_TO_DIE)
        return [
            problem(
                name,
                f"the process that tried it {_end_of(process)}",
                "install a build of the package for this processor, and see that memory suffices",
            )
        ]
    else:
        return answer
    finally:
        ours.close()
        _end(process)


def _answer(line: Connection, name: str, check: Check, arguments: tuple[Any, ...]) -> None:
    # What libraries print would stand between the lines of the findings.
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (1, 2):
        os.dup2(nowhere, descriptor)
    line.send(findings_of(name, check, *arguments))


def _end_of(process: BaseProcess) -> str:
    code = process.exitcode
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


def _end(process: BaseProcess) -> None:
    process.kill()
    process.join(SECONDS_TO_DIE)
    if process.is_alive():
        # It waits for a file system that does not answer, and ends by no signal: this process
        # shall not wait for it when it ends itself.
        multiprocessing.process._children.discard(process)  # type: ignore[attr-defined]
