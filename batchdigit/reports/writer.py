"""Writing a report to a stream: predictions in, rows out."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from batchdigit.batches import Predictions
from batchdigit.sources.filelist import FileList

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer
from batchdigit.reports.formats import ReportFormat
from batchdigit.reports.table import Layout, Tabulator


class _Sink(io.BufferedIOBase):
    """Passes on what is written to a stream, with a digest of it, until ``let_go``.

    When writers are garbage-collected, they write what they still hold and close their stream.
    After ``let_go``, none of that reaches the stream.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream: BinaryIO | None = stream
        self._bytes = 0
        self.digest = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer) -> int:
        view = memoryview(data).cast("B")
        if self._stream is not None:
            self._stream.write(view)
            self.digest.update(view)
        self._bytes += len(view)
        return len(view)

    def tell(self) -> int:
        return self._bytes

    def let_go(self) -> None:
        self._stream = None


class ReportWriter:
    """Writes a report to a binary stream: predictions in, rows out. A context manager.

    ``finish`` completes the table but does not close the stream. A report that is left without
    ``finish`` is incomplete, and nothing more of it reaches the stream.
    """

    def __init__(
        self,
        stream: BinaryIO,
        report_format: ReportFormat,
        files: FileList,
        layout: Layout,
    ) -> None:
        self._tabulator = Tabulator(files, layout)
        self._stream = stream
        self._sink = _Sink(stream)
        self._format = report_format.open(cast("BinaryIO", self._sink), self._tabulator.columns)

    @property
    def rows(self) -> int:
        """Rows written so far."""
        return self._tabulator.rows

    @property
    def digest(self) -> dict[str, Any]:
        """Size in bytes and SHA-256 of what has reached the stream, as JSON data."""
        return {"bytes": self._sink.tell(), "sha256": self._sink.digest.hexdigest()}

    def write(self, predictions: Predictions) -> None:
        """Append one row for each image of a batch. Raises AccountingError or OSError."""
        self._format.write(self._tabulator.tabulate(predictions))

    def finish(self, account: Mapping[str, Any]) -> None:
        """Complete the table. ``account`` is JSON data, which formats with metadata keep."""
        self._format.finish(account)
        self._stream.flush()

    def __enter__(self) -> ReportWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._sink.let_go()
