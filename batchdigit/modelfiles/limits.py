"""What no model file may exceed: much more than the weights of any CNN need.

A file is small, but what it asks for need not be. So nothing that it can use again and again may be
long, and whatever it does is counted. A clock would refuse good files on a slow machine.
"""

from __future__ import annotations

MAX_STEPS = 1_000_000  # instructions, and items given to calls; the whole model takes 3,764
MAX_GLOBALS = 1_000  # classes and functions, of kilobytes each; the whole model names 13
MAX_NAME = 1_000  # characters of a class, a key or a storage
MAX_DIMENSIONS = 8  # convolutions have 4
MAX_TENSORS = 10_000  # with an optimizer's state, the CNN has 130
MAX_MEMBERS = 10_000  # of an archive; the CNN's has 40
MAX_DIRECTORY = 4 << 20  # bytes of an archive's directory; the CNN's has 2 KB


class PickleError(ValueError):
    """The bytes are not a pickle, or one that only an attack would hold."""


class PickleTooLargeError(PickleError):
    """It holds more than the weights of any CNN need."""


class Work:
    """Counts the steps that one file takes, in all its pickles together."""

    def __init__(self) -> None:
        self.steps = 0

    def add(self, steps: int) -> None:
        """Count ``steps``. Raises PickleTooLargeError for more than MAX_STEPS in all."""
        self.steps += steps
        if self.steps > MAX_STEPS:
            raise PickleTooLargeError(f"pickles of more than {MAX_STEPS} steps")


def check_name(name: str | bytes) -> None:
    """Raise PickleError for a name that is longer than any that people give."""
    if len(name) > MAX_NAME:
        raise PickleError(f"a pickle with a name of {len(name)} characters")
