"""What a pickle declares about tensors, compared with what PyTorch makes of the same numbers."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from batchdigit.modelfiles.limits import MAX_DIMENSIONS, MAX_TENSORS
from batchdigit.modelfiles.standins import Instance, PersistentId, stand_in
from batchdigit.modelfiles.tensors import (
    DTYPES,
    PROTOCOL_0,
    UNTYPED,
    Declarations,
    Storage,
    StoredTensor,
    check_sizes,
)

FLOATS = stand_in("torch.FloatStorage")
DOUBLES = stand_in("torch.DoubleStorage")
REBUILD = stand_in("torch._utils._rebuild_tensor_v2")
PARAMETER = stand_in("torch._utils._rebuild_parameter")
LENGTHS = st.lists(st.integers(0, 5), max_size=4)


def reference(elements: Any, *, key: Any = "0", kind: Any = FLOATS, view: Any = None) -> Any:
    return PersistentId(("storage", kind, key, "cpu", elements, view))


def declared(
    storage: Any, offset: Any, shape: Any, strides: Any, declarations: Declarations | None = None
) -> tuple[Any, str]:
    """What stands for this tensor, and what is wrong with it."""
    declarations = declarations or Declarations()
    if isinstance(storage, PersistentId):
        storage = declarations.resolve(storage)
    tensor = declarations.resolve(REBUILD(storage, offset, shape, strides, False, None))
    return tensor, declarations.excess


@given(st.integers(0, 60), st.integers(0, 10), LENGTHS, st.data())
def test_tensor_lies_within_its_storage_where_torch_says_so(
    elements: int, offset: int, shape: list[int], data: st.DataObject
) -> None:
    strides = data.draw(st.lists(st.integers(0, 30), min_size=len(shape), max_size=len(shape)))
    assume(all(stride or length < 2 for length, stride in zip(shape, strides, strict=True)))
    tensor, excess = declared(reference(elements), offset, tuple(shape), tuple(strides))
    try:
        view = torch.arange(elements).as_strided(shape, strides, offset)
    except RuntimeError:
        assert "elements in a storage of" in excess
        return
    if view.numel() > elements:  # one element in several places, which torch does allow
        assert "elements in a storage of" in excess
        return
    assert excess == ""
    assert tensor == StoredTensor("float32", tuple(shape))
    assert tensor.elements == view.numel()
    again = torch.arange(elements).as_strided(tensor.shape, tensor.strides, tensor.offset)
    assert torch.equal(again, view)


def test_one_number_cannot_become_many() -> None:
    _, excess = declared(reference(1), 0, (1 << 40,), (0,))
    assert excess == f"declares an impossible tensor ({1 << 40} elements in a storage of 1)"


@pytest.mark.parametrize("kind", [kind for kind, (dtype, _) in DTYPES.items() if dtype != UNTYPED])
def test_type_is_that_of_the_storage(kind: str) -> None:
    tensor, excess = declared(reference(6, kind=stand_in(kind)), 0, (2, 3), (3, 1))
    dtype = torch.storage._storage_type_to_dtype_map()[kind.removeprefix("torch.")]  # type: ignore[no-untyped-call]
    assert excess == ""
    assert f"torch.{tensor.dtype}" == str(dtype)
    assert DTYPES[kind] == (tensor.dtype, dtype.itemsize)


def test_part_of_a_storage_begins_where_it_says() -> None:
    """As before PyTorch 0.4: a storage may be a view of another."""
    tensor, excess = declared(reference(10, view=("v", 4, 5)), 1, (2, 2), (2, 1))
    assert excess == ""
    assert (tensor.storage, tensor.offset) == ("0", 5)


def test_shape_of_an_old_file_is_a_size() -> None:
    tensor, excess = declared(reference(6), 0, stand_in("torch.Size")((2, 3)), [3, 1])
    assert excess == ""
    assert tensor.shape == (2, 3)


def test_parameter_is_its_tensor() -> None:
    declarations = Declarations()
    tensor, _ = declared(reference(6), 0, (6,), (1,), declarations)
    assert declarations.resolve(PARAMETER(tensor, True, None)) is tensor
    assert declarations.excess == ""


def test_other_calls_are_left_as_they_are() -> None:
    declarations = Declarations()
    call = stand_in("posix.system")("reboot")
    assert declarations.resolve(call) is call
    assert declarations.excess == ""
    assert declarations.storages == {}
    assert declarations.calls == [call]
    declarations.resolve(stand_in("__main__.Config")())  # gets nothing that it could change
    assert declarations.calls == [call]


def test_numbers_without_a_type_are_no_tensor_but_may_lie_in_a_file() -> None:
    """As torch stores uint16 and float8, which it rebuilds by another function."""
    untyped = reference(6, kind=stand_in("torch.storage.UntypedStorage"))
    declarations = Declarations()
    storage = declarations.resolve(untyped)
    call = stand_in("torch._utils._rebuild_tensor_v3")(storage, 0, (3,), (1,), False, {}, "uint16")
    assert declarations.resolve(call) is call
    assert declarations.excess == ""
    assert "without a storage" in declared(untyped, 0, (3,), (1,))[1]


def test_reference_of_protocol_0_is_told_from_others() -> None:
    declarations = Declarations()
    declarations.resolve(PersistentId("('storage', <class 'torch.FloatStorage'>, '0', 'cpu', 6)"))
    assert declarations.excess == PROTOCOL_0


@pytest.mark.parametrize(
    ("node", "problem"),
    [
        (PersistentId(("module", FLOATS, "0", "cpu", 6)), "an unknown reference"),
        (PersistentId(("storage", FLOATS, b"0", "cpu", 6)), "an unknown reference"),
        (PersistentId("text"), "an unknown reference"),
        (PersistentId("storage"), "an unknown reference"),
        (PersistentId(None), "an unknown reference"),
        (PersistentId(("storage",) * 1_000_000), "an unknown reference"),
        (reference(6, key="0" * 1_001), "an unknown reference"),
        (reference(6, kind=stand_in("os.system")), "of the unknown type os.system"),
        (reference(6, kind="torch.FloatStorage"), "of the unknown type "),
        (reference(-1), "of impossible size"),
        (reference(True), "of impossible size"),
        (reference(6.0), "of impossible size"),
        (reference(1 << 63), "of impossible size"),
        (reference(6, view=("v", 2, 5)), "a part of storage 0 that lies outside it"),
        (reference(6, view=("v", -1, 2)), "of impossible size"),
        (reference(6, view=("v", 2)), "values to unpack"),
        (PARAMETER("weights"), "a parameter that is not a tensor"),
        (PARAMETER(), "missing 1 required positional argument"),
        (REBUILD("storage", 0, (1,), (1,)), "without a storage"),
        (REBUILD(), "missing 4 required positional arguments"),
    ],
)
def test_what_torch_never_writes_is_in_excess(node: Instance | PersistentId, problem: str) -> None:
    declarations = Declarations()
    assert declarations.resolve(node) is node
    assert declarations.excess.startswith("declares an impossible tensor (")
    assert problem in declarations.excess


@pytest.mark.parametrize(
    ("offset", "shape", "strides", "problem"),
    [
        (0, (2, 3), (3,), "zip"),
        (0, 6, (1,), "without a shape"),
        (0, (6,), None, "without a shape"),
        (-1, (6,), (1,), "of impossible size"),
        (0, (-6,), (1,), "of impossible size"),
        (0, (6,), (-1,), "of impossible size"),
        (0, (2.0, 3), (3, 1), "of impossible size"),
        ("0", (6,), (1,), "of impossible size"),
        (0, (1,) * (MAX_DIMENSIONS + 1), (1,) * (MAX_DIMENSIONS + 1), "of 9 dimensions"),
    ],
)
def test_impossible_tensor_is_in_excess(
    offset: Any, shape: Any, strides: Any, problem: str
) -> None:
    tensor, excess = declared(reference(6), offset, shape, strides)
    assert not isinstance(tensor, StoredTensor)
    assert problem in excess


def test_storage_may_be_declared_twice_only_as_the_same() -> None:
    declarations = Declarations()
    for storage in (reference(6), reference(6), reference(4, key="1")):
        declarations.resolve(storage)
    assert declarations.excess == ""
    assert declarations.storages == {
        "0": Storage("float32", 6, 24),
        "1": Storage("float32", 4, 16),
    }
    for other in (reference(7), reference(6, kind=DOUBLES)):
        declarations = Declarations()
        declarations.resolve(reference(6))
        declarations.resolve(other)
        assert "storage 0 twice, differently" in declarations.excess


def test_first_excess_is_the_one_that_is_told() -> None:
    declarations = Declarations()
    declarations.resolve(reference(-1))
    first = declarations.excess
    declarations.resolve(PARAMETER("weights"))
    assert declarations.excess == first


@pytest.mark.parametrize("sizes", [[], [0], [1, 2], [(1 << 63) - 1]])
def test_sizes_that_a_file_can_hold(sizes: Sequence[int]) -> None:
    check_sizes(list(sizes))


def test_tensors_are_counted() -> None:
    declarations = Declarations()
    storage = declarations.resolve(reference(1))
    for _ in range(MAX_TENSORS):
        declared(storage, 0, (1,), (1,), declarations)
    assert declarations.excess == ""
    declared(storage, 0, (1,), (1,), declarations)
    assert f"more than {MAX_TENSORS} of them" in declarations.excess


@pytest.mark.parametrize(
    ("first", "second", "problem"),
    [
        (
            reference(2, kind=stand_in("torch.HalfStorage")),
            reference(2, kind=stand_in("torch.BFloat16Storage")),
            "storage 0 twice, differently",
        ),
        (reference(6, view=("v", 0, 2)), reference(6, view=("v", 2, 2)), "twice, differently"),
        (reference(6, view=("v", 0, 2)), reference(6, key="1", view=("v", 0, 2)), "twice"),
    ],
)
def test_what_one_name_stands_for_does_not_change(first: Any, second: Any, problem: str) -> None:
    """PyTorch would keep what the name stood for first."""
    declarations = Declarations()
    declarations.resolve(first)
    declarations.resolve(first)
    assert declarations.excess == ""
    declarations.resolve(second)
    assert problem in declarations.excess


@pytest.mark.parametrize(
    "others",
    [(1,), ("x",), (True, {"hook": 1}), (False, {}, {"neg": True}), (False, {}, {}, {})],
)
def test_tensor_with_more_to_it_than_numbers_is_in_excess(others: tuple[object, ...]) -> None:
    declarations = Declarations()
    storage = declarations.resolve(reference(1))
    declarations.resolve(REBUILD(storage, 0, (1,), (1,), *others))
    assert "with metadata" in declarations.excess
    declarations = Declarations()
    declarations.resolve(reference(1))
    tensor = declarations.resolve(REBUILD(storage, 0, (1,), (1,), True, {}, None))
    assert declarations.excess == ""
    declarations.resolve(PARAMETER(tensor, *others))
    assert "with metadata" in declarations.excess


def test_tensor_that_has_no_numbers_is_in_excess() -> None:
    declarations = Declarations()
    declarations.resolve(PersistentId(("storage", FLOATS, "0", "meta", 1)))
    assert "without numbers" in declarations.excess
