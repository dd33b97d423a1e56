"""What leads to what in the tree that a pickle describes."""

from typing import Any

import pytest

from batchdigit.modelfiles.standins import Instance, OtherKey, StateGiven, stand_in
from batchdigit.modelfiles.tensors import StorageView, StoredTensor
from batchdigit.models.reach import COMPUTED, names_within, taker_of
from batchdigit.models.statedict import Located

WEIGHT = StoredTensor("float32", (2,), storage="7", strides=(1,))
STATE = {"weight": WEIGHT}
WEIGHTS = Located(STATE, ("model",))
FUNCTION = stand_in("nets.change")


def holding(content: Any) -> Instance:
    instance = stand_in("nets.Holder")()
    instance.__setstate__({"content": content})
    return instance


@pytest.mark.parametrize(
    "argument",
    [
        WEIGHT,
        StoredTensor("float32", (1,), storage="7", offset=1, strides=(1,)),  # shares a number
        StorageView("7", "float32", 0, 2),
        STATE,
        [STATE],
        ({"a": (1, [WEIGHT])},),
        {OtherKey(WEIGHT): 1},
        holding(STATE),
        stand_in("nets.Holder")(WEIGHT),
    ],
)
def test_call_that_gets_the_weights_is_named(argument: Any) -> None:
    assert taker_of(WEIGHTS, [FUNCTION("x"), FUNCTION(1, argument)]) == "nets.change"
    assert taker_of(WEIGHTS, [Instance(FUNCTION("x"), argument)]) == "nets.change"
    assert taker_of(WEIGHTS, [Instance(Instance(None), argument)]) == COMPUTED


@pytest.mark.parametrize(
    "argument",
    [
        "model",
        StoredTensor("float32", (2,), storage="8", strides=(1,)),
        StorageView("8", "float32", 0, 2),
        {"a": 1},
        None,
    ],
)
def test_call_that_gets_anything_else_is_not(argument: Any) -> None:
    assert taker_of(WEIGHTS, [FUNCTION(argument)]) == ""


def test_plain_data_changes_nothing() -> None:
    for name in ("collections.deque", "collections.Counter", "builtins.set", "builtins.list"):
        assert taker_of(WEIGHTS, [stand_in(name)([WEIGHT])]) == ""
        assert taker_of(WEIGHTS, [Instance(stand_in(name)(), WEIGHT)]) == ""


@pytest.mark.parametrize(
    "name", ["copyreg._reconstructor", "numpy.random._pickle.__generator_ctor"]
)
def test_data_that_calls_what_it_is_given_could_change_them(name: str) -> None:
    assert taker_of(WEIGHTS, [stand_in(name)(FUNCTION, WEIGHT)]) == name


def test_object_that_gets_them_as_its_state_is_named_unless_it_is_known() -> None:
    holder = holding(STATE)
    given = StateGiven(holder, holder.state)
    assert taker_of(WEIGHTS, [given]) == "nets.Holder"
    assert taker_of(WEIGHTS, [given], ["nets.Holder"]) == ""


def test_second_state_may_go_to_what_the_first_has_named() -> None:
    holder = holding({"__setstate__": FUNCTION})
    holder.__setstate__((holder.state, STATE))
    assert taker_of(WEIGHTS, [StateGiven(holder, STATE)], ["nets.Holder"]) == "nets.Holder"


def test_known_function_can_make_an_object_of_any_class() -> None:
    made = stand_in("numpy.core.multiarray._reconstruct")(FUNCTION)
    made.__setstate__({"content": WEIGHT})
    given = StateGiven(made, made.state)
    assert taker_of(WEIGHTS, [given], [made.global_name]) == made.global_name


def test_container_with_attributes_can_have_another_append() -> None:
    container = stand_in("collections.Counter")()
    container.__setstate__({"append": FUNCTION})
    assert taker_of(WEIGHTS, [Instance(container, WEIGHT)]) == "collections.Counter"


def test_module_of_a_whole_model_is_part_of_the_weights() -> None:
    inner, whole = stand_in("torch.nn.Linear")(), stand_in("__main__.CNN")()
    inner.__setstate__({"_modules": {}, "_parameters": {"weight": WEIGHT}})
    whole.__setstate__({"_modules": {"fc": inner}, "_parameters": {}})
    for module in (inner, whole):
        assert taker_of(Located(whole), [FUNCTION(module)]) == "nets.change"


def test_names_are_those_of_classes_calls_and_keys() -> None:
    loop: list[Any] = [stand_in("a.A"), stand_in("b.B")(stand_in("c.C")())]
    loop.append(loop)
    loop.append({OtherKey(stand_in("d.D")()): holding(stand_in("e.E"))})
    assert names_within(loop) == {"a.A", "b.B", "c.C", "d.D", "e.E", "nets.Holder"}
    assert names_within(Instance(loop[1], 1)) == {COMPUTED, "b.B", "c.C"}
    assert names_within() == frozenset()
