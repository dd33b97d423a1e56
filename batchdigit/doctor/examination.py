"""All checks, in the order in which they are made."""

from __future__ import annotations

from collections.abc import Generator

from batchdigit.doctor import computing, files, packages, system, trial
from batchdigit.doctor.checking import Check, findings_of
from batchdigit.doctor.findings import OK, PROBLEM, Finding
from batchdigit.job import Job

CHECKS: dict[str, Check] = {
    "python": packages.python,
    "packages": packages.packages,
    "onnxruntime": computing.onnxruntime,
    "torch": computing.torch,
    "backend": computing.backend,
    "processor": system.processor,
    "memory": system.memory,
    "limits": system.limits,
    "shared memory": system.shared_memory,
    "decoder": trial.decoder,
    "model": files.model,
    "cache": files.cache,
    "source": files.source,
    "workers": trial.workers,
    "trial": trial.trial,
    "known digits": trial.known_digits,
    # Last, because it loads libraries into this process, which the other checks fork from.
    "output": files.output,
}


def examine(job: Job, *, with_source: bool) -> Generator[Finding, None, None]:
    """Yields what each check finds, as soon as it is found.

    ``job.source`` is checked only ``with_source``. Later checks know what earlier ones found. The
    generator must be closed, because a check may have a temporary folder. Raises only
    StoppedBySignal.
    """
    earlier: dict[str, Finding] = {}
    for name, check in CHECKS.items():
        if name == "source" and not with_source:
            continue
        for finding in findings_of(name, check, job, earlier):
            if _severity(finding) >= _severity(earlier.get(finding.name)):
                earlier[finding.name] = finding
            yield finding


def _severity(finding: Finding | None) -> int:
    if finding is None:
        return 0
    return 1 if finding.status == OK else 3 if finding.status == PROBLEM else 2
