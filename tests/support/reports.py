"""Made-up predictions, written as a report and read back by readers other than ours."""

import csv
import gzip
import hashlib
import io
import json
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet

from batchdigit import Failure, Job, Predictions
from batchdigit.reports.formats import FORMATS as NAMES
from batchdigit.reports.formats import choose_format
from batchdigit.reports.table import Layout
from batchdigit.reports.writer import ReportWriter
from batchdigit.sources.filelist import FileList
from batchdigit.system.publish import Publication

OLD = "filename,prediction,confidence,error\n"
"""A report that was there before: it may be replaced, as a file of somebody else may not."""

FORMATS = [*NAMES, *(f"{name}.gz" for name in NAMES if name != "parquet")]


def predictions_for(
    count: int, failed: tuple[int, ...] = (), start: int = 0, k: int = 1
) -> Predictions:
    """Predictions with the awkward probabilities of a real softmax, and some failures."""
    good = [index for index in range(start, start + count) if index not in failed]
    rng = np.random.default_rng(start)
    probs = -np.sort(-rng.dirichlet(np.full(10, 0.05), len(good)).astype(np.float32), axis=1)
    labels = np.array([rng.permutation(10) for _ in good], dtype=np.int64).reshape(-1, 10)
    return Predictions(
        indices=np.array(good, dtype=np.int64),
        labels=labels[:, :k],
        probs=probs[:, :k],
        failures=tuple(Failure(index, "decode", 'it\'s "bad", really') for index in failed),
    )


def written(extension: str, names: list[bytes], *batches: Predictions, **options: Any) -> bytes:
    job = Job((Path("images"),), Path(f"report.{extension}"), **options)
    layout = Layout(10, topk=job.topk, probs=job.probs, labels=job.labels)
    stream = io.BytesIO()
    with ReportWriter(
        stream, choose_format(job.out, job.format), FileList(names), layout
    ) as report:
        for batch in batches:
            report.write(batch)
        report.finish({"found": len(names)})
    assert report.digest["sha256"] == hashlib.sha256(stream.getvalue()).hexdigest()
    assert report.digest["bytes"] == len(stream.getvalue())
    return stream.getvalue()


def table_rows(extension: str, data: bytes) -> list[dict[str, Any]]:
    """The rows, as an independent reader reads them."""
    if extension == "parquet":
        return pyarrow.parquet.read_table(io.BytesIO(data)).to_pylist()
    text = (gzip.decompress(data) if extension.endswith(".gz") else data).decode("utf-8")
    if extension.startswith("jsonl"):
        return [json.loads(line) for line in text.split("\n")[:-1]]
    delimiter = "\t" if extension.startswith("tsv") else ","
    return list(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter))


def read_back(extension: str, data: bytes) -> list[dict[str, Any]]:
    """The rows, with the same cells whatever the format is."""
    return [
        {name: _cell(name, value) for name, value in row.items()}
        for row in table_rows(extension, data)
    ]


def _cell(name: str, value: Any) -> Any:
    if value in ("", None) or name in ("filename", "error", "polarity"):
        return value or None
    if name in ("needs_review", "fitted"):
        return {"true": True, "false": False}.get(value, value)
    return float(np.float32(value))


def replaced_mode(out: Path) -> int:
    """The permissions of ``out`` once an empty file has been published in its place."""
    with Publication() as publication:
        publication.create(out)
        publication.publish()
    return stat.S_IMODE(out.stat().st_mode)


UNDECLARED = {
    "size": [28, 28],
    "channels": 1,
    "range": "0-1",
    "mean": [0.0],
    "std": [1.0],
    "expects": "light-on-dark",
    "layout": "nchw",
    "transpose": False,
    "place": "resize",
    "scores": "logits",
    "declared_by": [],
    "adds_up": True,
}
"""What an account says of a model whose input nobody has declared."""
