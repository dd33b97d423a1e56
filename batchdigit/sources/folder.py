"""Folders of images: the files below one, in the order of their names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from batchdigit.errors import SourceError

EXTENSIONS = (
    *(b".png", b".jpg", b".jpeg", b".jpe", b".jfif", b".bmp", b".gif"),
    *(b".tif", b".tiff", b".webp", b".pgm", b".ppm"),
)


def locate(source: Path) -> bytes:
    """The absolute path of a file or folder. Raises SourceError where it cannot be read."""
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


def walk(root: bytes, place: bytes, follow_symlinks: bool) -> Iterator[bytes]:
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
