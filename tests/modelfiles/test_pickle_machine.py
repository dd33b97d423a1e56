"""The machine knows every instruction, and a few bytes cannot keep it busy."""

import pickle
import time
from collections import defaultdict
from typing import Any

import pytest

from batchdigit.modelfiles.limits import PickleError, PickleTooLargeError, Work
from batchdigit.modelfiles.pickled import read_pickle
from batchdigit.modelfiles.standins import Instance, OtherKey, PersistentId


@pytest.mark.parametrize(
    ("text", "root"),
    [
        (b"(K\x01K\x02K\x031K\x04.", 4),  # POP_MARK drops everything down to the mark
        (b"K\x01(0.", 1),  # POP of a mark
        (b"K\x01K\x020.", 1),
        (b"K\x012\x86.", (1, 1)),  # DUP, TUPLE2
        (b"K\x01K\x02K\x03\x87.", (1, 2, 3)),
        (b"(K\x01K\x02K\x03K\x04t.", (1, 2, 3, 4)),
        (b"(K\x01l.", [1]),
        (b"(K\x01K\x02d.", {1: 2}),
        (b"}K\x01K\x02s(K\x03K\x04u.", {1: 2, 3: 4}),
        (b"]K\x01a(K\x02K\x03e.", [1, 2, 3]),
        (b"\x8f(K\x01\x90.", [1]),  # a set, by ADDITEMS
        (b"(K\x01\x91.", [1]),  # a frozen set
        (b"K\x07q\x000K\x08q\x010h\x00h\x01\x86.", (7, 8)),  # a memo of two
        (b"K\x07\x940h\x00.", 7),  # MEMOIZE, POP, BINGET
        (b"\x88\x89\x86.", (True, False)),
        (b"N\x97\x98\x86.", (None, None)),  # buffers that are stored elsewhere
    ],
)
def test_instructions_do_what_pickletools_says(text: bytes, root: object) -> None:
    assert read_pickle(b"\x80\x05" + text).root == root


def called(text: bytes) -> Any:
    found = read_pickle(b"\x80\x04" + text)
    assert found.globals.keys() == {"a.b"}
    return found.root


@pytest.mark.parametrize(
    "text",
    [
        b"ca\nb\nK\x01K\x02\x86R.",  # REDUCE
        b"ca\nb\nK\x01K\x02\x86\x81.",  # NEWOBJ
        b"\x8c\x01a\x8c\x01b\x93K\x01K\x02\x86R.",  # STACK_GLOBAL
        b"(K\x01K\x02ia\nb\n.",  # INST
        b"(ca\nb\nK\x01K\x02o.",  # OBJ
    ],
)
def test_every_way_to_call_gives_a_stand_in(text: bytes) -> None:
    found = called(text)
    assert isinstance(found, Instance)
    assert (found.global_name, found.args) == ("a.b", (1, 2))


def test_keywords_of_a_call_are_its_last_argument() -> None:
    assert called(b"ca\nb\nK\x01\x85}\x92.").args == (1, {})


def test_state_is_kept_and_given_to_nobody() -> None:
    assert called(b"ca\nb\n)R}\x8c\x01xK\x01sb.").attributes == {"x": 1}


def test_second_state_does_not_take_the_place_of_the_first() -> None:
    """Python would add it, so that the object has the attributes of both."""
    found = called(b"ca\nb\n)R}\x8c\x01xK\x01sb}\x8c\x01yK\x02sb.")
    assert found.state == ({"x": 1}, {"y": 2})
    assert found.attributes == {}


@pytest.mark.parametrize("built", [b"K\x01", b"]", b")", b"\x8c\x01x"])
def test_only_objects_and_dictionaries_have_a_state(built: bytes) -> None:
    """For a tensor, PyTorch would put other numbers in its place."""
    with pytest.raises(PickleError, match="changes what it has built"):
        read_pickle(built + b"Nb.")


@pytest.mark.parametrize(
    "text",
    [
        b"I010\n",  # ten for one reader, and eight for another
        b"I1_0\n",
        b"I 1\n",
        b"L010L\n",
        b"L1\n",
        b"F1_0.5\n",
        b"Fnan(1)\n",
        b"K\x01p01\n",
        b"K\x01p1\ng01\n",
        b"U\x01\xe9",  # é in one encoding, and no text in another
        b"T\x01\0\0\0\xe9",
        b"S'\xe9'\n",
        b"U\xc8" + 199 * b"a" + b"\xe9",
    ],
)
def test_text_that_readers_could_take_for_different_things_is_an_error(text: bytes) -> None:
    with pytest.raises(PickleError):
        read_pickle(text + b".")


@pytest.mark.parametrize("length", [1, 127, 128, 200, 255])
def test_text_of_python_2_is_read(length: int) -> None:
    text = b"a" * length
    assert read_pickle(b"\x80\x02U" + bytes([length]) + text + b".").root == text.decode()
    assert read_pickle(b"T" + length.to_bytes(4, "little") + text + b".").root == text.decode()


@pytest.mark.parametrize("protocol", [0, 1, 2])
@pytest.mark.parametrize(
    "value", [0, -1, 10, 2**31, -(2**70), True, False, 0.1, 1e-5, -1e300, float("inf"), "é", ["x"]]
)
def test_text_that_python_writes_is_read(protocol: int, value: object) -> None:
    assert read_pickle(pickle.dumps(value, protocol)).root == value


def test_what_a_call_gave_may_be_called() -> None:
    found = called(b"ca\nb\n)RK\x01\x85R.")
    assert found.global_name == ""
    assert found.args[0].global_name == "a.b"
    assert found.args[1] == 1


def test_calls_and_references_are_resolved_in_order() -> None:
    seen: list[object] = []

    def resolve(node: object) -> object:
        seen.append(node)
        return len(seen)

    found = read_pickle(b"\x80\x02K\x07Qca\nb\n)RPx\n\x87.", resolve=resolve)
    assert found.root == (1, 2, 3)
    assert seen[0] == PersistentId(7)
    assert isinstance(seen[1], Instance)
    assert seen[2] == PersistentId("x")


def test_class_with_its_source_code_is_the_class() -> None:
    """As torch wrote it before 1.6."""
    found = read_pickle(b"\x80\x02(\x8c\x06moduleca\nb\n\x8c\x04file\x8c\x04codetQ.")
    assert found.root.global_name == "a.b"


def test_extensions_are_names_that_nobody_accepts() -> None:
    assert list(read_pickle(b"\x80\x02\x82\x05.").globals) == ["copyreg.extension 5"]


def test_name_that_is_computed_is_no_name() -> None:
    assert list(read_pickle(b"\x80\x04NN\x93.").globals) == ["a name.that is computed"]


def test_names_are_those_of_python_3() -> None:
    text = b"\x80\x02c__builtin__\neval\nc__builtin__\nset\nccopy_reg\n_reconstructor\n\x87."
    assert list(read_pickle(text).globals) == [
        *("builtins.eval", "builtins.set", "copyreg._reconstructor")
    ]
    renamed = b"\x80\x02c__builtin__\nxrange\nccommands\ngetoutput\ncitertools\nimap\n\x87."
    assert list(read_pickle(renamed).globals) == [
        *("builtins.range", "subprocess.getoutput", "builtins.map")
    ]


def test_key_whose_hash_takes_forever_is_never_hashed() -> None:
    """((((), ()), ((), ())), ...): 2**60 empty tuples in 120 instructions."""
    text = b"\x80\x02})" + b"2\x86" * 60 + b"Ns."
    started = time.monotonic()
    (key,) = read_pickle(text).root
    assert time.monotonic() - started < 10
    assert isinstance(key, OtherKey)


def test_keys_that_are_neither_text_nor_number_are_like_no_others() -> None:
    """A class of the pickle's own could be equal to any text, as numpy's text is."""
    found = read_pickle(b"\x80\x02}(\x8c\x01xK\x01ca\nb\n\x8c\x01x\x85RK\x02)K\x03)K\x04u.").root
    assert list(found.values()) == [1, 2, 3, 4]
    assert [str(key) for key in found] == ["x", "<a.b>", "<tuple>", "<tuple>"]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_dictionary_with_defaults_is_a_dictionary(protocol: int) -> None:
    assert read_pickle(pickle.dumps(defaultdict(list, a=[1]), protocol)).root == {"a": [1]}
    text = b"ccollections\ndefaultdict\nN}\x86R."  # with items among its arguments
    assert isinstance(read_pickle(text).root, Instance)


@pytest.mark.parametrize("protocol", [0, 1])
def test_object_of_an_old_protocol_is_one_of_its_class(protocol: int) -> None:
    found = read_pickle(pickle.dumps(SimpleThing(), protocol)).root
    assert found.global_name == f"{__name__}.SimpleThing"
    assert (found.args, found.attributes) == ((), {"a": 1})
    others = (b"cbuiltins\ndict\n}", b"cbuiltins\nobject\nK\x01", b"NN")
    for base_and_state in others:  # whose content is given to the class
        text = b"(ccopy_reg\n_reconstructor\n(ca\nb\n" + base_and_state + b"tR."
        assert read_pickle(text).root.global_name == "copyreg._reconstructor"


class SimpleThing:
    """Has a state."""

    def __init__(self) -> None:
        self.a = 1


def test_pickle_of_thousands_of_names_is_an_error() -> None:
    names = b"".join(b"ca\nb%d\n" % number for number in range(2_000))
    with pytest.raises(PickleError, match="more than 1000 classes"):
        read_pickle(b"\x80\x02" + names + b".")


def test_numbers_that_share_a_hash_are_refused_as_keys() -> None:
    """In one dictionary, 20,000 multiples of 2**61 - 1 take seconds; ten times as many, minutes."""
    pairs = b"".join(b"\x8a\x09" + (n * (2**61 - 1)).to_bytes(9, "little") + b"N" for n in (1, 2))
    with pytest.raises(PickleError, match="no dictionary has"):
        read_pickle(b"\x80\x02}(" + pairs + b"u.")


@pytest.mark.parametrize("function", [b"cbuiltins\nset\n", b"ccollections\nOrderedDict\n"])
def test_contents_that_are_used_over_and_over_are_an_error(function: bytes) -> None:
    """Each call copies a thousand items that are in the file only once."""
    thousand = b"(" + b"NN\x86" * 1_000 + b"tq\x00"
    calls = (b"h\x00" if function.endswith(b"set\n") else b"h\x00\x85").join(
        [b"", *[b"R0" + function] * 2_000]
    )
    with pytest.raises(PickleError, match="more than 1000000 steps"):
        read_pickle(b"\x80\x02" + thousand + b"0" + function + calls + b"NR.")


def text(content: str) -> bytes:
    return b"X" + len(content).to_bytes(4, "little") + content.encode()


LONG = text("n" * 1_001)


@pytest.mark.parametrize(
    "instructions",
    [
        b"}" + LONG + b"Ns",
        b"(" + LONG + b"Nd",
        text("a") + LONG + b"\x93",
        LONG + text("a") + b"\x93",
        b"c" + b"n" * 1_001 + b"\na\n",
        b"(i" + b"n" * 1_001 + b"\na\n",
    ],
)
def test_names_that_can_be_used_again_are_short(instructions: bytes) -> None:
    with pytest.raises(PickleError, match="a name of 1001 characters"):
        read_pickle(b"\x80\x04" + instructions + b".")


@pytest.mark.parametrize("put", [b"p-1\n", b"p1000000\n", b"r\xff\xff\xff\xff", b"p%d\n" % 2**61])
def test_memo_is_numbered_as_pickles_number_it(put: bytes) -> None:
    with pytest.raises(PickleError, match="a memo of impossible size"):
        read_pickle(b"\x80\x02N" + put + b".")


def test_pickles_of_one_file_share_the_count() -> None:
    work = Work()
    pickle = b"\x80\x02(" + b"N" * 400_000 + b"t."
    read_pickle(pickle, work=work)
    assert work.steps == 400_004
    read_pickle(pickle, work=work)
    with pytest.raises(PickleTooLargeError):
        read_pickle(pickle, work=work)
