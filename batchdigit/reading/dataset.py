"""The dataset: digit images by their position in a list of files, read a batch at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from batchdigit.batches import Batch, Digit, Failure
from batchdigit.errors import ImageError, one_line
from batchdigit.images.decode import decode_image, decode_plain_png, strict_pillow
from batchdigit.images.preprocess import ENOUGH_PIXELS, look_like_mnist, to_grey, to_model_input
from batchdigit.job import Reading
from batchdigit.models.spec import MNIST
from batchdigit.reading.clocks import FileClocks
from batchdigit.sources.contents import read_file
from batchdigit.sources.filelist import FileList
from batchdigit.system.stopwatch import Laps

DEFAULT_READING = Reading()
JUDGED_AT_ONCE = 256  # images, so that judging takes little memory, however large a batch


class DigitFiles:
    """Digit images by their position in a file list; ``__getitems__`` reads a whole batch.

    A map-style dataset for PyTorch's DataLoader, which need not be there.
    """

    def __init__(self, files: FileList, reading: Reading = DEFAULT_READING) -> None:
        self.files = files
        self.reading = reading
        self.report_to(FileClocks(1, None), 0)

    def report_to(self, clocks: FileClocks, place: int) -> None:
        """Say to ``clocks`` which file is being read, as the process at ``place``."""
        self._clocks = clocks
        self._place = place
        clocks.stop(place)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Batch:
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Read, decode and preprocess the files at ``indices``, one after another.

        The DataLoader calls this with each batch's indices in place of ``__getitem__``.
        """
        rows = _Rows(indices)
        laps = Laps()
        with strict_pillow(self.reading.max_pixels):
            for row in range(len(indices)):
                self._attempt(self._read, rows, row, laps)
            laps.enter("fit")
            for row in rows.judge():
                self._attempt(_fit, rows, row, laps)
        laps.enter(None)
        self._clocks.stop(self._place)
        return rows.batch(laps.seconds)

    def _attempt(
        self, work: Callable[[_Rows, int, Laps], None], rows: _Rows, row: int, laps: Laps
    ) -> None:
        """Do ``work`` on the file of a row; what is wrong with it becomes a failure."""
        self._clocks.start(self._place, rows.indices[row])
        try:
            work(rows, row, laps)
        except ImageError as error:
            rows.fail(row, error.stage, error.message)
        except Exception as error:  # noqa: BLE001
            # One file must not take its batch along, whatever Pillow or numpy raised.
            rows.fail(row, "decode", one_line(f"{type(error).__name__}: {error}"))

    def _read(self, rows: _Rows, row: int, laps: Laps) -> None:
        reading = self.reading
        how = reading.preprocess
        laps.enter("read")
        contents = read_file(
            self.files.path(rows.indices[row]),
            follow_symlinks=reading.follow_symlinks,
            max_bytes=reading.max_bytes,
        )
        laps.enter("decode")
        image: Image.Image | NDArray[np.uint8] | None = decode_plain_png(contents)
        if image is None:
            image = decode_image(contents, enough=None if how == "exact" else ENOUGH_PIXELS)
            laps.enter("fit")
        pixels = to_grey(image, how)
        if how == "auto" and pixels.shape == MNIST.plane:
            rows.put_off(row, pixels)
        else:
            laps.enter("fit")
            rows.put(row, to_model_input(pixels, how))


def _fit(rows: _Rows, row: int, _laps: Laps) -> None:
    rows.put(row, to_model_input(rows.pixels(row), "fit"))


class _Rows:
    """The images of a batch while it is read: a row for each of ``indices``, or a failure.

    Those that have the right size are judged together at the end, which takes a fraction of the
    time.
    """

    def __init__(self, indices: Sequence[int]) -> None:
        count = len(indices)
        self.indices = indices
        self._images = np.zeros((count, *MNIST.shape), np.uint8)
        self._treatments = np.zeros(count, np.uint8)
        self._ink = np.zeros(count, np.float32)
        self._usable = np.ones(count, np.bool_)
        self._failures: dict[int, Failure] = {}
        self._put_off: list[int] = []

    def put(self, row: int, digit: Digit) -> None:
        """The image of a row, as the network gets it."""
        self._images[row, 0], self._treatments[row], self._ink[row] = digit

    def put_off(self, row: int, pixels: NDArray[np.uint8]) -> None:
        """The image of a row, uint8[28, 28], that is as the network gets it if it is like MNIST."""
        self._images[row, 0] = pixels
        self._put_off.append(row)

    def pixels(self, row: int) -> NDArray[np.uint8]:
        """The image of a row, uint8[28, 28]."""
        pixels: NDArray[np.uint8] = self._images[row, 0].copy()
        return pixels

    def fail(self, row: int, stage: str, message: str) -> None:
        """There is no image in this row."""
        self._usable[row] = False
        self._failures[row] = Failure(self.indices[row], stage, message)

    def judge(self) -> list[int]:
        """The rows that were put off and are to be fitted, for they do not look like MNIST's."""
        unlike: list[int] = []
        for start in range(0, len(self._put_off), JUDGED_AT_ONCE):
            rows = np.array(self._put_off[start : start + JUDGED_AT_ONCE], np.int64)
            likeness = look_like_mnist(self._images[rows, 0])
            self._ink[rows] = likeness.ink
            unlike += rows[~likeness.mnist].tolist()
        return unlike

    def batch(self, busy: Mapping[str, float]) -> Batch:
        """What has come of it."""
        # A mask copies; where every row is usable, the arrays go as they are.
        usable = self._usable if self._failures else slice(None)
        return Batch(
            np.array(self.indices, np.int64)[usable],
            self._images[usable],
            self._treatments[usable],
            self._ink[usable],
            tuple(self._failures[row] for row in sorted(self._failures)),
            busy,
        )
