"""Computing batches in threads while the rest of the program handles earlier ones."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from batchdigit.batches import Batch, Predictions, join_predictions
from batchdigit.errors import WorkerError
from batchdigit.models.spec import MNIST, InputSpec

MAX_PART = 128  # images: larger parts are not faster on a CPU, and take 140 KB an image

LEAST_AT_ONCE = 8  # images, however large they are

Item = TypeVar("Item")
Result = TypeVar("Result")


def at_once(spec: InputSpec, most: int = MAX_PART) -> int:
    """How many images that ``spec`` declares are computed together: ``most`` of MNIST's size.

    Larger ones take more memory, so they are fewer.
    """
    fewer = most * math.prod(MNIST.shape) // math.prod(spec.shape)
    return min(most, max(LEAST_AT_ONCE, fewer))


def computed_ahead(
    compute: Callable[[Item], Result],
    items: Iterable[Item],
    threads: int,
    *,
    prepare: Callable[[], None] | None = None,
    stop: Callable[[], None] | None = None,
) -> Iterator[Result]:
    """The results of ``compute`` for ``items``, in their order, computed in ``threads`` threads.

    ``compute`` should spend its time outside the interpreter's lock. Each thread first calls
    ``prepare``. At most one item more than there are threads is taken ahead, and a result that is
    ready is yielded before the next item is taken. If the items end in an error, all results come
    before it. ``stop`` is called when nobody wants the results of what is still being computed.
    Raises WorkerError when no thread can be started.
    """
    executor = ThreadPoolExecutor(threads, "compute", initializer=prepare)
    ahead: deque[Future[Result]] = deque()
    failure: Exception | None = None
    iterator = iter(items)
    try:
        while True:
            try:
                item = next(iterator)
            except StopIteration:
                break
            except Exception as error:  # noqa: BLE001  (raised below)
                failure = error
                break
            ahead.append(_submit(executor, compute, item))
            while ahead and (len(ahead) > threads or ahead[0].done()):
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
        if failure is not None:
            raise failure
    finally:
        if stop is not None:
            stop()
        executor.shutdown(cancel_futures=True)


def _submit(
    executor: ThreadPoolExecutor, compute: Callable[[Item], Result], item: Item
) -> Future[Result]:
    try:
        return executor.submit(compute, item)
    except RuntimeError as error:
        raise WorkerError(
            f"cannot start a computing thread: {error}",
            "free some memory or processes, or set OMP_NUM_THREADS=1",
        ) from error


def predicted_in_threads(
    compute: Callable[[Batch], Predictions],
    batches: Iterable[Batch],
    threads: int,
    *,
    part: int = MAX_PART,
    prepare: Callable[[], None] | None = None,
    stop: Callable[[], None] | None = None,
) -> Generator[Predictions, None, None]:
    """The predictions of each batch, in order, computed in parts of ``part`` images.

    However large the batches are, parts keep all threads busy and bound the memory. A caller that
    stops early waits no longer than a part takes.
    """
    counts: deque[int] = deque()

    def parts() -> Iterator[Batch]:
        for batch in batches:
            pieces = batch.parts(part)
            counts.append(len(pieces))
            yield from pieces

    gathered: list[Predictions] = []
    for predictions in computed_ahead(compute, parts(), threads, prepare=prepare, stop=stop):
        gathered.append(predictions)
        if len(gathered) == counts[0]:
            counts.popleft()
            yield join_predictions(gathered)
            gathered = []
