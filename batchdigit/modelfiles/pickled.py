"""A pickle read as data: what it would build and call, without building or calling it.

:mod:`batchdigit.modelfiles.pickle_machine` runs it, with stand-ins for all that it names.
"""

from __future__ import annotations

import io
import itertools
import pickletools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from batchdigit.modelfiles.pickle_machine import INSTRUCTIONS, Machine, PickleError
from batchdigit.modelfiles.standins import Instance, Resolve

MAX_OPCODES = 1_000_000  # the CNN's state dict takes 1,244, the whole model 3,764
MAX_BYTES = 4 << 20  # the CNN's state dict takes 4 KB, the whole model 10 KB


class PickleTooLargeError(PickleError):
    """It holds more than the weights of any CNN need."""


@dataclass(frozen=True, eq=False)
class Pickle:
    """What one pickle holds.

    ``globals`` are the classes and functions that it names (``module.name``), in order; ``end``
    is the position behind its STOP.
    """

    root: Any
    globals: Mapping[str, type[Instance]]
    end: int


def read_pickle(data: bytes, start: int = 0, resolve: Resolve = lambda node: node) -> Pickle:
    """The pickle in ``data`` from byte ``start``.

    ``resolve`` is asked, in order, what takes the place of each call and each reference.
    Raises PickleError for bytes that are not a pickle, PickleTooLargeError for more than
    MAX_BYTES of them or MAX_OPCODES instructions.
    """
    machine = Machine(resolve)
    stream = io.BytesIO(data[start : start + MAX_BYTES])
    instructions = itertools.islice(pickletools.genops(stream), MAX_OPCODES)
    try:
        for opcode, argument, _ in instructions:
            INSTRUCTIONS[opcode.name](machine, argument)
    except PickleError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        if start + MAX_BYTES < len(data) and not stream.read(1):
            raise PickleTooLargeError(f"a pickle of more than {MAX_BYTES >> 20} MiB") from error
        raise PickleError(f"a broken pickle ({error})") from error
    if not machine.stopped:
        raise PickleTooLargeError(f"a pickle of more than {MAX_OPCODES} instructions")
    return Pickle(machine.root, machine.globals, start + stream.tell())
