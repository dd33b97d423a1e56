"""Checks that cannot end or stall each other, whatever they meet.

A check that loads large libraries, or looks at files on a file system that may be gone, is made in
a process of its own: some libraries end the process when the processor is too old for them, and
some files never answer. The process that starts these stays small, so that it forks in
milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from batchdigit.doctor.findings import Finding, problem
from batchdigit.errors import BatchdigitError
from batchdigit.job import Job
from batchdigit.system.processes import call_apart

SECONDS_TO_ANSWER = 120.0  # enough to import PyTorch from a slow disk for the first time

Check = Callable[..., Iterable[Finding]]


def findings_of(name: str, check: Check, *arguments: Any) -> list[Finding]:
    """What ``check(*arguments)`` finds; an exception becomes a problem of the check ``name``."""
    findings: list[Finding] = []
    try:
        for finding in check(*arguments):
            findings.append(finding)  # noqa: PERF402  (keeps what came before an exception)
    except BatchdigitError as error:
        findings.append(problem(name, error.problem, error.remedy))
    except ImportError as error:
        remedy = "install that package, or install it again"
        findings.append(problem(name, f"cannot load a package: {error}", remedy))
    except Exception as error:  # noqa: BLE001  (a broken machine may raise anything)
        findings.append(
            problem(
                name,
                f"{type(error).__name__}: {error}",
                "check what it names; if nothing is wrong there, report this as a bug",
            )
        )
    return findings


def findings_apart(name: str, check: Check, *arguments: Any) -> list[Finding]:
    """As :func:`findings_of`, but in a process of its own, whose death is a problem, too."""
    try:
        return call_apart(findings_of, name, check, *arguments, seconds=SECONDS_TO_ANSWER)
    except TimeoutError as error:
        found, remedy = str(error), "see whether a file system or a device is gone"
        if network := _network(arguments):
            remedy += f", or the code of --network {network} does not end"
    except ChildProcessError as error:
        found = f"the process that tried it ended with {error}"
        remedy = "install a build of the package for this processor, and see that memory suffices"
        if network := _network(arguments):
            remedy += f", or see whether the code of --network {network} ends it"
    except OSError as error:
        found = f"cannot start a process: {error}"
        remedy = "allow for more processes or memory"
    return [problem(name, found, remedy)]


def _network(arguments: Iterable[object]) -> str | None:
    """Where the user's own code is that a check of these arguments runs, if it runs any."""
    return next((one.network for one in arguments if isinstance(one, Job)), None)
