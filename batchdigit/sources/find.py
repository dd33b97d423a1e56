"""Which images there are, in the order of the report."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from batchdigit.errors import SourceError
from batchdigit.job import Job
from batchdigit.places import STDOUT, account_path
from batchdigit.sources.filelist import FileList
from batchdigit.sources.folder import EXTENSIONS, locate, walk


def find_images(job: Job) -> Listing:
    """The images of ``job.source``. Raises SourceError where there are none."""
    outputs = () if job.out == STDOUT else (job.out, account_path(job.out))
    listing = list_images(job.source, follow_symlinks=job.follow_symlinks, exclude=outputs)
    if not len(listing.images):
        sources = ", ".join(map(str, job.source))
        endings = ", ".join(ending.decode() for ending in EXTENSIONS)
        raise SourceError(
            f"no images in {sources} ({len(listing.ignored)} other files)",
            f"an image's name ends in one of {endings}",
        )
    return listing


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
    places = [locate(source) for source in sources]
    root = places[0] if len(places) == 1 else os.path.commonpath(places)
    if not os.path.isdir(root):
        root = os.path.dirname(root)
    excluded = {os.path.realpath(os.fsencode(path)) for path in exclude}
    excluded_names = {os.path.basename(path) for path in (*excluded, *map(os.fsencode, exclude))}

    names: Iterable[bytes]
    if len(places) == 1:
        names = walk(root, places[0], follow_symlinks)
    else:
        names = sorted({name for place in places for name in walk(root, place, follow_symlinks)})

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
