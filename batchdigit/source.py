"""Which files are images: listing of folders and files, in the order of the report."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchdigit.errors import SourceError
from batchdigit.filenames import FileList

EXTENSIONS = (
    *(b".png", b".jpg", b".jpeg", b".jpe", b".jfif", b".bmp", b".gif"),
    *(b".tif", b".tiff", b".webp", b".pgm", b".ppm"),
)
NANOSECONDS_TO_SETTLE = 2_000_000_000
UNKNOWN = -1
UNSETTLED = -2


@dataclass(frozen=True)
class Listing:
    """The images found below one root, and the other files there, both sorted by their bytes."""

    images: FileList
    ignored: FileList


def list_images(
    sources: Iterable[Path],
    *,
    follow_symlinks: bool = False,
    exclude: Sequence[Path] = (),
) -> Listing:
    """Find the images in folders (recursively) and among single files.

    An image is what has one of EXTENSIONS, in any case; the rest is ignored and listed. Names
    that start with a dot are hidden: neither listed nor entered. Links to folders are entered
    only with ``follow_symlinks``, and never twice on one path. A folder that has the name of an
    image is entered and listed as well; it will fail as an image. A folder inside a source that
    cannot be listed stays in the list, with a slash at its end, and will fail as an image: an
    unknown number of images must not vanish silently.

    The root is the folder itself for one folder, the file's folder for one file, and the deepest
    common folder for several sources. A file that several sources reach is listed once.

    ``exclude`` names files to leave out, such as the run's own output.

    Raises SourceError when a source is missing or unreadable.
    """
    places = [_locate(source) for source in sources]
    root = places[0] if len(places) == 1 else os.path.commonpath(places)
    if not os.path.isdir(root):
        root = os.path.dirname(root)
    excluded = {os.path.realpath(os.fsencode(path)) for path in exclude}
    excluded_names = {os.path.basename(path) for path in (*excluded, *map(os.fsencode, exclude))}

    names: Iterable[bytes]
    if len(places) == 1:
        names = _walk(root, places[0], follow_symlinks)
    else:
        names = sorted({name for place in places for name in _walk(root, place, follow_symlinks)})

    ignored: list[bytes] = []

    def images() -> Iterator[bytes]:
        for name in names:
            basename = name[name.rfind(b"/") + 1 :]
            if basename in excluded_names and (
                os.path.realpath(os.path.join(root, name)) in excluded
            ):
                continue
            if basename and not basename.lower().endswith(EXTENSIONS):
                ignored.append(name)
            else:
                yield name

    return Listing(FileList(root, images()), FileList(root, ignored))


@dataclass(frozen=True)
class Stamps:
    """By what a change of N files shows.

    ``sizes`` int64[N] in bytes, ``times`` int64[N] of the last modification in nanoseconds. Both
    are UNKNOWN for a file that cannot be looked at, and UNSETTLED for one that could still change
    without showing it.
    """

    sizes: NDArray[np.int64]
    times: NDArray[np.int64]

    @classmethod
    def unknown(cls, count: int) -> Stamps:
        """Those of files that nobody looked at."""
        return cls(np.full(count, UNKNOWN, dtype=np.int64), np.full(count, UNKNOWN, dtype=np.int64))

    def at(self, places: NDArray[Any]) -> Stamps:
        """Those at some places: positions, or a mask."""
        return Stamps(self.sizes[places], self.times[places])

    def equals(self, others: Stamps) -> NDArray[np.bool_]:
        """Where a file is certain to be as it was, bool[N]."""
        same: NDArray[np.bool_] = (self.sizes == others.sizes) & (self.times == others.times)
        return same & (self.sizes >= 0)


def stamp_files(files: FileList, *, follow_symlinks: bool = False) -> Stamps:
    """Look at the size and the time of every file.

    A file that was modified less than two seconds ago is UNSETTLED: it could be modified once more
    without its time changing (FAT counts in two seconds, others in ticks of the kernel).
    """
    stamps = Stamps.unknown(len(files))
    for index in range(len(files)):
        try:
            status = os.stat(files.path(index), follow_symlinks=follow_symlinks)
        except OSError:
            continue
        settled = abs(time.time_ns() - status.st_mtime_ns) >= NANOSECONDS_TO_SETTLE
        stamps.sizes[index] = status.st_size if settled else UNSETTLED
        stamps.times[index] = status.st_mtime_ns if settled else UNSETTLED
    return stamps


def _locate(source: Path) -> bytes:
    path = os.path.abspath(os.fsencode(source))
    # "link/.." is the parent of where the link leads, not the folder that holds the link.
    if b".." in os.fsencode(source).split(os.sep.encode()):
        path = os.path.realpath(os.fsencode(source))
    try:
        if os.path.isdir(path):
            os.scandir(path).close()
        else:
            os.lstat(path)
    except OSError as error:
        raise _cannot_read(str(source), error) from error
    return path


def _cannot_read(source: str, error: OSError) -> SourceError:
    return SourceError(
        f"cannot read {source}: {error.strerror or error}",
        "name an existing, readable folder or image file",
    )


def _walk(root: bytes, place: bytes, follow_symlinks: bool) -> Iterator[bytes]:
    """Paths relative to ``root`` of the visible files at or below ``place``, sorted by bytes.

    Within a folder, a subfolder sorts as its name with a slash, which makes the depth-first
    order the order of whole paths: memory grows with the largest folder, not with the tree.
    """
    relative = os.path.relpath(place, root)
    if not os.path.isdir(place):
        yield _posix(relative)
        return
    prefix = b"" if relative == b"." else _posix(relative) + b"/"
    # Each level: the folder's prefix, its entries still to come, its identity.
    try:
        levels = [(prefix, *_entries(root, prefix, follow_symlinks, ()))]
    except OSError as error:
        raise _cannot_read(os.fsdecode(place), error) from error
    while levels:
        prefix, entries, identities = levels[-1]
        entry = next(entries, None)
        if entry is None:
            levels.pop()
        elif not entry.endswith(b"/"):
            yield prefix + entry
        else:
            try:
                levels.append(
                    (prefix + entry, *_entries(root, prefix + entry, follow_symlinks, identities))
                )
            except OSError:
                yield prefix + entry


def _entries(
    root: bytes, prefix: bytes, follow_symlinks: bool, ancestors: tuple[tuple[int, int], ...]
) -> tuple[Iterator[bytes], tuple[tuple[int, int], ...]]:
    """The sorted visible names in one folder, subfolders with a slash at the end.

    With ``follow_symlinks``, also the (device, inode) pairs of the folder and its ancestors, by
    which a link back into one of them is recognised; a folder met again has no entries.
    """
    folder = os.path.join(root, prefix)
    if follow_symlinks:
        status = os.stat(folder)
        identity = (status.st_dev, status.st_ino)
        if identity in ancestors:
            return iter(()), ancestors
        ancestors = (*ancestors, identity)
    with os.scandir(folder) as scan:
        names = [
            name
            for entry in scan
            if not entry.name.startswith(b".")
            for name in _names(entry, follow_symlinks)
        ]
    names.sort()
    return iter(names), ancestors


def _names(entry: os.DirEntry[bytes], follow_symlinks: bool) -> tuple[bytes, ...]:
    """The entry as a file, as a folder, or as both where a folder has the name of an image."""
    if not _is_folder(entry, follow_symlinks):
        return (entry.name,)
    folder = entry.name + b"/"
    return (entry.name, folder) if entry.name.lower().endswith(EXTENSIONS) else (folder,)


def _is_folder(entry: os.DirEntry[bytes], follow_symlinks: bool) -> bool:
    try:
        return entry.is_dir(follow_symlinks=follow_symlinks)
    except OSError:  # a link to itself, for one
        return False


def _posix(path: bytes) -> bytes:
    return path.replace(os.sep.encode(), b"/")
