"""Whether one set of numbers tends to be larger than another, by ranks: outliers count little.

The test is the one by Mann and Whitney (On a test of whether one of two random variables is
stochastically larger than the other, Annals of Mathematical Statistics 18, 1947), over several
pairs of sets at once by the sum of their statistics. Holm's correction (A simple sequentially
rejective multiple test procedure, Scandinavian Journal of Statistics 6, 1979) allows for several
tests.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Pair = tuple[Sequence[float], Sequence[float]]
_MAX_EXACT_PAIR = 50 * 50  # comparisons; beyond them the normal distribution is as good
_MAX_EXACT = 30_000


def rank_test(pairs: Sequence[Pair]) -> float:
    """The two-sided p-value for the old and the new numbers of each pair being alike.

    It is exact where no two numbers are equal and there are not too many of them. Where some are
    equal, it is too large rather than too small.
    """
    sizes = tuple((len(old), len(new)) for old, new in pairs)
    wins = sum(_wins(old, new) for old, new in pairs)
    comparisons = sum(m * n for m, n in sizes)
    fewer = min(wins, comparisons - wins)  # the distribution is symmetric
    if comparisons <= _MAX_EXACT and all(m * n <= _MAX_EXACT_PAIR for m, n in sizes):
        return min(1.0, 2 * float(_cumulative(sizes)[math.ceil(fewer)]))
    deviation = math.sqrt(sum(m * n * (m + n + 1) / 12 for m, n in sizes))
    return min(1.0, math.erfc((comparisons / 2 - fewer - 0.5) / deviation / math.sqrt(2)))


def smallest_p(pairs: Sequence[Pair]) -> float:
    """The p-value if every new number were larger than every old one of its pair."""
    orders = sum(
        math.lgamma(len(old) + len(new) + 1) - math.lgamma(len(old) + 1) - math.lgamma(len(new) + 1)
        for old, new in pairs
    )
    return min(1.0, 2 * math.exp(-orders))


def holm(values: Sequence[float]) -> list[float]:
    """P-values corrected for several tests: below 0.05 by chance in one of 20 cases."""
    corrected, largest = [0.0] * len(values), 0.0
    for rank, place in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        largest = max(largest, min(1.0, values[place] * (len(values) - rank)))
        corrected[place] = largest
    return corrected


def _wins(old: Sequence[float], new: Sequence[float]) -> float:
    """How many of all comparisons the new numbers win; a draw counts as a half."""
    ordered = np.sort(np.asarray(old, np.float64))
    below, not_above = (np.searchsorted(ordered, new, side) for side in ("left", "right"))
    return float(below.sum() + not_above.sum()) / 2


@functools.lru_cache(maxsize=8)
def _cumulative(sizes: tuple[tuple[int, int], ...]) -> NDArray[np.float64]:
    """The chance of at most 0, 1, 2, ... wins in all pairs, if sets of these sizes are alike."""
    chances = np.ones(1)
    for m, n in sizes:
        chances = np.convolve(chances, _chances(m, n))
    return np.cumsum(chances)


@functools.lru_cache(maxsize=512)
def _chances(m: int, n: int) -> NDArray[np.float64]:
    """The chance of 0 to m * n wins, by the recurrence of Mann and Whitney.

    The largest number of all is a new one with a chance of n / (m + n); it then wins m times.
    """
    before = [np.ones(1)] * (n + 1)  # no old numbers: no comparisons
    for olds in range(1, m + 1):
        row = [np.ones(1)]
        for news in range(1, n + 1):
            chances = np.zeros(olds * news + 1)
            chances[olds:] += row[-1] * news / (olds + news)
            chances[: (olds - 1) * news + 1] += before[news] * olds / (olds + news)
            row.append(chances)
        before = row
    return before[n]
