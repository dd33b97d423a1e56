"""A pickle read as data: what it would build and call, without building or calling it.

:mod:`batchdigit.modelfiles.pickle_machine` runs it, with stand-ins for all that it names.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from batchdigit.modelfiles.limits import PickleError, PickleTooLargeError, Work
from batchdigit.modelfiles.pickle_instructions import INSTRUCTIONS
from batchdigit.modelfiles.pickle_machine import Machine
from batchdigit.modelfiles.standins import Instance, Resolve

MAX_BYTES = 4 << 20  # the CNN's state dict takes 4 KB, the whole model 10 KB

# Instructions whose argument is text, and how Python writes a number in it.
_TEXTS = {
    "INT": b"%d\n",
    "LONG": b"%dL\n",
    "GET": b"%d\n",
    "PUT": b"%d\n",
    "FLOAT": b"%a\n",
    "STRING": None,
    "BINSTRING": None,
    "SHORT_BINSTRING": None,
}


@dataclass(frozen=True, eq=False)
class Pickle:
    """What one pickle holds.

    ``globals`` are the classes and functions that it names (``module.name``), in order; ``end``
    is the position behind its STOP.
    """

    root: Any
    globals: Mapping[str, type[Instance]]
    end: int


def read_pickle(
    data: bytes | memoryview,
    start: int = 0,
    resolve: Resolve = lambda node: node,
    work: Work | None = None,
) -> Pickle:
    """The pickle in ``data`` from byte ``start``.

    ``resolve`` is asked, in order, what takes the place of each call and each reference. ``work``
    counts the steps of several pickles together.
    Raises PickleError for bytes that are not a pickle, PickleTooLargeError for more than
    MAX_BYTES of them, or for more work than any weights take.
    """
    machine = Machine(resolve, work or Work())
    stream = io.BytesIO(data[start : start + MAX_BYTES])
    try:
        for opcode, argument, place in pickletools.genops(stream):
            machine.work.add(1)
            if opcode.name in _TEXTS and place is not None:
                with stream.getbuffer() as text:
                    _check_text(opcode.name, argument, bytes(text[place + 1 : stream.tell()]))
            INSTRUCTIONS[opcode.name](machine, argument)
    except PickleError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        if start + MAX_BYTES < len(data) and not stream.read(1):
            raise PickleTooLargeError(f"a pickle of more than {MAX_BYTES >> 20} MiB") from error
        raise PickleError(f"a broken pickle ({error})") from error
    return Pickle(machine.root, machine.globals, start + stream.tell())


def _check_text(name: str, argument: Any, text: bytes) -> None:
    """Raise PickleError for text that unpicklers read differently.

    For ``I010`` one gives ten and another eight, and bytes that are not ASCII are text in one
    encoding or another.
    """
    form = _TEXTS[name]
    if form is None:
        plain = argument.isascii()
    else:
        plain = text == form % argument or (name == "INT" and text in (b"00\n", b"01\n"))
    if not plain:
        raise PickleError("a pickle with a text that is not what Python writes")
