"""Processes that measure: one for each engine, and whole commands."""

from __future__ import annotations

import multiprocessing
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TypeVar

from batchdigit.bench.job import BenchJob
from batchdigit.bench.measurement import Setting
from batchdigit.bench.measuring.probes import do_nothing, in_a_fork, preload, settle
from batchdigit.errors import BatchdigitError, ExitCode
from batchdigit.job import Job
from batchdigit.system.processes import starting_processes

_Result = TypeVar("_Result")


class Engine:
    """A process of its own for one backend, device and precision, which has imported no other.

    On a CPU each probe runs in a fork of it, as a run begins once everything is imported. A GPU,
    which takes seconds to set up and cannot be forked, stays in use from one probe to the next. A
    context manager: leaving it ends the process.
    """

    def __init__(self, job: BenchJob, setting: Setting) -> None:
        self._job = job
        self._name = setting.engine
        self._forks = setting.device == "cpu" and sys.platform == "linux"
        # Spawned: a fork would inherit what this process has imported.
        context = multiprocessing.get_context("spawn")
        self._process = ProcessPoolExecutor(1, context, settle, (os.getpid(),))
        with starting_processes():  # a signal is not theirs to handle
            self._ready = self._process.submit(
                preload if self._forks else do_nothing, run_job(job, setting)
            )

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_error: object) -> None:
        if kind is not None:  # what it is at may take long, or for ever
            for process in list(self._process._processes.values()):
                process.kill()
        self._process.shutdown(cancel_futures=True)

    def ask(self, probe: Callable[..., _Result], setting: Setting, *arguments: object) -> _Result:
        """What ``probe(job, *arguments)`` finds out in the process, with the job of ``setting``.

        Raises BatchdigitError when the probe raises anything, EngineDiedError when its process
        ends.
        """
        job = run_job(self._job, setting)
        try:
            self._ready.result()
            if not self._forks:
                return self._process.submit(probe, job, *arguments).result()
            result: _Result = self._process.submit(in_a_fork, probe, job, *arguments).result()
        except BrokenProcessPool as error:
            raise EngineDiedError(
                f"the process that measured {self._name} has died",
                "see that memory suffices, or leave it out by --backends or --devices",
            ) from error
        except BatchdigitError:
            raise
        except Exception as error:  # a full disk, a fault of a driver
            raise BatchdigitError(
                f"{self._name}: {type(error).__name__}: {error}", "see `batchdigit doctor`"
            ) from error
        return result


class EngineDiedError(BatchdigitError):
    """The process of an engine, or a fork of it, has ended."""


def run_job(job: BenchJob, setting: Setting) -> Job:
    """The run of ``setting``, over what the caller finds."""
    return Job(
        source=tuple(map(str, job.source)) or (".",),
        model=job.model,
        class_name=job.class_name,
        preprocess=job.preprocess,
        backend=setting.backend,
        device=setting.device,
        precision=setting.precision,
        batch_size=setting.batch_size,
        workers=setting.workers,
        fresh=True,
    )


def run_options(job: BenchJob, setting: Setting) -> list[str]:
    """Options of ``batchdigit run`` for ``setting`` and for what ``job`` has besides."""
    options = list(setting.options)
    defaults = BenchJob()
    if job.model != defaults.model:
        options += ["--model", str(job.model)]
    if job.class_name is not None:
        options += ["--class-name", job.class_name]
    if job.preprocess != defaults.preprocess:
        options += ["--preprocess", job.preprocess]
    return options


def run_command(job: BenchJob, setting: Setting) -> str:
    """The command line of ``setting``, to paste."""
    source = [str(path) for path in job.source] or ["IMAGES"]
    words = ["batchdigit", "run", *source, "--out", "preds.csv", *run_options(job, setting)]
    return " ".join(map(_quoted, words))


def _quoted(word: str) -> str:
    """A word of a command line; what a terminal would obey, or not show, is spelled out."""
    if word.isprintable():
        return shlex.quote(word)
    escaped = "".join(
        character
        if character.isprintable() and character not in "\\'"
        else "".join(f"\\x{byte:02x}" for byte in os.fsencode(character))
        for character in word
    )
    return f"$'{escaped}'"


def seconds_of_command(job: BenchJob, setting: Setting, folder: Path) -> float:
    """What the whole command takes over a folder of links, from its start to its end.

    Raises BatchdigitError when it fails.
    """
    with tempfile.TemporaryDirectory(prefix="batchdigit-bench-") as out:
        command = [
            *(sys.executable, "-m", "batchdigit", "run", str(folder), "--follow-symlinks"),
            *("--quiet", "--out", str(Path(out, "preds.csv")), *run_options(job, setting)),
        ]
        start = time.perf_counter()
        ended = subprocess.run(command, capture_output=True, check=False, errors="replace")  # noqa: S603
        seconds = time.perf_counter() - start
    if ended.returncode not in (ExitCode.OK, ExitCode.BAD_IMAGES):
        raise BatchdigitError(ended.stderr.strip() or f"the command ended with {ended.returncode}")
    return seconds
