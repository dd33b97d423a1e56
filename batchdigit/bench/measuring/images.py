"""Which images a benchmark reads: some of a folder, or all of them several times."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from batchdigit.models.digits import packaged_digits
from batchdigit.sources.folder import FolderSource


@contextlib.contextmanager
def digits_in_a_folder() -> Iterator[Path]:
    """A folder with the thousand digits of the package as PNG files, while the block runs."""
    with tempfile.TemporaryDirectory(prefix="batchdigit-bench-") as name:
        folder = Path(name)
        for number, pixels in enumerate(packaged_digits()[:, 0]):
            Image.fromarray(pixels).save(folder / f"{number:03}.png")
        yield folder


def evenly(files: FolderSource, count: int) -> FolderSource:
    """``count`` of the files, spread evenly; some of them several times if there are too few."""
    return files.at(place * len(files) // count for place in range(count))


@contextlib.contextmanager
def links_to(files: FolderSource) -> Iterator[Path]:
    """A folder with a link to each of the files, for a command that takes a folder."""
    with tempfile.TemporaryDirectory(prefix="batchdigit-bench-") as name:
        for number in range(len(files)):
            path = os.path.abspath(files.path(number))
            _, ending = os.path.splitext(path)
            os.symlink(path, os.path.join(os.fsencode(name), b"%09d%s" % (number, ending)))
        yield Path(name)
