"""Predictions and batches as plain lists of rows, and made-up rows for hypothesis to play with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

from batchdigit.batches import Batch, Failure, Predictions
from tests.support.samples import facts_of

LABELS = 3


class Row(NamedTuple):
    """The outcome of one file; all that its row holds is made from ``seed``."""

    index: int
    seed: int
    failed: bool


def rows(max_size: int = 12) -> st.SearchStrategy[list[Row]]:
    """Rows in the order of their files, which need not follow one another."""
    return st.lists(
        st.builds(Row, st.integers(0, 40), st.integers(0, 999), st.booleans()),
        unique_by=lambda row: row.index,
        max_size=max_size,
    ).map(sorted)


def predictions_of(rows: Iterable[Row], busy: Mapping[str, float] | None = None) -> Predictions:
    """Predictions that hold these rows, which are in the order of the files."""
    rows = list(rows)
    good = [row for row in rows if not row.failed]
    seeds = np.array([row.seed for row in good])
    return Predictions(
        indices=np.array([row.index for row in good], np.int64),
        labels=np.add.outer(seeds, np.arange(LABELS)).reshape(-1, LABELS).astype(np.int64),
        probs=np.divide.outer(seeds, np.arange(1, LABELS + 1)).reshape(-1, LABELS).astype("f4"),
        facts=facts_of(seeds % 8, seeds / 1000),
        failures=_failures(rows),
        busy=busy or {},
    )


def batch_of(rows: Iterable[Row], busy: Mapping[str, float] | None = None) -> Batch:
    """A batch that holds these rows, which are in the order of the files."""
    rows = list(rows)
    good = [row for row in rows if not row.failed]
    seeds = np.array([row.seed for row in good])
    return Batch(
        indices=np.array([row.index for row in good], np.int64),
        images=np.repeat((seeds % 256).astype(np.uint8), 28 * 28).reshape(-1, 1, 28, 28),
        facts=facts_of(seeds % 8, seeds / 1000),
        failures=_failures(rows),
        busy=busy or {},
    )


def _failures(rows: Iterable[Row]) -> tuple[Failure, ...]:
    return tuple(Failure(row.index, "decode", f"seed {row.seed}") for row in rows if row.failed)


def assert_same(one: Predictions | Batch, other: Predictions | Batch) -> None:
    """Assert that both hold the same, to the last bit and type; ``busy`` aside."""
    assert type(one) is type(other)
    for name, array in vars(other).items():
        if isinstance(array, np.ndarray):
            np.testing.assert_array_equal(vars(one)[name], array, err_msg=name, strict=True)
    assert one.failures == other.failures
