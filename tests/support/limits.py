"""Attacks on memory and time: run in a process that may have only so much of either."""

import json
import subprocess
import sys
from dataclasses import dataclass

from tests.support.samples import REPOSITORY

SETTLE = """
import json, resource, sys, time
from pathlib import Path
def peak():
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024
"""
MEASURE = """
Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
before = peak()
resource.setrlimit(resource.RLIMIT_DATA, (before + {memory}, before + {memory}))
start = time.process_time()
outcome = str(attack())[:300]
print(json.dumps(dict(outcome=outcome, seconds=time.process_time() - start, bytes=peak() - before)))
"""


@dataclass(frozen=True)
class Spent:
    """What came out, and the processor time (seconds) and memory (bytes) that it took.

    ``outcome`` is empty where the process ran out of either.
    """

    outcome: str
    seconds: float = 0.0
    bytes: int = 0


def spend(setup: str, body: str, *arguments: object, memory: int, seconds: float) -> Spent:
    """What a child spends on ``body``, the body of a function, after ``setup``; Linux only.

    ``sys.argv[1:]`` are the ``arguments``. Beyond what it has after ``setup``, it may take
    ``memory`` bytes, and ``seconds`` of time in all.
    """
    function = "def attack():\n" + "\n".join(f"    {line}" for line in body.splitlines())
    program = "\n".join([SETTLE, setup, function, MEASURE.format(memory=memory)])
    command = [sys.executable, "-c", program, *map(str, arguments)]
    try:
        done = subprocess.run(
            command, cwd=REPOSITORY, capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        return Spent("")
    if done.returncode:
        assert "MemoryError" in done.stderr or done.returncode < 0, done.stderr
        return Spent("")
    return Spent(**json.loads(done.stdout))
