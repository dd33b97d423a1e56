"""Computing batches in threads while the rest of the program handles those before."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

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
