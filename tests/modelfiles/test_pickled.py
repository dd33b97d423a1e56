import contextlib
import os
import pickle
import pickletools
from collections import OrderedDict, namedtuple
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchdigit.modelfiles.limits import PickleError
from batchdigit.modelfiles.pickled import read_pickle
from batchdigit.modelfiles.standins import Instance, PersistentId

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
NUMBERS = st.integers(1 - 2**60, 2**60 - 1)
KEYS = st.none() | st.booleans() | NUMBERS | st.floats(allow_nan=False) | st.text()
PLAIN = st.recursive(
    KEYS,
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner)
        | st.tuples(inner, inner, inner, inner)
        | st.dictionaries(KEYS, inner)
    ),
    max_leaves=30,
)
Point = namedtuple("Point", "x y")  # noqa: PYI024  (pickled with its arguments, by NEWOBJ)


class Thing:
    """Has a state."""

    def __init__(self, **state: Any) -> None:
        self.__dict__.update(state)


@given(PLAIN, st.sampled_from(PROTOCOLS))
def test_plain_data_is_what_pickle_makes_of_it(data: object, protocol: int) -> None:
    text = pickle.dumps(data, protocol)
    found = read_pickle(text)
    assert found.root == pickle.loads(text)
    assert found.globals == {}
    assert found.end == len(text)


@given(st.lists(PLAIN, min_size=2))
def test_pickles_one_after_another_are_told_apart(parts: list[object]) -> None:
    text = b"".join(pickle.dumps(part, 2) for part in parts)
    position = 0
    for part in parts:
        found = read_pickle(text, position)
        assert found.root == part
        position = found.end
    assert position == len(text)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_objects_become_stand_ins_that_remember(protocol: int) -> None:
    content = {"thing": Thing(a=1, b=[2]), "ordered": OrderedDict(x=1), "point": Point(1, 2)}
    found = read_pickle(pickle.dumps(content, protocol))
    assert found.root["ordered"] == {"x": 1}
    thing = found.root["thing"]
    assert isinstance(thing, Instance)
    assert thing.attributes == {"a": 1, "b": [2]}
    assert f"{__name__}.Thing" in found.globals
    assert f"{__name__}.Point" in found.globals


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "data", [{1, 2}, frozenset({1}), b"bytes", bytearray(b"b"), 1 << 100, 1j, object, os.system]
)
def test_globals_are_those_that_pickletools_shows(data: object, protocol: int) -> None:
    text = pickle.dumps(data, protocol)
    found = read_pickle(text)
    named = [
        argument for opcode, argument, _ in pickletools.genops(text) if opcode.name == "GLOBAL"
    ]
    by_stack = [1 for opcode, _, _ in pickletools.genops(text) if opcode.name == "STACK_GLOBAL"]
    assert len(found.globals) == len(set(named)) + len(by_stack)
    assert found.end == len(text)


def test_reference_without_a_pickler_is_kept() -> None:
    assert read_pickle(b"\x80\x02K\x07Q.").root == PersistentId(7)
    assert read_pickle(b"Pseven\n.").root == PersistentId("seven")


@pytest.mark.parametrize(
    "text",
    [
        *(
            b"",
            b"hello",
            b"\x80\x02",
            b"\x80\x02.",
            b"\x80\x02h\x05.",
            b"\x80\x02t.",
            b"\x80\x02R.",
        ),
        *(b"\x80\x02}K\x01s.", b"\x80\x02K\x01K\x01R.", b"\x80\x02)}s.", b"ccaf\xe9\nCNN\n."),
        *(b"\xff", b"I12x\n.", b"\x80\x02X\xff\xff\xff\xff.", b"e.", b"a.", b"b.", b"0.", b"2."),
    ],
)
def test_what_is_no_pickle_is_an_error(text: bytes) -> None:
    with pytest.raises(PickleError) as caught:
        read_pickle(text)
    assert "pickle" in str(caught.value)


@given(st.binary(max_size=100))
def test_any_bytes_give_a_pickle_or_an_error(text: bytes) -> None:
    for start in (b"", b"\x80\x02"):
        with contextlib.suppress(PickleError):
            read_pickle(start + text)


def test_pickle_without_end_is_an_error() -> None:
    with pytest.raises(PickleError, match="1000000 steps"):
        read_pickle(b"\x80\x02" + b"N" * 1_000_001 + b".")
