"""Finding the source that a job names."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from batchdigit.errors import SourceError
from batchdigit.job import Job
from batchdigit.places import STDOUT, account_path
from batchdigit.sources.base import Source
from batchdigit.sources.endings import count_endings, left_out
from batchdigit.sources.folder import FolderSource, open_folders

_ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst", ".7z", ".rar")


def _open_folders(job: Job) -> FolderSource:
    _check_archives(job.source)
    own_outputs = () if job.out == STDOUT else (job.out, account_path(job.out))
    return open_folders(job.source, follow_symlinks=job.follow_symlinks, exclude=own_outputs)


def _check_archives(sources: Iterable[str]) -> None:
    """Raise SourceError if there is nothing but archives; among others, each is a file like any."""
    names = [source for source in sources if source.lower().endswith(_ARCHIVES)]
    if names == list(sources) and all(map(os.path.isfile, names)):
        raise SourceError(
            f"{names[0]} is an archive, which is not opened",
            "unpack it first, then name the folder",
        )


KINDS: tuple[tuple[Callable[[str], bool], Callable[[Job], Source]], ...] = (
    (lambda _text: True, _open_folders),  # paths: everything that no other kind takes
)
"""The kinds of sources: whether a text in ``Job.source`` names one, and the function to open it.

The first kind that matches all texts of a job is opened.
"""


def find_images(job: Job) -> Source:
    """The source that ``job`` names.

    Raises SourceError if it is missing, or has no images while ``job`` does not allow that.
    """
    open_source = next(opener for names, opener in KINDS if all(map(names, job.source)))
    source = open_source(job)
    if not job.allow_empty:
        check_images(source, job.source, more=", or add --allow-empty")
    return source


def check_images(source: Source, names: Iterable[object], *, more: str = "") -> None:
    """Raise SourceError if ``source``, found under ``names``, has no images.

    ``more`` is what else helps against that.
    """
    if not len(source):
        said = left_out(count_endings(source.ignored))
        raise SourceError(
            f"no images in {', '.join(map(str, names))} ({said or 'no other files'})",
            f"name a file, or a folder of images, such as .png, .jpg and .tif{more}",
        )
