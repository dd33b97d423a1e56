"""What an unfinished run has done so far, so that the same command can continue from there.

The journal of ``OUT`` is the hidden folder ``.OUT.journal`` beside it. In it, each run has a folder
named by its binding: everything that its rows depend on. So a run with another binding never meets
these rows. The folder holds the binding (``binding.json``) and parts (``00000000.part``, ...), each
one frame of consecutive batches. A part is written under another name, flushed to the disk and
renamed. It counts only if it and all parts before it are whole.
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import io
import itertools
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchdigit.batches import Predictions
from batchdigit.places import HALF_WRITTEN, journal_path
from batchdigit.resume.frames import (
    DamagedFrameError,
    pack_predictions,
    read_frame,
    reading_again,
    unpack_predictions,
    write_frame,
)
from batchdigit.system.events import about
from batchdigit.system.publish import Publication, flush_folder, writing
from batchdigit.system.regular import check_own, read_regular
from batchdigit.system.signals import signals_held

SECONDS_IN_A_PART = 2.0
SHARE_IN_A_PART = 0.01  # of the time so far; bounds the number of parts
MAX_BINDING = 1 << 20  # bytes
VALUES_IN_A_PART = 1 << 18  # probabilities and labels; bounds the memory

_BINDING = "binding.json"
_RUN = re.compile(r"[0-9a-f]{32}")
_LOG = logging.getLogger(__name__)


class Journal:
    """The journal of one output. A context manager: leaving it writes what is still in memory.

    ``start`` it with what the run depends on, ``replay`` what was done before, ``record`` what is
    done now, and ``discard`` it once the report is published. Raises OutputError if writing to the
    disk fails.
    """

    def __init__(self, out: Path) -> None:
        self._out = out
        self.folder = journal_path(out)
        self.rows = 0  # how many of the images to predict are done
        self._run = self.folder / "not started"
        self._identity = b""
        self._parts = 0
        self._pending: list[Predictions] = []
        self._pending_values = 0
        self._started = self._flushed = time.monotonic()

    def __enter__(self) -> Journal:
        with writing(self._out):
            check_own(self.folder, folder=True)
            _make_folder(self.folder)
            check_own(self.folder, folder=True)  # somebody else may have made it just now
            for name in fnmatch.filter(os.listdir(self.folder), HALF_WRITTEN):
                with contextlib.suppress(OSError):  # left by a killed run
                    os.unlink(self.folder / name)
        return self

    def __exit__(self, *_error: object) -> None:
        # Whatever ended the run, even a full disk, what it has done may count.
        with contextlib.suppress(Exception):
            self.flush()
        # Remove the folders unless they hold something.
        with contextlib.suppress(OSError):
            if not any(self._run.glob("*.part")):
                shutil.rmtree(self._run, ignore_errors=True)
            os.rmdir(self.folder)

    def start(
        self,
        binding: Mapping[str, Any],
        places: NDArray[np.int64],
        batch_size: int,
        *,
        fresh: bool = False,
    ) -> None:
        """Find what a run with this ``binding`` has done of the images at ``places``.

        ``binding`` is JSON data. ``fresh`` forgets all that was done.
        """
        if fresh:
            self._discard_runs()
        text = json.dumps(binding, sort_keys=True).encode()
        self._identity = hashlib.sha256(text).digest()
        self._run = self.folder / self._identity.hex()[:32]
        with writing(self._out):
            _make_folder(self._run)
            bound = (self._run / _BINDING).exists()
        if not bound:
            self._publish(_BINDING, text)
        with writing(self._out):
            self.rows = self._count_rows(places, batch_size)
        self._set_others_aside(binding)
        if self.rows:
            _LOG.info(
                "continuing where an earlier run stopped: %d of %d images were done",
                self.rows,
                len(places),
                extra=about("continued", done=self.rows, images=len(places)),
            )

    def replay(self) -> Iterator[Predictions]:
        """What was done before, in order."""
        for number in range(self._parts):
            with reading_again(self._path(number)):
                part = self._read(number)
            yield part

    def record(self, predicted: Iterable[Predictions]) -> Iterator[Predictions]:
        """Pass ``predicted`` on, and keep it; a part is closed from time to time."""
        for predictions in predicted:
            self._pending.append(predictions)
            self._pending_values += predictions.rows * predictions.probs.shape[1]
            if self._is_due():
                self.flush()
            yield predictions

    def flush(self) -> None:
        """Close the current part, if it holds anything."""
        if self._pending:
            with signals_held():
                self._write(self._parts, self._pending)
                # In this order, an interrupt that is not held back cannot leave the same rows in
                # two parts.
                self._pending = []
                self._pending_values = 0
                self._parts += 1
        self._flushed = time.monotonic()

    def discard(self) -> None:
        """Forget everything, because the report is published or the journal is wrong."""
        self._pending = []
        self._parts = 0
        self._discard_runs()

    def _discard_runs(self) -> None:
        """Remove all journals of this output, whatever their binding."""
        for run in self._runs():
            shutil.rmtree(run, ignore_errors=True)

    def _is_due(self) -> bool:
        now = time.monotonic()
        seconds = max(SECONDS_IN_A_PART, SHARE_IN_A_PART * (now - self._started))
        return now - self._flushed >= seconds or self._pending_values >= VALUES_IN_A_PART

    def _runs(self) -> list[Path]:
        """The folders of runs, the latest first."""
        with writing(self._out):
            runs = [path for path in self.folder.iterdir() if _RUN.fullmatch(path.name)]
            return sorted(runs, key=lambda path: path.stat().st_mtime_ns, reverse=True)

    def _set_others_aside(self, binding: Mapping[str, Any]) -> None:
        """Report the latest journal with another binding, and remove all older ones."""
        for place, run in enumerate(run for run in self._runs() if run != self._run):
            if place == 0:
                _LOG.warning(
                    "an earlier run was not finished, but %s; it is set aside until a report is "
                    "published%s",
                    _difference(run, binding),
                    "" if self.rows else ", and this run starts over",
                    extra=about("journal_set_aside"),
                )
            else:
                shutil.rmtree(run, ignore_errors=True)

    def _count_rows(self, places: NDArray[np.int64], batch_size: int) -> int:
        """Count the rows of the leading whole parts, and remove all parts after them."""
        rows = 0
        while self._path(self._parts).exists():
            try:
                done = self._read(self._parts).all_indices
            except DamagedFrameError:
                done = np.empty(0, np.int64)
            end = rows + len(done)
            if (
                not len(done)
                or not np.array_equal(done, places[rows:end])
                or (end % batch_size and end != len(places))
            ):
                _LOG.warning(
                    "part %d of the journal is damaged and will be done again",
                    self._parts,
                    extra=about("journal_damaged", part=self._parts),
                )
                break
            rows = end
            self._parts += 1
        for number in itertools.count(self._parts):
            if not self._path(number).exists():
                break
            os.unlink(self._path(number))
        return rows

    def _path(self, number: int) -> Path:
        return self._run / f"{number:08}.part"

    def _context(self, number: int) -> bytes:
        return self._identity + number.to_bytes(8, "little")

    def _read(self, number: int) -> Predictions:
        with open(self._path(number), "rb") as stream:
            payload = read_frame(stream, self._context(number))
        return unpack_predictions(payload)

    def _write(self, number: int, parts: list[Predictions]) -> None:
        stream = io.BytesIO()
        write_frame(stream, pack_predictions(parts), self._context(number))
        self._publish(self._path(number).name, stream.getvalue())

    def _publish(self, name: str, content: bytes) -> None:
        with Publication(self.folder, part_of=self._out) as publication, writing(self._out):
            publication.create(self._run / name, own=True).write(content)
            publication.publish()


def _make_folder(folder: Path) -> None:
    """Make a folder for this user alone, unless it exists; it survives a loss of power."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder, 0o700)
        flush_folder(folder.parent)


def differences(binding: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The names of what differs between two bindings.

    Another version of the program may have had other names, so that is all that is named then.
    """
    names = [name for name in {**binding, **other} if other.get(name) != binding.get(name)]
    ours, theirs = (one.get("versions", {}).get("batchdigit") for one in (binding, other))
    return names if ours == theirs else ["versions"]


def _difference(run: Path, binding: Mapping[str, Any]) -> str:
    """How the binding of another run differs from this one, in words."""
    try:
        theirs = json.loads(read_regular(run / _BINDING, MAX_BINDING) or b"")
        names = differences(binding, theirs)
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return "its journal cannot be read"
    return f"with other {', '.join(names)}"
