import pytest

from batchdigit.bench.analysis.advice import Command
from batchdigit.bench.views.breakeven import crossings


@pytest.mark.parametrize(
    ("costs", "expected"),
    [
        ({"a": (1.0, 0.1)}, []),
        ({"a": (1.0, 0.1), "b": (2.0, 0.2)}, []),
        ({"a": (1.0, 0.1), "b": (2.0, 0.05)}, [(20, "b")]),
        ({"b": (2.0, 0.05), "a": (1.0, 0.1)}, [(20, "b")]),
        ({"a": (1.0, 0.1), "b": (1.0, 0.1)}, []),
        # The one in the middle is never the fastest.
        ({"a": (1.0, 0.1), "b": (9.0, 0.09), "c": (2.0, 0.05)}, [(20, "c")]),
        ({"a": (1.0, 0.1), "b": (2.0, 0.05), "c": (12.0, 0.01)}, [(20, "b"), (250, "c")]),
        # Beyond the last number of images that is drawn.
        ({"a": (1.0, 1e-6), "b": (1000.0, 5e-7)}, []),
    ],
)
def test_crossings_are_where_another_engine_becomes_the_fastest(
    costs: dict[str, tuple[float, float]], expected: list[tuple[float, str]]
) -> None:
    found = crossings({name: Command(start, 1 / each) for name, (start, each) in costs.items()})
    assert [name for _, name in found] == [name for _, name in expected]
    assert [count for count, _ in found] == pytest.approx([count for count, _ in expected])
