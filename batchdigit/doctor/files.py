"""The files of a run: its model, its images, its report, and what it remembers of a GPU."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from batchdigit.backends.tuning import cache_file
from batchdigit.doctor.checking import findings_apart
from batchdigit.doctor.findings import Earlier, Finding, ok, problem, warning
from batchdigit.doctor.system import size
from batchdigit.errors import ImageError, OutputBusyError, OutputError
from batchdigit.job import MODEL_VARIABLE, Job, is_packaged
from batchdigit.places import STDOUT, beside
from batchdigit.system.machine import may_have_gpu
from batchdigit.system.publish import Publication
from batchdigit.system.signals import signals_held
from batchdigit.system.words import counted
from batchdigit.version import heif_version

MIN_SPACE = 100 << 20
SHOWN = 3  # names of files that a run would leave out


def model(job: Job, _earlier: Earlier) -> list[Finding]:
    """Whether a run accepts the model file."""
    return findings_apart("model", _model, job)


def _model(job: Job) -> Iterator[Finding]:
    from batchdigit.backends.opening import read_described_model
    from batchdigit.models.inspection import inspect_file
    from batchdigit.models.wanted import THE_CNN
    from batchdigit.models.weights import unknown_names

    source = "packaged" if is_packaged(job.model) else str(job.model)
    if os.environ.get(MODEL_VARIABLE) == str(job.model):
        source += f" (${MODEL_VARIABLE})"
    job, file, declared_by = read_described_model(job)
    wanted = THE_CNN
    if job.network is not None:
        from batchdigit.backends.own_model import wanted_by  # which imports torch

        wanted = wanted_by(job)
    assert file is not None  # noqa: S101  (a command has no model in memory)
    inspection = inspect_file(file, job.class_name, job.key, wanted)
    if inspection.problem:
        yield problem("model", f"{source}: {inspection.problem}", inspection.remedy)
        return
    facts = [inspection.kind]
    if job.network is not None:
        facts.append(f"for {job.network}")
    if inspection.classes is not None:
        facts.append(counted(inspection.classes, "class", "classes"))
    facts.append(f"SHA-256 {inspection.sha256[:12]}…")
    yield ok("model", f"{source}: {', '.join(facts)}")
    if inspection.unknown:
        yield warning("model", *unknown_names(job.model, inspection.unknown).split("; ", 1))
    if declared_by:
        yield ok("model", f"its input is declared by {' and '.join(declared_by)}")


def source(job: Job, _earlier: Earlier) -> list[Finding]:
    """Whether there are images, and whether the first one can be read."""
    return findings_apart("source", _source, job)


def _source(job: Job) -> Iterator[Finding]:
    from batchdigit.sources.endings import HEIC_ENDINGS, count_endings, left_out
    from batchdigit.sources.find import find_images

    source = find_images(job)
    images = source.images
    text = counted(len(images), "image")
    if said := left_out(count_endings(source.ignored)):
        names = [source.ignored.filename(index) for index in range(len(source.ignored))[:SHOWN]]
        more = ", …" if len(source.ignored) > SHOWN else ""
        text += f"; {said} ({', '.join(names)}{more})"
    if closed := sum(name.endswith(b"/") for name in images):
        text = (
            f"{counted(len(images) - closed, 'image')}, "
            f"{counted(closed, 'folder')} that cannot be listed"
        )
        remedy = "let this user read them; otherwise each becomes an error row"
        yield warning("source", text, remedy)
        return
    heic = sum(name.lower().endswith(HEIC_ENDINGS) for name in images)
    if heic and not heif_version():
        yield warning(
            "source",
            f"{text}; {heic} HEIC, which nothing installed reads",
            'pip install "batchdigit[heif]"; otherwise each becomes an error row',
        )
        return
    first = next(source.contents([0], max_bytes=job.max_bytes))
    if isinstance(first, ImageError):
        yield warning(
            "source",
            f"{text}; {images.filename(0)}: {first.message}",
            "let this user read the files; otherwise each becomes an error row",
        )
    else:
        yield ok("source", text)


def output(job: Job, _earlier: Earlier) -> Iterator[Finding]:
    """Whether the report can be written to its place, and whether another run is writing it."""
    if job.out == STDOUT:
        yield from _working_folder()
        return
    # A run opens these first, so whatever it would fail at is met here.
    from batchdigit.reports.outputs import open_outputs

    try:
        with signals_held(), open_outputs(job):
            _publish_and_remove(job.out)
    except OutputBusyError as error:
        yield warning("output", error.problem, error.remedy)
    else:
        yield _space(beside(job.out, "{}").parent, str(job.out))


def _working_folder() -> Iterator[Finding]:
    """Whether the working folder can be written to. If not, a run without ``--out`` still works."""
    here = Path.cwd()
    try:
        with signals_held():
            _publish_and_remove(here / "preds.csv")
    except OutputError as error:
        yield warning("output", error.problem, "if a run is to write a report, name it with --out")
    else:
        yield _space(here, f"the working folder {here}")


def _publish_and_remove(out: Path) -> None:
    """Write a small file beside ``out``, as a report is written. Raises OutputError.

    Call it with signals held: one could come when the file exists but nothing would remove it.
    """
    probe = beside(out, f".batchdigit-{secrets.token_hex(8)}.doctor")
    try:
        with Publication(part_of=out) as publication:
            publication.create(probe).write(b"\n")
            publication.publish()
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()


def _space(folder: Path, what: str) -> Finding:
    free = shutil.disk_usage(folder).free
    text = f"{what} can be written, {size(free)} free"
    if free < MIN_SPACE:
        return warning("output", text, "make room, or choose another place")
    return ok("output", text)


def cache(_job: Job, _earlier: Earlier) -> Iterator[Finding]:
    """Whether a run can remember what it measures, of a GPU and of models."""
    try:
        path = cache_file()
        place = next(parent for parent in path.parents if parent.exists())
        why = "" if os.access(place, os.W_OK | os.X_OK) else f"this user cannot write to {place}"
        why = why if place.is_dir() else f"{place} is not a folder"
    except RuntimeError:
        why = "there is no home folder"
    if not why:
        yield ok("cache", f"{path} can be written")
    elif may_have_gpu():
        yield warning(
            "cache",
            f"a run cannot remember what it measures: {why}",
            "set XDG_CACHE_HOME to a folder that can be written",
        )
    else:
        yield ok("cache", f"cannot be written ({why}), but that matters little without a GPU")
