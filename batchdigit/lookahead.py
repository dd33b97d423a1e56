"""Computing one batch while the rest of the program handles the one before."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def one_ahead(compute: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """The results of ``compute``, in order; it runs in a thread, one item ahead.

    For a ``compute`` that spends its time outside of the interpreter's lock.
    """
    with ThreadPoolExecutor(1, "compute") as thread:
        ahead: Future[Result] | None = None
        for item in items:
            launched = thread.submit(compute, item)
            if ahead is not None:
                yield ahead.result()
            ahead = launched
        if ahead is not None:
            yield ahead.result()
