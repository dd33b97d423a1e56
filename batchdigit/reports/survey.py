"""Counts how images looked and what was done to them, in all and by folder."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from batchdigit.batches import Predictions, Treatment
from batchdigit.reports.summary import FolderNote
from batchdigit.sources.filelist import FileList
from batchdigit.sources.filenames import escape_filename

MIN_IMAGES = 5  # a folder with fewer images is not judged
NEARLY_ALL = 0.9


@dataclass
class Survey:
    """Counts images in all and by folder. It must be given all predictions on ``files``.

    ``fitted`` is how many were fitted; ``inverted``, ``faint`` and ``blank`` count by folder.
    """

    files: FileList
    fitted: int = 0
    inverted: Counter[bytes] = field(default_factory=Counter)
    faint: Counter[bytes] = field(default_factory=Counter)
    blank: Counter[bytes] = field(default_factory=Counter)

    def count(self, predictions: Predictions) -> None:
        """Count one batch."""
        self.fitted += int(((predictions.treatments & Treatment.FITTED) > 0).sum())
        for count, sign in ((self.inverted, Treatment.DARK), (self.faint, Treatment.FAINT)):
            there = (predictions.treatments & sign) > 0
            for index in predictions.indices[there].tolist():
                count[self._folder(index)] += 1
        for failure in predictions.failures:
            if failure.stage == "blank":
                self.blank[self._folder(failure.index)] += 1

    def notes(self) -> tuple[FolderNote, ...]:
        """Folders in which nearly all images are of one kind, by kind and name."""
        kinds = {"blank": self.blank, "inverted": self.inverted, "faint": self.faint}
        if not any(kinds.values()):
            return ()
        images = Counter(self._folder(index) for index in range(len(self.files)))
        return tuple(
            FolderNote(escape_filename(folder) or ".", number, kind, count[folder])
            for kind, count in kinds.items()
            for folder, number in sorted(images.items())
            if number >= MIN_IMAGES and count[folder] >= NEARLY_ALL * number
        )

    def _folder(self, index: int) -> bytes:
        return self.files[index].rpartition(b"/")[0]
