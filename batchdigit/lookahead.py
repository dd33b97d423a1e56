"""Computing batches in threads while the rest of the program handles those before."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from batchdigit.records import Batch, Predictions
from batchdigit.stored import join_predictions

LARGEST_PART = 256  # images; smaller ones are slower, larger ones are not faster

Item = TypeVar("Item")
Result = TypeVar("Result")


def computed_ahead(
    compute: Callable[[Item], Result],
    items: Iterable[Item],
    threads: int,
    *,
    prepare: Callable[[], None] | None = None,
) -> Iterator[Result]:
    """The results of ``compute``, in the order of the items; ``threads`` of them run at a time.

    For a ``compute`` that spends its time outside of the interpreter's lock. Each thread begins
    with ``prepare``. One item more than there are threads is taken ahead.
    """
    executor = ThreadPoolExecutor(threads, "compute", initializer=prepare)
    ahead: deque[Future[Result]] = deque()
    try:
        for item in items:
            ahead.append(executor.submit(compute, item))
            if len(ahead) > threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        executor.shutdown(cancel_futures=True)


def predicted_in_threads(
    compute: Callable[[Batch], Predictions],
    batches: Iterable[Batch],
    threads: int,
    *,
    prepare: Callable[[], None] | None = None,
) -> Iterator[Predictions]:
    """The predictions of each batch, in order, computed in parts of ``LARGEST_PART`` images.

    So all threads have something to do, memory is bounded, and who leaves waits for no more than
    a part, however large batches are.
    """
    counts: deque[int] = deque()

    def parts() -> Iterator[Batch]:
        for batch in batches:
            pieces = batch.parts(LARGEST_PART)
            counts.append(len(pieces))
            yield from pieces

    gathered: list[Predictions] = []
    for predictions in computed_ahead(compute, parts(), threads, prepare=prepare):
        gathered.append(predictions)
        if len(gathered) == counts[0]:
            counts.popleft()
            yield join_predictions(gathered)
            gathered = []
