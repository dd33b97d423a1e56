"""The instructions of a pickle, carried out on data."""

import pickletools
from typing import Any

import pytest

from batchdigit.modelfiles.limits import PickleError
from batchdigit.modelfiles.pickle_instructions import INSTRUCTIONS
from batchdigit.modelfiles.pickled import read_pickle
from batchdigit.modelfiles.standins import StateGiven


def test_every_instruction_of_pickletools_is_known() -> None:
    assert {opcode.name for opcode in pickletools.opcodes} <= INSTRUCTIONS.keys()


def test_state_is_told_to_whoever_asks_about_calls() -> None:
    told: list[Any] = []

    def resolve(node: Any) -> Any:
        told.append(node)
        return node

    root = read_pickle(b"\x80\x02ca\nA\n)\x81K\x05b.", resolve=resolve).root
    assert told[0] is root
    assert isinstance(told[1], StateGiven)
    assert told[1].args == (root, 5)


@pytest.mark.parametrize(
    "changed",
    [
        b"ca\nA\nK\x01a",  # APPEND to what is only named
        b"ca\nA\nK\x01K\x02s",
        b"]K\x00K\x02s",  # an item of a list is replaced
        b"}K\x01a",
        b"ccollections\nOrderedDict\n)R}X\x0c\x00\x00\x00__setstate__K\x01sb",
        b"ccollections\nOrderedDict\n)RN}X\x0c\x00\x00\x00__setstate__K\x01s\x86b",
        b"ccollections\nOrderedDict\n)R}ca\nA\n)RK\x01sb",  # a name that is computed
    ],
)
def test_what_is_built_is_not_changed(changed: bytes) -> None:
    with pytest.raises(PickleError, match="changes what it has built"):
        read_pickle(b"\x80\x02" + changed + b".")
