"""The dataset: the images of a source by position, read a batch at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from batchdigit.batches import Batch, Digit, Failure, Treatment, blank_facts
from batchdigit.errors import ImageError, one_line
from batchdigit.images.decode import decode_image, decode_plain_png, strict_pillow
from batchdigit.images.preprocess import ENOUGH_PIXELS, look_like_mnist, to_model_input, to_pixels
from batchdigit.job import Reading
from batchdigit.models.placing import placed
from batchdigit.models.spec import MNIST, InputSpec
from batchdigit.reading.clocks import FileClocks
from batchdigit.sources.base import Source
from batchdigit.system import processes
from batchdigit.system.stopwatch import Laps

DEFAULT_READING = Reading()
# An image with transparency takes 16 bytes for each pixel while it is laid over white; no other
# takes more (benchmarks/largest_images.py).
BYTES_OF_A_PIXEL = 18
COPIES_OF_A_BATCH = 8  # while it is put together and sent
SPARE_MEMORY = 64 << 20
_OPENCV_NO_MEMORY = -4
JUDGED_AT_ONCE = 256  # images: bounds the memory that judging takes, however large a batch is


class DigitImages:
    """The images of a source by their position, as the network of ``spec`` takes them.

    ``__getitems__`` reads a whole batch. Digits that are fitted have one channel, whatever the
    network has. A map-style dataset for PyTorch's DataLoader, but PyTorch need not be installed.
    """

    def __init__(
        self, source: Source, reading: Reading = DEFAULT_READING, spec: InputSpec = MNIST
    ) -> None:
        self.source = source
        self.reading = reading
        self.spec = spec
        self.how = reading.preprocess or "auto"
        self.shape = (spec.channels if self.how == "exact" else 1, *spec.plane)
        self.report_to(FileClocks(1, None), 0)

    def report_to(self, clocks: FileClocks, place: int) -> None:
        """Tell ``clocks`` which image is being read, as the process at ``place``."""
        self._clocks = clocks
        self._place = place
        clocks.stop(place)

    def memory(self, batch_size: int) -> int:
        """How many bytes a process that reads batches of ``batch_size`` may take for them."""
        image = BYTES_OF_A_PIXEL * self.reading.max_pixels + self.reading.max_bytes
        return image + COPIES_OF_A_BATCH * batch_size * math.prod(self.shape) + SPARE_MEMORY

    def __len__(self) -> int:
        return len(self.source.images)

    def __getitem__(self, index: int) -> Batch:
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Read, decode and preprocess the images at ``indices``, one after another.

        The DataLoader calls this once for a batch, instead of ``__getitem__`` for each image.
        """
        rows = _Rows(indices, self._contents(indices), self.spec, self.shape)
        laps = Laps()
        with processes.reserve_kept(), strict_pillow(self.reading.max_pixels):
            for row in range(len(indices)):
                self._attempt(self._read, rows, row, laps)
            laps.enter("fit")
            for row in rows.judge():
                self._attempt(_fit, rows, row, laps)
        laps.enter(None)
        self._clocks.stop(self._place)
        return rows.batch(laps.seconds)

    def _contents(self, indices: Sequence[int]) -> Iterator[bytes | ImageError]:
        """The bytes of each image, or its error; whatever the source raises becomes one."""
        done = 0
        while done < len(indices):
            problem = ImageError("read", "the source ended before this image")
            try:
                for content in self.source.contents(
                    indices[done:], max_bytes=self.reading.max_bytes
                ):
                    done += 1
                    yield content
            except ImageError as error:
                problem = error
            except Exception as error:  # noqa: BLE001
                # One image must not cost the others: the source is asked again for those after it.
                problem = ImageError("read", one_line(f"{type(error).__name__}: {error}"))
            if done < len(indices):
                done += 1
                yield problem

    def _attempt(
        self, work: Callable[[_Rows, int, Laps], None], rows: _Rows, row: int, laps: Laps
    ) -> None:
        """Do ``work`` on the image of a row; an error becomes a failure."""
        self._clocks.start(self._place, rows.indices[row])
        try:
            work(rows, row, laps)
        except ImageError as error:
            rows.fail(row, error.stage, error.message)
        except Exception as error:  # noqa: BLE001
            # One image must not cost its batch, whatever Pillow or numpy raises.
            if isinstance(error, MemoryError) or getattr(error, "code", 0) == _OPENCV_NO_MEMORY:
                rows.fail(row, *_out_of_memory())
            else:
                rows.fail(row, "decode", one_line(f"{type(error).__name__}: {error}"))

    def _read(self, rows: _Rows, row: int, laps: Laps) -> None:
        laps.enter("read")
        contents = next(rows.contents)
        if isinstance(contents, ImageError):
            raise contents
        laps.enter("decode")
        image: Image.Image | NDArray[np.uint8] | None = decode_plain_png(contents)
        if image is None:
            enough = None if self.how == "exact" else ENOUGH_PIXELS
            name = self.source.images[rows.indices[row]]
            image = decode_image(contents, enough=enough, name=name)
            from batchdigit.images.pages import has_more_pages  # plain files do without

            if has_more_pages(contents):
                rows.has_more_pages(row)
            laps.enter("fit")
        pixels = to_pixels(image, self.how, self.spec)
        if self.how == "auto" and pixels.shape == MNIST.plane:
            rows.put_off(row, pixels)
        else:
            laps.enter("fit")
            rows.put(row, to_model_input(pixels, self.how, self.spec))


def _out_of_memory() -> tuple[str, str]:
    """What is wrong with an image, if this process has too little memory for it."""
    if processes.memory_limit is not None:
        return "too-large", "needs more memory than the limits on bytes and pixels allow for"
    return "read", "not enough memory"  # next time there may be more


def _fit(rows: _Rows, row: int, _laps: Laps) -> None:
    rows.put(row, to_model_input(rows.pixels(row), "fit", rows.spec))


class _Rows:
    """A batch that is being read: an image or a failure for each of ``indices``.

    ``contents`` yields the bytes of the images, in that order; they become uint8 of ``shape``
    (C, H, W). Images that have the right size already are judged together at the end, which takes
    a fraction of the time.
    """

    def __init__(
        self,
        indices: Sequence[int],
        contents: Iterator[bytes | ImageError],
        spec: InputSpec,
        shape: tuple[int, int, int],
    ) -> None:
        count = len(indices)
        self.indices = indices
        self.contents = contents
        self.spec = spec
        self._images = np.zeros((count, *shape), np.uint8)
        # Judged before it is brought to another size; mostly it is the very same memory.
        same = shape == MNIST.shape
        self._digits = self._images if same else np.zeros((count, *MNIST.shape), np.uint8)
        self._facts = blank_facts(count)
        self._usable = np.ones(count, np.bool_)
        self._failures: dict[int, Failure] = {}
        self._more_pages: set[int] = set()
        self._put_off: list[int] = []

    def put(self, row: int, digit: Digit) -> None:
        """Set the image of a row, as the network gets it."""
        pixels = digit.pixels
        self._images[row] = pixels if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
        self._facts["treatment"][row] = digit.treatment
        self._facts["ink"][row] = digit.ink

    def has_more_pages(self, row: int) -> None:
        """Note that only the first page of a row's file is read."""
        self._more_pages.add(row)

    def put_off(self, row: int, pixels: NDArray[np.uint8]) -> None:
        """Set the image of a row, uint8[28, 28]; :meth:`judge` tells whether to fit it."""
        self._digits[row, 0] = pixels
        self._put_off.append(row)

    def pixels(self, row: int) -> NDArray[np.uint8]:
        """A copy of the image of a row, uint8[28, 28]."""
        pixels: NDArray[np.uint8] = self._digits[row, 0].copy()
        return pixels

    def fail(self, row: int, stage: str, message: str) -> None:
        """Note that this row has no image, and why."""
        self._usable[row] = False
        more_pages = stage == "blank" and row in self._more_pages
        self._failures[row] = Failure(self.indices[row], stage, message, more_pages)

    def judge(self) -> list[int]:
        """The rows, among those put off, that must be fitted: they do not look like MNIST's."""
        unlike: list[int] = []
        for start in range(0, len(self._put_off), JUDGED_AT_ONCE):
            rows = np.array(self._put_off[start : start + JUDGED_AT_ONCE], np.int64)
            likeness = look_like_mnist(self._digits[rows, 0])
            self._facts["ink"][rows] = likeness.ink
            unlike += rows[~likeness.mnist].tolist()
            if self._digits is not self._images:
                for row in rows[likeness.mnist].tolist():
                    self._images[row] = placed(self._digits[row, 0], self.spec)
        return unlike

    def batch(self, busy: Mapping[str, float]) -> Batch:
        """The batch, with the seconds of work in it by stage."""
        # A mask copies the arrays, which is needless where every row is usable.
        if self._more_pages:
            self._facts["treatment"][list(self._more_pages)] |= int(Treatment.MORE_PAGES)
        usable = self._usable if self._failures else slice(None)
        return Batch(
            np.array(self.indices, np.int64)[usable],
            self._images[usable],
            facts=self._facts[usable],
            failures=tuple(self._failures[row] for row in sorted(self._failures)),
            busy=busy,
        )
