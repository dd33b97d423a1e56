"""Names for the classes of a model."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from batchdigit.errors import UsageError, one_line, remedy_for
from batchdigit.system.json_objects import load_json
from batchdigit.system.paths import as_path
from batchdigit.system.regular import NotRegularError, read_regular

MAX_BYTES = 1 << 20
MAX_LABELS = 1000
FORMULA_STARTS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""How formulas start in spreadsheets; the last four are the same characters in full width."""

_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_DIGITS = {name: digit for digit, word in enumerate(_WORDS) for name in (word, str(digit))}
_DELIMITER = re.compile(r"[,;|\t]")  # what spreadsheets expect between cells, here or there
_BEFORE_A_FORMULA = re.compile(
    rf"{_DELIMITER.pattern}(?=\s*[{re.escape(''.join(FORMULA_STARTS))}])"
)


def without_formulas(text: str) -> str:
    """``text`` without delimiters before what would be a formula in a cell of its own."""
    return _BEFORE_A_FORMULA.sub(" ", text)


def read_labels(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """The names in the file ``path``, in the order of the classes.

    The file is UTF-8 text with one name on each line, or JSON: ``["zero", "one"]`` or ``{"0":
    "zero", "1": "one"}``. Raises UsageError for anything else, and for what :func:`check_labels`
    refuses.
    """
    path = as_path("the file of labels", path)
    try:
        data = read_regular(path, MAX_BYTES)
        text = "" if data is None else data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"the labels {path} are not UTF-8 text", "save them as UTF-8") from error
    except NotRegularError as error:
        raise UsageError(
            f"the labels {path} are {error.strerror}", "save the names to a file first"
        ) from error
    except (OSError, ValueError) as error:
        raise UsageError(
            f"cannot read the labels {path}: {getattr(error, 'strerror', None) or error}",
            remedy_for(error, "give --labels a file with one name on each line, or JSON"),
        ) from error
    if data is None:
        raise UsageError(f"the labels {path} are larger than 1 MiB", "write one name on each line")
    names = _json_names(text, path) if text.lstrip()[:1] in ("[", "{") else _lines(text)
    if not names:
        raise UsageError(f"the labels {path} hold no names", "write one name on each line")
    try:
        return check_labels(names)
    except UsageError as error:
        raise UsageError(f"the labels {path}: {error.problem}", error.remedy) from error


def digits_named(names: Sequence[str]) -> tuple[int, ...]:
    """The digits that ten labels name, as ``7``, ``07`` or ``seven``; none if one names another."""
    digits = digits_of_names(names)
    return digits if sorted(digits) == list(range(len(_WORDS))) else ()


def digits_of_names(names: Sequence[str]) -> tuple[int, ...]:
    """The digit that each of any number of labels names, -1 for one that names none."""
    return tuple(_DIGITS.get(name.strip().lower().lstrip("0") or "0", -1) for name in names)


def check_labels(names: object) -> tuple[str, ...]:
    """The names as a tuple. Raises UsageError unless each can stand in a cell and means one class.

    No name may be empty, occur twice, hold a control character, or begin as formulas do in a
    spreadsheet, nor may a part of it behind a delimiter.
    """
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise UsageError("labels are not a list of names", 'write ["zero", "one", ...]')
    if len(names) > MAX_LABELS:
        raise UsageError(
            f"{len(names)} labels are more than any model has classes",
            f"give at most {MAX_LABELS} labels, one for each class",
        )
    for place, name in enumerate(names):
        if not name.strip() or not name.isprintable():
            raise UsageError(
                f"the label of class {place} is empty or not printable", "give each class a name"
            )
        if any(part.lstrip().startswith(FORMULA_STARTS) for part in _DELIMITER.split(name)):
            raise UsageError(
                f"a spreadsheet would take the label {one_line(name, 40)!r} for a formula",
                "spell it out: minus, equals, ...",
            )
    if doubles := sorted(name for name in set(names) if names.count(name) > 1):
        raise UsageError(
            f"the label {one_line(doubles[0], 40)!r} is given twice", "give each class its own name"
        )
    return tuple(names)


def _lines(text: str) -> list[str]:
    """The names, one on each line; an editor may leave empty lines at the end."""
    return text.rstrip().splitlines()


def _json_names(text: str, path: Path) -> object:
    try:
        names = load_json(text, doubled="a class is named twice")
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"the labels {path} begin like JSON, but are not JSON: {error}",
            'write ["zero", "one", ...], or begin the first name with another character',
        ) from error
    if isinstance(names, dict):
        numbers = [str(number) for number in range(len(names))]
        if set(names) != set(numbers):
            raise UsageError(
                f"the labels {path} do not name the classes 0 to {len(names) - 1}",
                'write {"0": "zero", "1": "one", ...}',
            )
        return [names[number] for number in numbers]
    return names
