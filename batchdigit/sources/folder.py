"""Folders of images, with their subfolders, and single files, in the order of their names."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from batchdigit.errors import ImageError, SourceError, remedy_for
from batchdigit.sources.beneath import Beneath
from batchdigit.sources.contents import read_file
from batchdigit.sources.filelist import FileList
from batchdigit.sources.filenames import EXTENSIONS
from batchdigit.sources.stamps import UNSETTLED, Stamps

NANOSECONDS_TO_SETTLE = 2_000_000_000
_ENCODING, _ERRORS = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()


class FolderSource:
    """Files below one folder, ``beneath``; ``images`` and ``ignored`` are paths relative to it."""

    random_access = True

    def __init__(self, beneath: Beneath, images: FileList, ignored: FileList) -> None:
        self.root = beneath.root
        self.images = images
        self.ignored = ignored
        self.follow_symlinks = beneath.follow
        self._beneath = beneath

    def __len__(self) -> int:
        return len(self.images)

    def path(self, index: int) -> bytes:
        """The path of image ``index``, for messages and for links to it."""
        return os.path.join(self.root, self.images[index])

    def at(self, places: Iterable[int]) -> FolderSource:
        """A source of the images at ``places``, which may repeat; it ignores nothing."""
        images = FileList(self.images[place] for place in places)
        return FolderSource(self._beneath, images, FileList())

    @property
    def binding(self) -> dict[str, str | bool]:
        """The root, and whether symbolic links are followed below it."""
        return {"folder": os.fsdecode(self.root), "--follow-symlinks": self.follow_symlinks}

    def contents(self, indices: Sequence[int], *, max_bytes: int) -> Iterator[bytes | ImageError]:
        """The contents of the files at ``indices``, or what is wrong with them."""
        for index in indices:
            try:
                path, folder = self._beneath.place(self.images[index])
                yield read_file(
                    path, folder=folder, follow_symlinks=self.follow_symlinks, max_bytes=max_bytes
                )
            except ImageError as error:
                yield error
            except OSError as error:
                yield ImageError("read", error.strerror or str(error))

    def stamps(self, indices: Sequence[int]) -> Stamps:
        """The size and the time of the last modification of the files at ``indices``.

        A file that was modified less than two seconds ago is UNSETTLED, because it could be
        modified once more without its time changing: FAT counts in steps of two seconds, other file
        systems in ticks of the kernel.
        """
        stamps = Stamps.unknown(len(indices))
        for row, index in enumerate(indices):
            try:
                path, folder = self._beneath.place(self.images[index])
                status = os.stat(path, dir_fd=folder, follow_symlinks=self.follow_symlinks)
            except OSError:
                continue
            settled = abs(time.time_ns() - status.st_mtime_ns) >= NANOSECONDS_TO_SETTLE
            stamps.sizes[row] = status.st_size
            stamps.times[row] = status.st_mtime_ns if settled else UNSETTLED
        return stamps


def open_folders(
    sources: Iterable[str | os.PathLike[str]],
    *,
    follow_symlinks: bool = False,
    exclude: Sequence[Path] = (),
) -> FolderSource:
    """Find the images in folders (recursively) and among single files.

    An image is a file whose name ends in one of EXTENSIONS, in lower or upper case; the names of
    other files are listed as ignored. Names that start with a dot are neither listed nor entered.
    Links to folders are entered only with ``follow_symlinks``, and never twice on one path. A
    folder that has the name of an image is entered, and also listed; it will fail as an image. So
    will a folder that cannot be read: it is listed with a slash at its end, because an unknown
    number of images must not vanish silently.

    For one folder, the root is that folder; for one file, it is the file's folder; for several
    sources, it is their deepest common folder. A file in several sources is listed once.

    ``exclude`` names files to leave out, such as the run's own output.

    Raises SourceError if a source is missing or unreadable.
    """
    places = [locate(os.fspath(source)) for source in sources]
    root = places[0] if len(places) == 1 else os.path.commonpath(places)
    if not os.path.isdir(root):
        root = os.path.dirname(root)
    folders = [place if os.path.isdir(place) else os.path.dirname(place) for place in places]
    named = [_relative(folder, root) for folder in folders]
    beneath = Beneath(root, follow=follow_symlinks, named=named)
    excluded = {os.path.realpath(os.fsencode(path)) for path in exclude}
    excluded_names = {os.path.basename(path) for path in (*excluded, *map(os.fsencode, exclude))}

    names: Iterable[bytes]
    if len(places) == 1:
        names = walk(beneath, places[0])
    else:
        names = sorted({name for place in places for name in walk(beneath, place)})

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

    found = FileList(images())  # also fills ``ignored``
    return FolderSource(beneath, found, FileList(ignored))


def locate(source: str) -> bytes:
    """The absolute path of a file or folder. Raises SourceError if it cannot be read."""
    path = os.path.abspath(os.fsencode(source))
    # "link/.." is the parent of the target of the link, not the folder that holds the link.
    if b".." in os.fsencode(source).split(os.sep.encode()):
        path = os.path.realpath(os.fsencode(source))
    try:
        if os.path.isdir(path):
            os.scandir(path).close()
        else:
            os.lstat(path)
    except OSError as error:
        raise _cannot_read(source, error) from error
    return path


def _cannot_read(source: str, error: OSError) -> SourceError:
    return SourceError(
        f"cannot read {source}: {error.strerror or error}",
        remedy_for(error, "name an existing, readable folder or image file"),
    )


def walk(beneath: Beneath, place: bytes) -> Iterator[bytes]:
    """Paths relative to the root of the visible files at or below ``place``, sorted by bytes.

    Within a folder, a subfolder sorts as its name with a slash. This makes the depth-first order
    the order of whole paths, so that memory grows with the largest folder, not with the tree.
    """
    relative = _relative(place, beneath.root)
    if not os.path.isdir(place):
        yield relative
        return
    prefix = relative + b"/" if relative else b""
    # Each level holds a folder's prefix, its remaining entries, and the identities on its path.
    try:
        levels = [(prefix, *_entries(beneath, prefix, ()))]
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
                levels.append((prefix + entry, *_entries(beneath, prefix + entry, identities)))
            except OSError:
                yield prefix + entry


def _entries(
    beneath: Beneath, prefix: bytes, ancestors: tuple[tuple[int, int], ...]
) -> tuple[Iterator[bytes], tuple[tuple[int, int], ...]]:
    """The sorted visible names in one folder; names of subfolders end in a slash.

    Where links are followed, also the (device, inode) pairs of the folder and its ancestors. They
    reveal a link back to one of these folders, which has no entries when it is met again.
    """
    folder = prefix.removesuffix(b"/")
    if beneath.follow:
        identity = beneath.identity(folder)
        if identity in ancestors:
            return iter(()), ancestors
        ancestors = (*ancestors, identity)
    with beneath.entries(folder) as found:
        names = [
            name
            for entry in found
            if not entry.name.startswith(".")
            for name in _names(entry, beneath.follow)
        ]
    names.sort()
    return iter(names), ancestors


def _names(entry: os.DirEntry[str], follow_symlinks: bool) -> tuple[bytes, ...]:
    """The entry as a file, as a folder, or as both if a folder has the name of an image."""
    name = entry.name.encode(_ENCODING, _ERRORS)
    if not _is_folder(entry, follow_symlinks):
        return (name,)
    folder = name + b"/"
    return (name, folder) if name.lower().endswith(EXTENSIONS) else (folder,)


def _is_folder(entry: os.DirEntry[str], follow_symlinks: bool) -> bool:
    try:
        return entry.is_dir(follow_symlinks=follow_symlinks)
    except OSError:  # such as a link to itself
        return False


def _relative(place: bytes, root: bytes) -> bytes:
    """The path from ``root`` to ``place`` with slashes; empty if they are the same."""
    relative = os.path.relpath(place, root).replace(os.sep.encode(), b"/")
    return b"" if relative == b"." else relative
