"""Stop signals: raised once, held back where something must not be cut in two."""

import contextlib
import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from batchdigit.errors import StoppedBySignal
from batchdigit.system.signals import (
    STOP_SIGNALS,
    check_signals,
    signals_as_exceptions,
    signals_held,
    too_late_to_stop,
)
from tests.support.platforms import needs_linux
from tests.support.processes import ends_within


@pytest.mark.parametrize("signum", STOP_SIGNALS)
def test_signal_becomes_an_exception(signum: int) -> None:
    before = signal.getsignal(signum)
    with pytest.raises(StoppedBySignal) as stop, signals_as_exceptions():
        os.kill(os.getpid(), signum)
    assert stop.value.exit_code == 128 + signum
    assert signal.getsignal(signum) is before


def test_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals_as_exceptions():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_tidying_up_is_not_disturbed_by_more_signals() -> None:
    tidied = False
    with pytest.raises(StoppedBySignal) as stop, signals_as_exceptions():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGTERM)
            tidied = True
    assert tidied
    assert stop.value.signal_name == "SIGTERM"


def test_held_signal_is_raised_when_the_block_ends_even_beside_threads() -> None:
    """Another thread gets the signal, and Python runs the handler in this one all the same."""
    done = False
    ended = threading.Event()
    thread = threading.Thread(target=ended.wait)
    thread.start()
    try:
        with pytest.raises(StoppedBySignal), signals_as_exceptions(), signals_held():
            with signals_held():
                os.kill(os.getpid(), signal.SIGINT)
            done = True
    finally:
        ended.set()
        thread.join()
    assert done


def test_error_of_a_block_that_holds_signals_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError), signals_as_exceptions():
        try:
            with signals_held():
                os.kill(os.getpid(), signal.SIGTERM)
                raise ZeroDivisionError
        finally:
            with signals_held():  # to tidy up
                pass
            with pytest.raises(StoppedBySignal):
                check_signals()


def test_signal_that_a_destructor_swallows_is_found_later(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Doomed:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(StoppedBySignal), signals_as_exceptions():
        check_signals()
        Doomed()
        swallowed = True
        check_signals()
    assert swallowed
    assert capsys.readouterr().err == ""


class HalfMade:
    """A signal cuts its making short, and its destructor needs what the rest would have set."""

    def __init__(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        self.whole = True

    def __del__(self) -> None:
        assert self.whole


def make_half() -> None:
    half_made = HalfMade.__new__(HalfMade)  # in a variable that the traceback keeps
    half_made.__init__()


@contextlib.contextmanager
def heard() -> Iterator[list[type[BaseException]]]:
    """The types of the exceptions that destructors raised and Python reported."""
    types: list[type[BaseException]] = []
    hook, sys.unraisablehook = sys.unraisablehook, lambda error: types.append(error.exc_type)
    try:
        yield types
    finally:
        sys.unraisablehook = hook


def test_destructor_of_what_a_signal_cut_short_says_nothing() -> None:
    with heard() as types:
        with pytest.raises(StoppedBySignal), signals_as_exceptions():
            make_half()
        gc.collect()
    assert types == []


def test_destructor_says_nothing_though_another_error_replaces_the_stop() -> None:
    def make_half_and_fail() -> None:
        try:
            make_half()
        finally:
            raise ZeroDivisionError

    with heard() as types:
        with pytest.raises(ZeroDivisionError), signals_as_exceptions():
            make_half_and_fail()
        gc.collect()
    assert types == []


def test_destructor_that_fails_without_a_signal_is_heard() -> None:
    with heard() as types, signals_as_exceptions():
        HalfMade.__new__(HalfMade)
    assert types == [AttributeError]


def test_signal_may_be_too_late() -> None:
    with signals_as_exceptions():
        too_late_to_stop()
        os.kill(os.getpid(), signal.SIGTERM)
        check_signals()
        with signals_held():
            pass


def test_one_program_does_not_inherit_the_signals_of_the_one_before() -> None:
    with pytest.raises(StoppedBySignal), signals_as_exceptions():
        os.kill(os.getpid(), signal.SIGTERM)
    check_signals()


@needs_linux("pidfd_open")
def test_second_interrupt_ends_the_program_at_once() -> None:
    code = """
import multiprocessing, os, signal, sys, time
from batchdigit.system.signals import signals_as_exceptions
child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
child.start()
with signals_as_exceptions():
    try:
        os.kill(os.getpid(), signal.SIGINT)
    finally:
        print(child.pid, flush=True)
        os.kill(os.getpid(), signal.SIGINT)
        print("still here", flush=True)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 130
    assert "still here" not in done.stdout
    assert ends_within(int(done.stdout), 60)
