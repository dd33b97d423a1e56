import os
import signal
import subprocess
import sys

import pytest

from tests.support.platforms import needs_linux
from tests.support.processes import ends_within

ORPHANS = """
import ctypes, multiprocessing, os, signal, sys, time
from batchdigit.reading.startup import settle_in

fork = multiprocessing.get_context("fork")
begun = fork.Semaphore(0)

def child(settled):
    if settled:
        settle_in()
    begun.release()
    ctypes.PyDLL(None).sleep(600) if sys.argv[1] == "held" else time.sleep(600)

for settled in (True, False):
    process = fork.Process(target=child, args=(settled,))
    process.start()
    print(process.pid, flush=True)
for _ in range(2):
    begun.acquire(timeout=60)
os.kill(os.getpid(), signal.SIGKILL)
"""


@needs_linux("the children of another process")
@pytest.mark.parametrize("interpreter", ["held", "free"])
def test_process_ends_with_its_parent_whatever_it_does(interpreter: str) -> None:
    """A process that did not settle in lives on, so the end of the other is no accident."""
    with subprocess.Popen(
        [sys.executable, "-c", ORPHANS, interpreter],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as parent:  # fmt: skip
        assert parent.stdout is not None
        settled, unsettled = (int(parent.stdout.readline()) for _ in range(2))
        try:
            assert parent.wait(60) == -signal.SIGKILL
            assert ends_within(settled, 60)
            assert not ends_within(unsettled, 0)
        finally:
            os.kill(unsettled, signal.SIGKILL)


def test_process_that_reads_prints_nothing_and_leaves_no_memory_on_disk() -> None:
    code = (
        "import os, resource\n"
        "from batchdigit.reading.startup import settle_in\n"
        "settle_in()\n"
        "print('out', flush=True)\n"
        "os.write(2, b'err')\n"
        "os._exit(resource.getrlimit(resource.RLIMIT_CORE)[0])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
