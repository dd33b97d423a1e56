"""How a command starts and ends."""

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest
import typer

from batchdigit.cli.process import command


def test_stopped_command_leaves_no_process_that_is_deaf_to_sigterm() -> None:
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


def test_garbage_is_collected_once_the_program_has_started() -> None:
    before = gc.get_freeze_count()
    gc.disable()
    try:
        with command("nothing was done", quiet=True):
            assert gc.isenabled()
            assert gc.get_freeze_count() > before
    finally:
        gc.unfreeze()
        gc.enable()


def test_interrupt_before_the_program_is_loaded_shows_no_traceback() -> None:
    code = """
import os, signal, sys, types
import batchdigit
loading = types.ModuleType("batchdigit.cli.app")
loading.main = lambda: os.kill(os.getpid(), signal.SIGINT)
import batchdigit.cli
batchdigit.cli.app = sys.modules["batchdigit.cli.app"] = loading
from batchdigit.__main__ import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")
