"""Looking at files whose names do not say whether they are images."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable

from batchdigit.sources.beneath import Beneath
from batchdigit.sources.endings import EXTENSIONS, HEIC_ENDINGS, OTHER, ending_of
from batchdigit.system.regular import head


class Look:
    """Decides which of the doubtful files below a root are listed as images.

    ``folders`` are those that are read anyway. ``heic`` tells whether any file, so far, is HEIC by
    its name or by its first bytes.
    """

    def __init__(self, beneath: Beneath, folders: Iterable[bytes]) -> None:
        self._beneath = beneath
        self._folders = tuple(folders)
        self.heic = False

    def is_image(self, name: bytes, *, link: bool) -> bool:
        """Whether the file ``name`` is to be listed; ``link`` if it is a link that is not followed.

        Of a link its target counts: it is listed if that is named like an image, or is a folder
        that is not read anyway. A file with no ending, or with one that nobody knows, is listed if
        its first bytes are those of an image, or cannot be read.
        """
        if name.lower().endswith(EXTENSIONS):
            self.heic = self.heic or name.lower().endswith(HEIC_ENDINGS)
            return True
        if link:
            return self._leads_to_images(name)
        return ending_of(name) not in OTHER and self._starts_like_an_image(name)

    def _leads_to_images(self, name: bytes) -> bool:
        target = os.path.realpath(os.path.join(self._beneath.root, name))
        if not os.path.isdir(target):
            return target.lower().endswith(EXTENSIONS)
        return not any(_is_read_with(target, folder) for folder in self._folders)

    def _starts_like_an_image(self, name: bytes) -> bool:
        from batchdigit.sources.signatures import HEAD, HEIC, format_of  # few names say nothing

        follow = self._beneath.follow
        try:
            path, folder = self._beneath.place(name)
            # Asked first, because a FIFO or a device notices that it is opened.
            status = os.stat(path, dir_fd=folder, follow_symlinks=follow)
            if not stat.S_ISREG(status.st_mode) or not status.st_size:
                return False
            found = format_of(head(path, HEAD, follow=follow, folder=folder))
        except OSError as error:
            # What leads nowhere holds nothing. Of all else nobody knows, so it must not vanish.
            return error.errno not in (errno.ENOENT, errno.ELOOP)
        self.heic = self.heic or found == HEIC
        return bool(found)


def _is_read_with(target: bytes, folder: bytes) -> bool:
    """Whether whoever reads ``folder`` also reads ``target``; both are real paths."""
    if target == folder:
        return True
    below = target.removeprefix(os.path.join(folder, b""))
    return below != target and not any(part.startswith(b".") for part in below.split(b"/"))
