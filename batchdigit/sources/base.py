"""What a source is: images by name, and their bytes.

To add one, write a class that fulfils :class:`Source` in a file of its own in this package, and a
function that opens it: ``folder.py`` is the one to copy from. A line in ``find.KINDS`` says which
texts name it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from batchdigit.errors import ImageError
from batchdigit.sources.filelist import FileList
from batchdigit.sources.stamps import Stamps


class Source(Protocol):
    """Images that were found, in the order of the report.

    A source is given to worker processes, so it must be picklable, and light to copy however many
    images it has. ``images`` are the names of the images, sorted as the report is; ``ignored``
    those of whatever else was found. ``random_access`` says whether any image can be read at any
    time. Where it is false, the source can only be read through from the beginning: one process
    alone reads it, in ascending order.
    """

    images: FileList
    ignored: FileList
    random_access: bool

    def __len__(self) -> int:
        """How many images there are."""

    @property
    def binding(self) -> dict[str, Any]:
        """What tells this source from another one with the same names and stamps: JSON data.

        Each under the name that it has in a message.
        """

    def contents(self, indices: Sequence[int], *, max_bytes: int) -> Iterator[bytes | ImageError]:
        """The bytes of each image at ``indices`` (ascending), or what is wrong with it.

        An image is read when the iterator is asked for it, not before. One that has more than
        ``max_bytes`` bytes is not read: it is a ``too-large`` error. Where a read-through source
        is asked for an image that it has passed, it starts over.
        """

    def stamps(self, indices: Sequence[int]) -> Stamps:
        """By what a change of the images at ``indices`` shows, without reading them."""
