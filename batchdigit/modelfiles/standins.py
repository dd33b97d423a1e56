"""What stands for the classes, functions and outside data that a pickle names.

Nothing here is ever called for what it stands for: it only remembers what the pickle said.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar


class Instance:
    """What calling a named class or function would give: its name, its arguments, its state."""

    global_name: ClassVar[str] = ""
    args: tuple[Any, ...]
    state: Any

    def __new__(cls, *args: Any) -> Instance:
        """Remember the arguments of the call."""
        instance = super().__new__(cls)
        instance.args, instance.state = args, None
        return instance

    def __setstate__(self, state: Any) -> None:
        self.state = state

    @property
    def attributes(self) -> dict[Any, Any]:
        """The state where it is a dictionary: no copy, as many objects can share a large one."""
        return self.state if isinstance(self.state, dict) else {}


class StateGiven(Instance):
    """An object, the first argument, gets its state, the second; a class may do this its own way.

    It is no part of what the pickle holds.
    """


def stand_in(global_name: str) -> type[Instance]:
    """A class that takes the place of ``global_name``, and only remembers."""
    return type("StandIn", (Instance,), {"global_name": global_name})


@dataclass(frozen=True, eq=False)
class OtherKey:
    """A key of a dictionary that is neither text nor number; like no other key, and never hashed.

    A class of the pickle's own could be equal to any text, and the hash of a tuple of tuples of ...
    takes forever.
    """

    key: Any

    def __str__(self) -> str:
        return f"<{getattr(self.key, 'global_name', type(self.key).__name__)}>"


@dataclass(frozen=True)
class PersistentId:
    """A reference to what lies outside the pickle; ``torch.save`` keeps the numbers there."""

    pid: Any


Resolve = Callable[[Instance | PersistentId], Any]
"""Says what takes the place of a call or of a reference."""
