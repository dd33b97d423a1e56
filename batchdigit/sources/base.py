"""What a source is: images with their names and bytes.

To add a source, write a class that fulfils :class:`Source` and a function that opens it, in a new
file of this package; copy from ``folder.py``. Then add a line to ``find.KINDS``, which says which
texts name the source.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from batchdigit.errors import ImageError
from batchdigit.sources.filelist import FileList
from batchdigit.sources.stamps import Stamps


class Source(Protocol):
    """The images that were found, in the order of the report.

    A source is sent to worker processes, so it must be picklable, and cheap to copy however many
    images it has. It keeps nothing open until ``contents`` is called in the process that reads.

    ``images`` are the names of the images, sorted by their bytes, each once: the order of the
    report. ``ignored`` are the names of everything else that was found. ``random_access`` says
    whether any image can be read at any time. If it is false, the source can only be read through
    from the beginning, so a single process reads it in ascending order.
    """

    images: FileList
    ignored: FileList
    random_access: bool

    def __len__(self) -> int:
        """How many images there are."""

    @property
    def binding(self) -> dict[str, Any]:
        """What distinguishes this source from others with the same names and stamps: JSON data.

        The keys are the names that messages use. ``folder`` is what its names start from: sources
        of which it is the same give one file the same name.
        """

    def contents(self, indices: Sequence[int], *, max_bytes: int) -> Iterator[bytes | ImageError]:
        """The bytes of each image at ``indices`` (ascending), or what is wrong with it.

        An image is read when the iterator is asked for it, not before. An image of more than
        ``max_bytes`` bytes is not read, but is a ``too-large`` error. If a read-through source is
        asked for an image that it has passed, it starts over. There is one item for each index:
        if a source cannot continue, each image that is left is an error.
        """

    def stamps(self, indices: Sequence[int]) -> Stamps:
        """What shows whether the images at ``indices`` change, without reading them."""
