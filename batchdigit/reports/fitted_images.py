"""Saving the 28x28 images that the network sees, so that a person can look at them."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2

from batchdigit.batches import Batch
from batchdigit.errors import UsageError
from batchdigit.places import HALF_WRITTEN
from batchdigit.sources.beneath import Beneath
from batchdigit.sources.filelist import FileList
from batchdigit.system.publish import writing
from batchdigit.system.regular import NotRegularError, open_regular
from batchdigit.system.replacing import Kind, is_read_only, taken

MAX_NAME = 255  # bytes
_TEMPORARY = HALF_WRITTEN.replace("*", "fitted").encode()
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL
_WRITE |= getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
ENDING = b".fitted.png"
_HEAD = 26  # bytes of a PNG up to its size, depth and colours, which are those of all that we save
_KIND = Kind("an image", lambda _path: False)


def save_images(
    batches: Iterable[Batch], files: FileList, folder: Path, *, force: bool = False
) -> Iterator[Batch]:
    """Pass ``batches`` on, and save each image as ``folder/NAME.fitted.png``, 8-bit grey.

    ``NAME`` is the image's path relative to the root of its source. If the result would be too long
    for a file system, it is cut and gets a digest. Subfolders are made, and what an earlier run
    saved is replaced, but no other file unless by ``force``; no link is followed. Raises
    OutputError.
    """
    with writing(folder):
        # One by one, because Path.mkdir calls itself for each parent.
        for path in (*reversed(folder.absolute().parents), folder):
            path.mkdir(exist_ok=True)
    beneath = Beneath(os.fsencode(folder), make=True)
    for batch in batches:
        pixels = batch.images[:, 0]
        for index, image in zip(batch.indices.tolist(), pixels, strict=True):
            _, data = cv2.imencode(".png", image)
            name = _name(files, index)
            with writing(folder / os.fsdecode(name)):
                if not (force or _may_replace(beneath, name, data.tobytes())):
                    raise taken(folder / os.fsdecode(name), _KIND)
                _save(beneath, name, data.tobytes())
        yield batch


def _may_replace(beneath: Beneath, name: bytes, data: bytes) -> bool:
    """Whether there is no regular file of that name, or one that an earlier run saved.

    By its looks, that is. Raises OSError where this cannot be told.
    """
    path, folder = beneath.place(name)
    try:
        descriptor, status = open_regular(path, folder=folder, follow=False)
    except (FileNotFoundError, NotRegularError):
        return True
    except PermissionError:  # whose it is, nobody can tell
        return False
    except OSError as error:
        if error.errno != errno.ELOOP:  # as a link has it, which is replaced itself
            raise
        return True
    with open(descriptor, "rb") as file:
        begins = file.read(_HEAD)
    return not is_read_only(status) and begins in (b"", data[:_HEAD])


def _save(beneath: Beneath, name: bytes, data: bytes) -> None:
    """Put a file in its place by a rename: neither a link there is followed, nor a file changed."""
    path, folder = beneath.place(name)
    temporary = os.path.join(os.path.dirname(path), _TEMPORARY)
    with contextlib.suppress(FileNotFoundError):  # left by a killed run
        os.unlink(temporary, dir_fd=folder)
    descriptor = os.open(temporary, _WRITE, 0o666, dir_fd=folder)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
        os.replace(temporary, path, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        os.unlink(temporary, dir_fd=folder)
        raise


def _name(files: FileList, index: int) -> bytes:
    folder, name = os.path.split(files[index])
    if len(name + ENDING) > MAX_NAME:
        # Drop a UTF-8 character that was cut in two, because some file systems refuse it.
        name = name[:200].decode("utf-8", "ignore").encode() + b"-" + _digest(name)
    # A folder may be called as the saved image of a file beside it.
    folders = [
        part + b"-" + _digest(part) if part.endswith(ENDING) else part
        for part in folder.split(b"/")
    ]
    return os.path.join(*folders, name + ENDING)


def _digest(name: bytes) -> bytes:
    return hashlib.sha256(name).hexdigest()[:16].encode()


def check_outside(folder: Path, sources: Iterable[str]) -> None:
    """Raise UsageError if the next run would find the saved images in one of its ``sources``."""
    inside = Path(os.path.realpath(folder))
    for source in sources:
        if inside.is_relative_to(os.path.realpath(source)):
            raise UsageError(
                f"--save-fitted {folder} lies in {source}, where the next run would read it",
                "name a folder elsewhere",
            )
