import itertools

import numpy as np
import pytest

from batchdigit.bench.analysis.ranks import holm, rank_test, smallest_p


def by_counting(pairs: list[tuple[list[float], list[float]]]) -> float:
    """The two-sided p-value, counted over all the ways to deal the numbers to old and new."""

    def wins(old: tuple[float, ...], new: tuple[float, ...]) -> int:
        return sum(later > earlier for earlier in old for later in new)

    ways = []
    for old, new in pairs:
        both = (*old, *new)
        ways.append([
            wins(tuple(both[k] for k in range(len(both)) if k not in chosen),
                 tuple(both[k] for k in chosen))
            for chosen in itertools.combinations(range(len(both)), len(new))
        ])  # fmt: skip
    seen = sum(wins(tuple(old), tuple(new)) for old, new in pairs)
    sums = [sum(way) for way in itertools.product(*ways)]
    tail = min(
        sum(one <= seen for one in sums) / len(sums), sum(one >= seen for one in sums) / len(sums)
    )
    return min(1.0, 2 * tail)


@pytest.mark.parametrize("sizes", [[(3, 3)], [(4, 2)], [(1, 5)], [(3, 3), (2, 4)], [(2, 2)] * 3])
def test_p_value_is_that_of_counting(sizes: list[tuple[int, int]]) -> None:
    random = np.random.default_rng(len(sizes))
    for _ in range(20):
        pairs = [(list(random.normal(0, 1, m)), list(random.normal(0.7, 1, n))) for m, n in sizes]
        assert rank_test(pairs) == pytest.approx(by_counting(pairs))


def test_smallest_p_value_is_that_of_separate_sets() -> None:
    pairs: list[tuple[list[float], list[float]]] = [([1, 2, 3], [4, 5, 6]), ([1, 2], [3, 4, 5])]
    assert smallest_p(pairs) == pytest.approx(by_counting(pairs))
    assert rank_test(pairs) == pytest.approx(by_counting(pairs))


def test_many_numbers_get_the_p_value_that_chance_gives_them() -> None:
    random = np.random.default_rng(5)
    values = [rank_test([(random.normal(size=80), random.normal(size=90))]) for _ in range(400)]
    assert 0.02 < np.mean(np.array(values) < 0.05) < 0.09
    assert rank_test([(random.normal(size=80), random.normal(1, size=90))]) < 1e-6
    large = list(range(10_000))
    assert rank_test([(large, large)]) == 1.0
    assert smallest_p([(large, large)]) == 0.0


def test_equal_numbers_are_no_finding() -> None:
    assert rank_test([([1.0] * 9, [1.0] * 9)] * 3) == 1.0


def test_holm_multiplies_by_the_tests_that_are_left() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
