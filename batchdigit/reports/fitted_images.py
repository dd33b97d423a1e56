"""Saving the 28x28 images that the network sees, so that a person can look at them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2

from batchdigit.batches import Batch
from batchdigit.errors import UsageError
from batchdigit.sources.filelist import FileList
from batchdigit.system.publish import writing

MAX_NAME = 255  # bytes
ENDING = b".fitted.png"


def save_images(batches: Iterable[Batch], files: FileList, folder: Path) -> Iterator[Batch]:
    """Pass ``batches`` on, and save each image as ``folder/NAME.fitted.png``, 8-bit grey.

    ``NAME`` is the image's path relative to the root of its source. If the result would be too long
    for a file system, it is cut and gets a digest. Subfolders are made, and what an earlier run
    saved is replaced. Raises OutputError.
    """
    made: set[bytes] = set()
    for batch in batches:
        pixels = batch.images[:, 0]
        for index, image in zip(batch.indices.tolist(), pixels, strict=True):
            path = os.path.join(os.fsencode(folder), _name(files, index))
            _, data = cv2.imencode(".png", image)
            with writing(folder):
                if (parent := os.path.dirname(path)) not in made:
                    os.makedirs(parent, exist_ok=True)
                    made.add(parent)
                with open(path, "wb") as file:
                    file.write(data.tobytes())
        yield batch


def _name(files: FileList, index: int) -> bytes:
    folder, name = os.path.split(files[index])
    if len(name + ENDING) > MAX_NAME:
        # Drop a UTF-8 character that was cut in two, because some file systems refuse it.
        name = (
            name[:200].decode("utf-8", "ignore").encode()
            + b"-"
            + hashlib.sha256(name).hexdigest()[:16].encode()
        )
    return os.path.join(folder, name + ENDING)


def check_outside(folder: Path, sources: Iterable[str]) -> None:
    """Raise UsageError if the next run would find the saved images in one of its ``sources``."""
    inside = Path(os.path.realpath(folder))
    for source in sources:
        if inside.is_relative_to(os.path.realpath(source)):
            raise UsageError(
                f"--save-fitted {folder} lies in {source}, where the next run would read it",
                "name a folder elsewhere",
            )
