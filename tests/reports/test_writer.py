"""A report reaches its stream whole; one that is left unfinished writes nothing more."""

import gc
import hashlib
import io
import os
from pathlib import Path

import pytest

from batchdigit import AccountingError, Job, Predictions, unescape_filename
from batchdigit.reports.formats import ReportFormat, choose_format
from batchdigit.reports.table import Layout
from batchdigit.reports.writer import ReportWriter
from batchdigit.sources.filelist import FileList
from tests.sources.test_filenames import ODD_NAMES
from tests.support.platforms import needs_linux
from tests.support.reports import FORMATS, predictions_for, read_back, written


@pytest.mark.parametrize("extension", FORMATS)
def test_batches_do_not_show(extension: str) -> None:
    names = [b"%d.png" % number for number in range(6)]
    whole = predictions_for(6)
    parts = [
        Predictions(whole.indices[a:b], whole.labels[a:b], whole.probs[a:b])
        for a, b in ((0, 1), (1, 5), (5, 6))
    ]
    assert written(extension, names, *parts) == written(extension, names, whole)


@pytest.mark.parametrize("extension", FORMATS)
def test_report_that_is_left_unfinished_writes_nothing_more(extension: str) -> None:
    job = Job((Path("images"),), Path(f"report.{extension}"))
    stream = io.BytesIO()
    files = FileList([b"a"])
    with ReportWriter(stream, choose_format(job.out, job.format), files, Layout(10)) as report:
        report.write(predictions_for(1))
    before = stream.getvalue()
    del report
    gc.collect()
    assert stream.getvalue() == before  # which also shows that the stream is still open


@needs_linux("names of any bytes")
def test_names_on_disk_reach_the_report(tmp_path: Path) -> None:
    """The names that a file system accepts; the reader's own tests continue from here."""
    for name in ODD_NAMES:
        if b"/" not in name and len(name) <= 255:
            with open(os.path.join(os.fsencode(tmp_path), name), "wb"):
                pass
    names = sorted(os.listdir(os.fsencode(tmp_path)))
    rows = read_back("csv", written("csv", names, predictions_for(len(names))))
    for row in rows:
        assert os.path.exists(
            os.path.join(os.fsencode(tmp_path), unescape_filename(row["filename"]))
        )


def test_rows_and_digest_are_of_what_was_written() -> None:
    names = [b"%d.png" % number for number in range(5)]
    stream = io.BytesIO()
    with ReportWriter(stream, ReportFormat("csv"), FileList(names), Layout(10)) as report:
        assert report.rows == 0
        report.write(predictions_for(3, failed=(1,)))
        assert report.rows == 3
        with pytest.raises(AccountingError):
            report.write(predictions_for(1, start=4))
        report.write(predictions_for(2, start=3))
        report.finish({})
    assert report.rows == 5
    data = stream.getvalue()
    assert data.count(b"\n") == 6
    assert report.digest == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


class Disk(io.BytesIO):
    full = False

    def write(self, data: object) -> int:
        if self.full:
            raise OSError(28, "No space left on device")
        return super().write(data)  # type: ignore[arg-type]


@pytest.mark.parametrize("extension", FORMATS)
def test_full_disk_is_an_error_and_is_not_written_to_again(extension: str) -> None:
    report_format = choose_format(Path(f"report.{extension}"), None)
    files = FileList([b"a.png"])
    disk = Disk()
    with (
        pytest.raises(OSError, match="No space left"),
        ReportWriter(disk, report_format, files, Layout(10)) as report,
    ):
        disk.full = True
        report.write(predictions_for(1))
        report.finish({})
    before, disk.full = disk.getvalue(), False
    del report
    gc.collect()
    assert disk.getvalue() == before
