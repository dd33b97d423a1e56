"""Whether two checkouts write the same reports.

    python -m benchmarks.same_bytes BEFORE AFTER SOURCE [SOURCE ...] [--data DIR [--download]]

Runs ``batchdigit run`` of both checkouts over each SOURCE, and with --data also over MNIST's
test images: in every format, with both backends, with 0 and 2 workers, and with all columns. Text
reports must be the same byte for byte. A Parquet file also holds the account of its run, with the
time of day; its schema, rows and other metadata must be the same. The exit code is 1 if anything
differs.
"""

import argparse
import itertools
import sys
import tempfile
from pathlib import Path

import pyarrow.parquet

from benchmarks.checkouts import batchdigit
from benchmarks.mnist import write_test_images

FORMATS = ("csv", "jsonl", "parquet")
BACKENDS = ("torch", "onnxruntime")
WORKERS = (0, 2)
ACCOUNT = b"batchdigit.run"


def content(report: Path) -> object:
    if report.suffix != ".parquet":
        return report.read_bytes()
    with pyarrow.parquet.ParquetFile(report) as file:
        table, metadata = file.read(), dict(file.metadata.metadata)
    del metadata[ACCOUNT]
    types = [(field.name, str(field.type), field.nullable) for field in table.schema]
    return types, sorted(metadata.items()), table.to_pylist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("source", type=Path, nargs="*")
    parser.add_argument("--data", type=Path, help="holds MNIST/raw")
    parser.add_argument("--download", action="store_true", help="let torchvision fetch MNIST")
    arguments = parser.parse_args()
    if not (arguments.source or arguments.data):
        parser.error("nothing to compare: name a SOURCE, or --data")
    different = 0
    with tempfile.TemporaryDirectory() as temporary:
        sources = [path.resolve() for path in arguments.source]
        if arguments.data:
            sources.append(Path(temporary, "mnist-test"))
            write_test_images(arguments.data, sources[-1], download=arguments.download)
        for source, form, backend, workers in itertools.product(
            sources, FORMATS, BACKENDS, WORKERS
        ):
            reports = []
            for name, checkout in (("before", arguments.before), ("after", arguments.after)):
                out = Path(temporary, f"{name}.{form}")
                # Exit code 3 if some images of the source cannot be read.
                batchdigit(
                    checkout.resolve(), "run", source, "--out", out, "--backend", backend,
                    "--device", "cpu", "--workers", workers, "--topk", 3, "--probs", "--explain",
                    "--quiet", "--fresh", codes=(0, 3),
                )  # fmt: skip
                reports.append(content(out))
            same = reports[0] == reports[1]
            different += not same
            label = f"{source.name}, {form}, {backend}, {workers} workers"
            print(f"{'same     ' if same else 'DIFFERENT'} {label}", flush=True)
    sys.exit(1 if different else 0)


if __name__ == "__main__":
    main()
