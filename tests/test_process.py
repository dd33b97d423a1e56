"""How a command ends."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest
import typer

from batchdigit.process import command


def test_stopped_command_leaves_no_process_that_is_deaf_to_being_asked() -> None:
    def deaf() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        time.sleep(60)

    process = multiprocessing.get_context("fork").Process(target=deaf, daemon=True)
    with pytest.raises(typer.Exit) as end, command("nothing was done", quiet=True):
        process.start()
        os.kill(os.getpid(), signal.SIGTERM)
    assert end.value.exit_code == 143
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


def test_interrupt_before_the_program_is_loaded_shows_no_traceback() -> None:
    code = """
import os, signal, sys, types
import batchdigit
loading = types.ModuleType("batchdigit.cli")
loading.main = lambda: os.kill(os.getpid(), signal.SIGINT)
batchdigit.cli = sys.modules["batchdigit.cli"] = loading
from batchdigit.__main__ import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")
