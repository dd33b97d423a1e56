"""Standard output holds results alone, whatever else prints there."""

import io
import subprocess
import sys

import pytest

from batchdigit.system.standard_output import output_kept_apart, standard_output

PROGRAM = """
import os, subprocess, sys
from batchdigit.system.standard_output import output_kept_apart, standard_output
held = sys.stdout
print("before")
with output_kept_apart():
    print("printed")
    held.write("held\\n")
    os.write(1, b"written\\n")
    subprocess.run(["echo", "another"])
    print("result", file=standard_output(), flush={flush})
print("after")
"""


@pytest.mark.parametrize("flush", [True, False])
def test_only_results_come_out_whoever_prints(flush: bool) -> None:
    code = PROGRAM.format(flush=flush)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["before", "result", "after"]
    assert sorted(done.stderr.split()) == ["another", "held", "printed", "written"]


def test_stream_in_memory_is_kept_apart_too(monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    with output_kept_apart():
        sys.stdout.write("printed\n")
        assert standard_output() is out
        out.write("result\n")
    sys.stdout.write("after\n")
    assert out.getvalue().split() == ["result", "after"]
    assert err.getvalue().split() == ["printed"]


def test_without_a_block_it_is_standard_output_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    assert standard_output() is sys.stdout
    monkeypatch.setattr(sys, "stdout", None)
    with output_kept_apart():
        assert standard_output() is None


def test_error_in_the_block_puts_everything_back() -> None:
    before = sys.stdout
    with pytest.raises(ZeroDivisionError), output_kept_apart():
        raise ZeroDivisionError
    assert sys.stdout is before
    assert standard_output() is before
