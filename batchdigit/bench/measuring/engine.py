"""Processes that measure: one for each engine, and whole commands."""

from __future__ import annotations

import contextlib
import copy
import json
import multiprocessing
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from batchdigit.bench.job import BenchJob
from batchdigit.bench.measurement import Sample, Setting
from batchdigit.bench.measuring.probes import do_nothing, in_a_fork, preload, settle, timed_run
from batchdigit.errors import BatchdigitError, ExitCode
from batchdigit.job import Job
from batchdigit.modelfiles.declaration import declaring
from batchdigit.sources.folder import FolderSource
from batchdigit.system.processes import starting_processes
from batchdigit.system.working_folder import python, starting_elsewhere

_Result = TypeVar("_Result")
_OPTIONS_OF_RUN = re.compile(r"(--(?:backend|device|precision|batch-size))(?![\w-])")


class Engine:
    """A process for one backend, device and precision, which imports nothing of the others.

    On a CPU each probe runs in a fork of it, which is what a run is once everything is imported. A
    GPU, which takes seconds to set up and cannot be forked, stays in use from one probe to the
    next. Reports go to ``folder``. A context manager: leaving it ends the process.
    """

    def __init__(self, job: BenchJob, setting: Setting, folder: Path) -> None:
        self._job = job = _from_anywhere(job)
        self._folder = folder
        self._name = setting.engine
        self._forks = setting.device == "cpu" and sys.platform == "linux"
        # Spawned: a fork would inherit what this process has imported.
        context = multiprocessing.get_context("spawn")
        with starting_processes():  # which leave signals to this one
            self._process = ProcessPoolExecutor(1, context, settle, (os.getpid(), _folder(job)))
            self._ready = self._process.submit(
                preload if self._forks else do_nothing, run_job(job, setting)
            )

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_error: object) -> None:
        if kind is not None:  # what it is doing may take long, or forever
            for process in list(self._process._processes.values()):
                process.kill()
        self._process.shutdown(cancel_futures=True)

    def ask(self, probe: Callable[..., _Result], setting: Setting, *arguments: object) -> _Result:
        """The result of ``probe(job, *arguments)`` in the process, with the job of ``setting``.

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
        except BatchdigitError as error:
            raise _in_words_of_bench(error) from error
        except Exception as error:  # a full disk, a fault of a driver
            raise BatchdigitError(
                f"{self._name}: {type(error).__name__}: {error}", "see `batchdigit doctor`"
            ) from error
        return result

    def sample(self, setting: Setting, images: FolderSource, listing_seconds: float) -> Sample:
        """One whole run over ``images``. Raises as :meth:`ask` does."""
        return self.ask(timed_run, setting, images, self._folder, listing_seconds)


@contextlib.contextmanager
def running(job: BenchJob, engines: Mapping[str, Setting]) -> Iterator[dict[str, Engine]]:
    """A process for each engine, by the engine's name, while the block runs."""
    with contextlib.ExitStack() as stack:
        # Made by this process, because one that is killed would leave its folder behind.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="batchdigit-bench-")))
        yield {
            name: stack.enter_context(Engine(job, setting, folder))
            for name, setting in engines.items()
        }


def _in_words_of_bench(error: BatchdigitError) -> BatchdigitError:
    """The error of a run, naming the options of ``bench`` instead of those of ``run``."""
    told = copy.copy(error)
    told.problem, told.remedy = (
        _OPTIONS_OF_RUN.sub(r"\1s", text) for text in (error.problem, error.remedy)
    )
    told.args = ("; ".join(part for part in (told.problem, told.remedy) if part),)
    return told


class EngineDiedError(BatchdigitError):
    """The process of an engine, or a fork of it, has ended."""


def run_job(job: BenchJob, setting: Setting) -> Job:
    """The run of ``setting``; the caller says over which images."""
    return Job(
        source=tuple(map(str, job.source)) or (".",),
        model=job.model,
        class_name=job.class_name,
        key=job.key,
        network=job.network,
        network_args=job.network_args,
        **declaring(job.declaration),
        preprocess=job.preprocess,
        backend=setting.backend,
        device=setting.device,
        precision=setting.precision,
        batch_size=setting.batch_size,
        workers=setting.workers,
        fresh=True,
        model_check=False,  # once for each model, it would belong to no sample
    )


def _from_anywhere(job: BenchJob) -> BenchJob:
    """The same job for a process that is in another folder than this one."""
    network = job.network
    if network is not None:
        from batchdigit.networks.naming import NetworkName

        network = str(NetworkName.parse(network).absolute())
    return replace(job, model=job.model.absolute(), network=network)


def _folder(job: BenchJob) -> str | None:
    """The folder in which a process must be to find the network: a module may lie in this one."""
    from batchdigit.networks.naming import NetworkName

    is_module = job.network is not None and not NetworkName.parse(job.network).is_file
    return os.getcwd() if is_module else None


def run_options(job: BenchJob, setting: Setting) -> list[str]:
    """Options of ``batchdigit run`` for ``setting`` and for the rest of ``job``."""
    options = list(setting.options)
    defaults = BenchJob()
    if job.model != defaults.model:
        options += ["--model", str(job.model)]
    if job.class_name is not None:
        options += ["--class-name", job.class_name]
    if job.key is not None:
        options += ["--key", job.key]
    if job.network is not None:
        options += ["--network", job.network]
    if job.network_args is not None:
        options += ["--network-args", json.dumps(job.network_args)]
    if job.preprocess is not None:
        options += ["--preprocess", job.preprocess]
    return options + job.declaration.words()


def run_command(job: BenchJob, setting: Setting) -> str:
    """The command line of ``setting``, ready to be pasted."""
    source = [str(path) for path in job.source] or ["IMAGES"]
    words = ["batchdigit", "run", *source, "--out", "preds.csv", *run_options(job, setting)]
    return " ".join(map(_quoted, words))


def _quoted(word: str) -> str:
    """A word of a command line; characters that a terminal would obey or hide are spelled out."""
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
    """How long the whole command takes over a folder of links, from its start to its end.

    Raises BatchdigitError when it fails.
    """
    with tempfile.TemporaryDirectory(prefix="batchdigit-bench-") as out:
        options = ["--follow-symlinks", "--quiet", "--out", str(Path(out, "preds.csv"))]
        options += ["--no-model-check", *run_options(_from_anywhere(job), setting)]
        command = python("batchdigit", ["run", str(folder), *options])
        with starting_elsewhere():
            start = time.perf_counter()
            ended = subprocess.run(command, capture_output=True, check=False, errors="replace")  # noqa: S603
            seconds = time.perf_counter() - start
    if ended.returncode not in (ExitCode.OK, ExitCode.BAD_IMAGES):
        raise BatchdigitError(ended.stderr.strip() or f"the command ended with {ended.returncode}")
    return seconds
