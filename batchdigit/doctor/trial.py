"""Trials: decode every format, start a process that reads, predict a few digits."""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from batchdigit.doctor.checking import Check, findings_apart
from batchdigit.doctor.findings import OK, PROBLEM, Earlier, Finding, ok, problem, warning
from batchdigit.errors import ImageError
from batchdigit.job import Job
from batchdigit.system.signals import signals_held
from batchdigit.system.working_folder import importing_elsewhere

DIGITS = 10
_NEEDED = ("model", "backend", "cuda:0", "mps")  # what the trial needs
_SETTINGS: dict[str, dict[str, Any]] = {
    "TIFF": {"compression": "tiff_lzw"},  # as scanners write it
    "ICO": {"sizes": [(28, 28)], "bitmap_format": "bmp"},
}


def decoder(_job: Job, _earlier: Earlier) -> list[Finding]:
    """Whether an image in each format is read as it was written."""
    return findings_apart("decoder", _decoder)


def _decoder() -> Iterator[Finding]:
    from batchdigit.images.decoders import FORMATS
    from batchdigit.version import heif_version

    tried = [form for form in FORMATS if form != "PSD"]  # which Pillow reads, but does not write
    faults = {form: why for form in tried if (why := _fault(form))}
    for form, why in faults.items():
        # Most digits are PNG files; users without images in another format do not need it.
        fault = problem if form == "PNG" else warning
        yield fault("decoder", f"cannot read {form}: {why}", "pip install --force-reinstall pillow")
    heic = _heic_fault() if heif_version() else ""
    if heic:
        remedy = "pip install --force-reinstall pillow-heif"
        yield warning("decoder", f"cannot read HEIC: {heic}", remedy)
    if not faults and not heic:
        more = "; HEIC, too" if heif_version() else '; HEIC needs pip install "batchdigit[heif]"'
        yield ok("decoder", f"reads {', '.join(FORMATS)}{more}")


def _fault(form: str) -> str:
    """Why an image does not come back from a format as it was; empty if it does."""
    from PIL import Image

    from batchdigit.images.decode import decode_image, strict_pillow

    image = Image.new("L", (28, 28), 255)
    image.paste(0, (7, 7, 21, 21))
    file = io.BytesIO()
    try:
        image.save(file, form, **_SETTINGS.get(form, {}))
        with strict_pillow():
            name = f"digit.{form.lower()}".encode()  # by which TGA and DIB are recognised
            decoded = decode_image(file.getvalue(), name=name).convert("L")
    except ImageError as error:
        return error.message
    except Exception as error:  # noqa: BLE001  (a Pillow without that format)
        return f"{type(error).__name__}: {error}"
    apart = max(
        abs(decoded.getpixel((place, place)) - image.getpixel((place, place)))  # type: ignore[operator]
        for place in (2, 14)
    )
    return "it comes out wrong" if decoded.size != image.size or apart > 16 else ""


def _heic_fault() -> str:
    """Why pillow-heif, which is installed, cannot be used; empty if it can."""
    try:
        with importing_elsewhere():
            import pillow_heif
    except Exception as error:  # noqa: BLE001  (whatever a damaged installation raises)
        return f"{type(error).__name__}: {error}"
    return "" if hasattr(pillow_heif, "HeifImageFile") else "it is too old"


def workers(job: Job, _earlier: Earlier) -> Iterator[Finding]:
    """Whether a process that reads can be started, and whether it reads."""
    if sys.platform == "win32":
        yield ok("workers", "none on Windows, unless --workers asks for some")
        return
    yield from _with_a_folder("workers", _workers, job)


def _workers(folder: Path, job: Job) -> Iterator[Finding]:
    from batchdigit.reading.dataset import DigitImages
    from batchdigit.reading.reader import Reader
    from batchdigit.sources.folder import open_folders

    _save_digits(folder, 1)
    images = DigitImages(open_folders([folder]), job.reading)
    with Reader(images, batch_size=1, workers=1) as reader:
        (batch,) = reader
    for failure in batch.failures:
        yield problem(
            "workers",
            f"a process that reads could be started, but read nothing: {failure.text}",
            "see that memory suffices; --workers 0 reads without one",
        )
        return
    yield ok("workers", f"a process started by {reader.start_method} reads")


def trial(job: Job, earlier: Earlier) -> Iterator[Finding]:
    """Whether ten digits can be read and predicted; correctly, if the model is the packaged one."""
    faults = [name for name in _NEEDED if name in earlier and earlier[name].status == PROBLEM]
    if faults:
        yield warning("trial", "no digits were predicted", f"repair {' and '.join(faults)} first")
        return
    broken = "workers" in earlier and earlier["workers"].status == PROBLEM
    yield from _with_a_folder("trial", _trial, job, 0 if broken else 1)


def _trial(folder: Path, job: Job, workers: int) -> Iterator[Finding]:
    import numpy as np

    from batchdigit.pipeline import open_session
    from batchdigit.system.stopwatch import Stopwatch

    _save_digits(folder, DIGITS)
    # With a batch size, because measuring the best one for a GPU takes seconds.
    job = replace(
        job,
        source=(str(folder),),
        batch_size=DIGITS // 2,
        workers=workers,
        model_check=False,  # here it must not be remembered
    )
    rows = right = 0
    finite = True
    with open_session(job, Stopwatch()) as session:
        for predictions in session.predictions():
            for failure in predictions.failures:
                name = session.source.images.filename(failure.index)
                yield problem("trial", f"{name}: {failure.text}", "repair what it names")
            rows += len(predictions)
            right += int((predictions.labels[:, 0] == predictions.indices % 10).sum())
            finite = finite and bool(np.isfinite(predictions.probs).all())
        how = f"by {session.engine.backend} on {session.engine.device}"
    if not finite:
        yield problem("trial", f"probabilities {how} are not finite", "use other weights")
    elif not job.is_packaged_model:
        yield ok("trial", f"{rows} of {DIGITS} packaged digits predicted {how}")
    elif right == DIGITS:
        yield ok("trial", f"{right} of {DIGITS} packaged digits right {how}")
    else:
        yield problem(
            "trial",
            f"only {right} of {DIGITS} packaged digits right {how}",
            "install batchdigit and its packages again, or try another --backend or --device",
        )


def known_digits(job: Job, earlier: Earlier) -> list[Finding]:
    """Whether a model other than the packaged one reads known digits right, and if not, why."""
    if "trial" not in earlier or earlier["trial"].status != OK:
        return []
    return findings_apart("known digits", _known_digits, job)


def _known_digits(job: Job) -> Iterator[Finding]:
    from batchdigit.backends.known_digits import check_model, complaint
    from batchdigit.backends.opening import open_model

    opened = open_model(job)
    known = check_model(opened, remember=False)
    if found := complaint(opened, known):
        yield warning("known digits", *found)
    elif known:
        yield ok("known digits", f"{known.right} of {known.of} read right")


def _with_a_folder(name: str, check: Check, *arguments: object) -> Iterator[Finding]:
    """Call ``check`` with a folder as its first argument, which is removed afterwards."""
    with contextlib.ExitStack() as stack:
        try:
            with signals_held():  # or one could come before anything would remove the folder
                folder = tempfile.TemporaryDirectory(prefix="batchdigit-")
                stack.callback(_remove, folder)
        except OSError as error:
            yield warning(
                name,
                f"not tried, because temporary files cannot be written: {error.strerror or error}",
                "let TMPDIR name a folder that this user can write to",
            )
            return
        yield from findings_apart(name, check, Path(folder.name), *arguments)


def _remove(folder: tempfile.TemporaryDirectory[str]) -> None:
    with signals_held():  # or one could leave half of it
        folder.cleanup()


def _save_digits(folder: Path, count: int) -> None:
    """Save the first packaged digits: file 0.png shows a 0, and so on."""
    from PIL import Image

    from batchdigit.models.digits import packaged_digits

    for number, image in enumerate(packaged_digits()[:count, 0]):
        Image.fromarray(image).save(folder / f"{number}.png")
