"""How images are given to a network, as far as somebody says so.

A file of weights does not say it. Options do, or a ``model.toml``, or the metadata of a file; each
of them may leave something out. What the words mean, :class:`batchdigit.models.spec.InputSpec`
says.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from numbers import Real
from typing import Any

from batchdigit.errors import UsageError, one_line

LIGHT_ON_DARK, DARK_ON_LIGHT = "light-on-dark", "dark-on-light"
RANGES = ("0-1", "0-255")
POLARITIES = (LIGHT_ON_DARK, DARK_ON_LIGHT)
LAYOUTS = ("nchw", "nhwc", "nhw", "flat")
PLACES = ("resize", "pad")
SCORES = ("auto", "logits", "probabilities", "log-probabilities")
CHANNELS = (1, 3)
PREPROCESSING = ("auto", "exact", "fit")  # which images are fitted
MAX_SIDE = 1024  # pixels
MAX_DIGITS = 9  # of a whole number
MAX_NORMALISED = 100_000.0  # pixels of 16 bits come to 65,535

GIVEN_AS = {
    "size": "--input-size",
    "channels": "--channels",
    "range": "--range",
    "mean": "--mean",
    "std": "--std",
    "expects": "--expects",
    "layout": "--layout",
    "transpose": "--transpose",
    "place": "--place",
    "scores": "--scores",
}
"""What may be declared, and the option for it."""
DECLARED = {name: "input_size" if name == "size" else name for name in GIVEN_AS}
"""The field of a job for each of them."""


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """What is said of a network's input and output; None for what is not said.

    ``mean`` and ``std`` go together, and hold one number for all channels, or one for each.
    """

    size: tuple[int, int] | None = None
    channels: int | None = None
    range: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    expects: str | None = None
    layout: str | None = None
    transpose: bool | None = None
    place: str | None = None
    scores: str | None = None

    @classmethod
    def of(cls, given: Mapping[str, Any], name: Callable[[str], str]) -> Declaration:
        """What is ``given``, by the names of GIVEN_AS; None counts as not given.

        Text is accepted for numbers, as options have it. ``name`` says how messages name what is
        declared. Raises UsageError for what no network can have.
        """
        values: dict[str, Any] = {}
        for field, value in given.items():
            if value is not None:
                try:
                    values[field] = _CHECKS[field](value)
                except _WrongError as error:
                    raise UsageError(f"{name(field)} {error.problem}", error.remedy) from error
        one = cls(**values)
        if (one.mean is None) != (one.std is None):
            raise UsageError(
                f"{name('mean')} and {name('std')} go together, and only one is given",
                f"give both; {name('mean')} 0 subtracts nothing, {name('std')} 1 divides by "
                "nothing",
            )
        for field in ("mean", "std"):
            numbers = getattr(one, field) or (0,)
            if one.channels is not None and len(numbers) not in (1, one.channels):
                raise UsageError(
                    f"{name(field)} has {len(numbers)} numbers for {one.channels} "
                    f"channel{'s' if one.channels > 1 else ''}",
                    f"give one number, or one for each channel, or {name('channels')} 3",
                )
        if (
            one.layout == "nhw"
            and max(one.channels or 1, len(one.mean or ()), len(one.std or ())) > 1
        ):
            raise UsageError(
                f"{name('layout')} nhw has no place for 3 channels",
                f"choose another {name('layout')}, or {name('channels')} 1",
            )
        return one

    def given(self) -> dict[str, Any]:
        """What is said, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def over(self, other: Declaration) -> Declaration:
        """The same, and where it says nothing, what ``other`` says.

        Mean and deviation are in the units of a range. So where this gives them without a range,
        the one of ``other`` does not apply: they are for 0-1, as everywhere. Where this gives
        another range than that of ``other``, mean and deviation of ``other`` do not apply.
        """
        given = self.given()
        if self.mean is not None:
            given.setdefault("range", None)
        elif self.range not in (None, other.range or RANGES[0]):
            given |= {"mean": None, "std": None}
        return replace(other, **given)

    def without(self, other: Declaration) -> Declaration:
        """What is said differently by ``other``, or not at all. Over it, it says the same."""
        said, there = self.given(), other.given()
        kept = {name: value for name, value in said.items() if not _alike(there.get(name), value)}
        numbers: dict[str, Any] = {name: said[name] for name in ("mean", "std") if name in said}
        if kept.keys() & {"mean", "std"}:
            kept |= numbers
            if self.range not in (None, RANGES[0]):
                kept["range"] = self.range
        elif "range" in kept and (any(self.mean or ()) or {*(self.std or ())} - {1.0}):
            kept |= numbers
        return Declaration(**kept)

    def flags(self) -> str:
        """The options that declare the same."""
        return " ".join(self.words())

    def words(self) -> list[str]:
        """The same as words of a command line."""
        words: list[str] = []
        for name, value in self.given().items():
            if name == "transpose":
                words += [GIVEN_AS[name]] if value else []
            else:
                words += [GIVEN_AS[name], _shown(name, value)]
        return words


def _alike(one: Any, other: Any) -> bool:
    """Whether two values say the same: one number for all channels is that number for each."""
    if isinstance(one, tuple) and isinstance(other, tuple) and len({*one, *other}) == 1:
        return True
    return bool(one == other)


def by_options(fields: Mapping[str, Any]) -> Declaration:
    """What the fields of a job say; messages name its options. Raises UsageError."""
    given = {name: fields[field] for name, field in DECLARED.items()}
    return Declaration.of(given, GIVEN_AS.__getitem__)


def declaring(declaration: Declaration) -> dict[str, Any]:
    """The fields of a job that say what a declaration says."""
    return {DECLARED[name]: value for name, value in declaration.given().items()}


def flags(mean: float, std: float) -> str:
    """The options that declare a mean and a standard deviation."""
    return Declaration(mean=(mean,), std=(std,)).flags()


def _shown(name: str, value: Any) -> str:
    if name == "size":
        height, width = value
        return str(height) if height == width else f"{height}x{width}"
    if name in ("mean", "std"):
        return ",".join(f"{number:.7g}" for number in value)
    return str(value)


class _WrongError(ValueError):
    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem)
        self.problem, self.remedy = problem, remedy


def _size(value: Any) -> tuple[int, int]:
    given = value.lower().split("x") if isinstance(value, str) else value
    sides = tuple(given) if isinstance(given, list | tuple) else (given,)
    numbers = [_whole(side) for side in sides]
    if len(numbers) not in (1, 2) or not all(1 <= (side or 0) <= MAX_SIDE for side in numbers):
        raise _WrongError(
            f"{quoted(value)} is no size of 1 to {MAX_SIDE} pixels", "write 32, or 32x28 for HxW"
        )
    height, width = numbers[0], numbers[-1]
    assert height is not None and width is not None  # noqa: PT018, S101
    return height, width


def _whole(value: Any) -> int | None:
    if isinstance(value, str):
        return int(value) if value.strip().isdecimal() and len(value) <= MAX_DIGITS else None
    try:
        return None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return None


def _channels(value: Any) -> int:
    number = _whole(value)
    if number not in CHANNELS:
        raise _WrongError(f"{quoted(value)} is no number of channels here", "choose from 1, 3")
    return number


def _numbers(value: Any) -> tuple[float, ...]:
    given = value.split(",") if isinstance(value, str) else value
    if isinstance(given, Real) or not isinstance(given, list | tuple):
        given = (given,)
    try:
        numbers = tuple(math.nan if isinstance(one, bool) else float(one) for one in given)
    except (TypeError, ValueError, OverflowError) as error:
        raise _WrongError(
            f"{quoted(value)} is not a number for each channel", "write 0.5, or 0.5,0.4,0.3"
        ) from error
    if len(numbers) not in CHANNELS:
        raise _WrongError(f"has {len(numbers)} numbers", "give one, or one for each of 3 channels")
    return numbers


def _mean(value: Any) -> tuple[float, ...]:
    for number in (numbers := _numbers(value)):
        if not math.isfinite(number) or abs(number) > MAX_NORMALISED:
            raise _WrongError(f"{number:g} is no mean of pixels", "give it in the units of --range")
    return numbers


def _std(value: Any) -> tuple[float, ...]:
    for number in (numbers := _numbers(value)):
        if not 1 / MAX_NORMALISED <= abs(number) <= MAX_NORMALISED:
            raise _WrongError(
                f"{number:g} is no standard deviation of pixels", "give it in the units of --range"
            )
    return numbers


def _one_of(choices: tuple[str, ...]) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if not isinstance(value, str) or value not in choices:
            raise _WrongError(f"{quoted(value)} is unknown", f"choose from {', '.join(choices)}")
        return value

    return check


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _WrongError(f"{quoted(value)} is not true or false", "write true or false")
    return value


def quoted(value: Any) -> str:
    """A value as part of a message; Python refuses to print numbers of 5,000 digits."""
    try:
        return one_line(repr(value), 100)
    except ValueError:
        return f"{type(value).__name__} of many digits"


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "size": _size,
    "channels": _channels,
    "range": _one_of(RANGES),
    "mean": _mean,
    "std": _std,
    "expects": _one_of(POLARITIES),
    "layout": _one_of(LAYOUTS),
    "transpose": _truth,
    "place": _one_of(PLACES),
    "scores": _one_of(SCORES),
}
