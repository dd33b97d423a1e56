from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batchdigit.errors import UsageError
from batchdigit.system.given import settle_types


@dataclass(frozen=True)
class Part:
    truth: Any = None
    whole: Any = None
    number: Any = None
    text: Any = None
    path: Any = None
    other: Any = None


@dataclass(frozen=True)
class Declared:
    truth: bool
    whole: int | None
    number: float
    text: str | None
    path: Path | None
    other: tuple[int, ...]


FINE = {"truth": True, "whole": 1, "number": 1.5, "text": "x", "path": "x", "other": object()}


@pytest.mark.parametrize(
    ("name", "given", "taken"),
    [
        ("truth", np.bool_(False), False),
        ("whole", np.int16(-3), -3),
        ("whole", None, None),
        ("number", 3, 3.0),
        ("number", np.float32(0.5), 0.5),
        ("text", np.str_("x"), "x"),
        ("text", None, None),
        ("path", Path("x"), Path("x")),
        ("path", b"x", Path("x")),
        ("other", "x", "x"),
    ],
)
def test_value_becomes_one_of_the_declared_type(name: str, given: object, taken: object) -> None:
    part = Part(**FINE | {name: given})
    settle_types(part, Declared)
    assert getattr(part, name) == taken
    assert type(getattr(part, name)) is type(taken)


@pytest.mark.parametrize(
    ("name", "given", "problem"),
    [
        ("truth", 1, "truth=1 is of type int; give True or False"),
        ("truth", None, "truth is of type NoneType; give True or False"),
        ("whole", True, "whole=True is of type bool; give a whole number"),
        ("whole", "1", "whole='1' is of type str; give a whole number"),
        ("whole", 1.0, "whole=1.0 is of type float; give a whole number"),
        ("number", "1", "number='1' is of type str; give a number"),
        ("number", None, "number is of type NoneType; give a number"),
        ("number", np.zeros(2), "number is of type ndarray; give a number"),
        ("text", 1, "text=1 is of type int; give text"),
        ("path", 1, "path is of type int; give a path"),
    ],
)
def test_value_of_another_type_is_refused(name: str, given: object, problem: str) -> None:
    with pytest.raises(UsageError) as caught:
        settle_types(Part(**FINE | {name: given}), Declared)
    assert str(caught.value) == problem
