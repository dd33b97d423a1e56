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
from batchdigit.sources.endings import COMMON, EXTENSIONS
from batchdigit.sources.filelist import FileList
from batchdigit.sources.look import Look
from batchdigit.sources.stamps import UNSETTLED, Stamps
from batchdigit.version import heif_version

NANOSECONDS_TO_SETTLE = 2_000_000_000
_ENCODING, _ERRORS = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()


class FolderSource:
    """Files below one folder, ``beneath``; ``images`` and ``ignored`` are paths relative to it.

    ``followed`` are links to files that the user has named, which are read. ``heic`` says whether
    any image was seen to be HEIC.
    """

    random_access = True

    def __init__(
        self,
        beneath: Beneath,
        images: FileList,
        ignored: FileList,
        *,
        followed: frozenset[bytes] = frozenset(),
        heic: bool = False,
    ) -> None:
        self.root = beneath.root
        self.images = images
        self.ignored = ignored
        self.follow_symlinks = beneath.follow
        self._beneath = beneath
        self._followed = followed
        self._heic = heic

    def __len__(self) -> int:
        return len(self.images)

    def path(self, index: int) -> bytes:
        """The path of image ``index``, for messages and for links to it."""
        return os.path.join(self.root, self.images[index])

    def at(self, places: Iterable[int]) -> FolderSource:
        """A source of the images at ``places``, which may repeat; it ignores nothing."""
        images = FileList(self.images[place] for place in places)
        return FolderSource(
            self._beneath, images, FileList(), followed=self._followed, heic=self._heic
        )

    @property
    def binding(self) -> dict[str, str | bool]:
        """The root, whether symbolic links are followed below it, and what decodes HEIC, if any."""
        binding: dict[str, str | bool] = {
            "folder": os.fsdecode(self.root),
            "--follow-symlinks": self.follow_symlinks,
        }
        if self._heic and (version := heif_version()):
            binding["pillow-heif"] = version
        return binding

    def contents(self, indices: Sequence[int], *, max_bytes: int) -> Iterator[bytes | ImageError]:
        """The contents of the files at ``indices``, or what is wrong with them."""
        for index in indices:
            try:
                name = self.images[index]
                path, folder = self._beneath.place(name)
                follow = self._follows(name)
                yield read_file(path, folder=folder, follow_symlinks=follow, max_bytes=max_bytes)
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
                name = self.images[index]
                path, folder = self._beneath.place(name)
                status = os.stat(path, dir_fd=folder, follow_symlinks=self._follows(name))
            except OSError:
                continue
            settled = abs(time.time_ns() - status.st_mtime_ns) >= NANOSECONDS_TO_SETTLE
            stamps.sizes[row] = status.st_size
            stamps.times[row] = status.st_mtime_ns if settled else UNSETTLED
        return stamps

    def _follows(self, name: bytes) -> bool:
        return self.follow_symlinks or name in self._followed


def open_folders(
    sources: Iterable[str | os.PathLike[str]],
    *,
    follow_symlinks: bool = False,
    exclude: Sequence[Path] = (),
) -> FolderSource:
    """Find the images in folders (recursively) and among single files.

    An image is a file whose name ends in one of EXTENSIONS, in lower or upper case; one whose name
    says nothing, but whose first bytes are an image's (:mod:`batchdigit.sources.look`); and every
    file that ``sources`` names. The names of other files are listed as ignored. Names that start
    with a dot are neither listed nor entered, unless they are named.

    Links are followed where ``sources`` names them, below only with ``follow_symlinks``, and never
    into one folder twice on a path. What cannot be read is listed, and will fail as an image,
    because no image may vanish silently: a folder that cannot be listed, with a slash at its end, a
    linked one that is not read anyway, and one that has the name of an image, which is entered too.

    For one folder, the root is that folder; for one file, it is the file's folder; for several
    sources, it is their deepest common folder. A file in several sources is listed once.

    ``exclude`` names files to leave out, such as the run's own output. Raises SourceError if a
    source is missing or unreadable.
    """
    places = [locate(os.fspath(source)) for source in sources]
    root = places[0] if len(places) == 1 else os.path.commonpath(places)
    if not os.path.isdir(root):
        root = os.path.dirname(root)
    entered = {place for place in places if os.path.isdir(place)}
    folders = (place if place in entered else os.path.dirname(place) for place in places)
    named = [_relative(folder, root) for folder in folders]
    beneath = Beneath(root, follow=follow_symlinks, named=named)
    own = {os.path.realpath(os.fsencode(path)) for path in exclude}
    own_names = {os.path.basename(path) for path in (*own, *map(os.fsencode, exclude))}

    tried = {_relative(place, root): place for place in places if place not in entered}
    followed = frozenset(name for name, place in tried.items() if os.path.islink(place))
    look = Look(beneath, map(os.path.realpath, entered))

    links = set[bytes]()
    names = _walk_all(beneath, places, links)
    ignored: list[bytes] = []

    def images() -> Iterator[bytes]:
        for name in names:
            basename = name[name.rfind(b"/") + 1 :]
            if basename in own_names and os.path.realpath(os.path.join(root, name)) in own:
                continue
            if (
                basename.lower().endswith(COMMON)
                or not basename
                or look.is_image(name, link=name in links)
                or name in tried
            ):
                yield name
            else:
                ignored.append(name)

    found = FileList(images())  # also fills ``ignored``
    return FolderSource(beneath, found, FileList(ignored), followed=followed, heic=look.heic)


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
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        from batchdigit.sources.missing import meant_by  # it serves this message alone

        if told := meant_by(source):
            return SourceError(*told)
    return SourceError(
        f"cannot read {source}: {error.strerror or error}",
        remedy_for(error, "name an existing, readable folder or image file"),
    )


def _walk_all(beneath: Beneath, places: Sequence[bytes], links: set[bytes]) -> Iterable[bytes]:
    """What :func:`walk` finds at or below all ``places``, each name once."""
    if len(places) == 1:
        return walk(beneath, places[0], links)
    return sorted({name for place in places for name in walk(beneath, place, links)})


def walk(beneath: Beneath, place: bytes, links: set[bytes] | None = None) -> Iterator[bytes]:
    """Paths relative to the root of the visible files at or below ``place``, sorted by bytes.

    Those that are links without the name of an image, and not followed, are added to ``links``.
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
        levels = [(prefix, *_entries(beneath, prefix, (), links))]
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
                below = prefix + entry
                levels.append((below, *_entries(beneath, below, identities, links)))
            except OSError:
                yield prefix + entry


def _entries(
    beneath: Beneath,
    prefix: bytes,
    ancestors: tuple[tuple[int, int], ...],
    links: set[bytes] | None,
) -> tuple[Iterator[bytes], tuple[tuple[int, int], ...]]:
    """The sorted visible names in one folder; names of subfolders end in a slash.

    A folder that has the name of an image is there twice, as a file and as a folder.

    Where links are followed, also the (device, inode) pairs of the folder and its ancestors. They
    reveal a link back to one of these folders, which has no entries when it is met again.
    """
    folder = prefix.removesuffix(b"/")
    if beneath.follow:
        identity = beneath.identity(folder)
        if identity in ancestors:
            return iter(()), ancestors
        ancestors = (*ancestors, identity)
    names: list[bytes] = []
    with beneath.entries(folder) as found:
        for entry in found:
            if entry.name.startswith("."):
                continue
            name = entry.name.encode(_ENCODING, _ERRORS)
            if _is_folder(entry, beneath.follow):
                names.append(name + b"/")
                if name.lower().endswith(EXTENSIONS):
                    names.append(name)
                continue
            names.append(name)
            if links is not None and not beneath.follow and entry.is_symlink():
                links.update(() if name.lower().endswith(EXTENSIONS) else (prefix + name,))
    names.sort()
    return iter(names), ancestors


def _is_folder(entry: os.DirEntry[str], follow_symlinks: bool) -> bool:
    try:
        return entry.is_dir(follow_symlinks=follow_symlinks)
    except OSError:  # such as a link to itself
        return False


def _relative(place: bytes, root: bytes) -> bytes:
    """The path from ``root`` to ``place`` with slashes; empty if they are the same."""
    relative = os.path.relpath(place, root).replace(os.sep.encode(), b"/")
    return b"" if relative == b"." else relative
