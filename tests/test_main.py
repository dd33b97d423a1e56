"""The entry point: how the process ends."""

import os
import signal
import subprocess
import sys

import pytest

from tests.support.platforms import needs_linux
from tests.support.programs import users_environment

RUN = """
import atexit, os, signal, sys
from batchdigit import __main__
from batchdigit.cli import app

def program():
    {program}

atexit.register(lambda: print("exit functions run", flush=True))
app.main = program
__main__.main()
"""


def ended(program: str, *, before: str = "", **options: object) -> subprocess.CompletedProcess[str]:
    """Run the entry point with ``program`` in the place of the command line."""
    code = before + RUN.format(program=program)
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
    settings["env"] = users_environment()
    return subprocess.run([sys.executable, "-c", code], check=False, **settings)  # type: ignore[call-overload,no-any-return]


@pytest.mark.parametrize(
    ("program", "code"),
    [("pass", 0), ("sys.exit()", 0), ("sys.exit(0)", 0), ("sys.exit(3)", 3), ("sys.exit(65)", 65)],
)
def test_exit_code_is_the_programs(program: str, code: int) -> None:
    done = ended(program)
    assert (done.returncode, done.stdout, done.stderr) == (code, "exit functions run\n", "")


def test_message_of_an_exit_is_printed() -> None:
    done = ended("sys.exit('the reason')")
    assert (done.returncode, done.stderr) == (1, "the reason\n")


def test_what_is_printed_last_arrives() -> None:
    done = ended("sys.stdout.write('a row'); sys.stderr.write('a message'); sys.exit(3)")
    assert (done.returncode, done.stderr) == (3, "a message")
    assert done.stdout == "a rowexit functions run\n"


@needs_linux("/dev/full")
@pytest.mark.parametrize(("given", "code"), [(0, 1), (3, 3)])
def test_output_that_cannot_be_written_is_no_success(given: int, code: int) -> None:
    with open("/dev/full", "w") as full:
        done = ended(f"sys.stdout.write('a row'); sys.exit({given})", stdout=full)
    assert done.returncode == code


def test_missing_standard_streams_are_no_failure() -> None:
    done = ended("sys.stdout = sys.stderr = None; sys.exit(3)")
    assert done.returncode == 3


@pytest.mark.skipif(os.name != "posix", reason="a process ends by a signal")
def test_interrupt_before_the_program_begins_ends_it_without_a_traceback() -> None:
    done = ended("os.kill(os.getpid(), signal.SIGINT)")
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


@pytest.mark.skipif(os.name != "posix", reason="a process ends by a signal")
def test_interrupt_that_the_caller_ignores_stays_ignored() -> None:
    done = ended(
        "os.kill(os.getpid(), signal.SIGINT); sys.exit(3)",
        before="import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)",
    )
    assert done.returncode == 3
