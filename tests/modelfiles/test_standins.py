"""Stand-ins remember what a pickle said, and do nothing of it."""

import os
import pickle

import pytest

from batchdigit.modelfiles.pickled import read_pickle
from batchdigit.modelfiles.standins import Instance, PersistentId, stand_in


def test_stand_in_remembers_its_name_and_the_arguments_of_the_call() -> None:
    system = stand_in("posix.system")
    instance = system("echo planted", 1)
    assert isinstance(instance, Instance)
    assert instance.global_name == "posix.system"
    assert instance.args == ("echo planted", 1)
    assert instance.state is None
    assert instance.attributes == {}


def test_stand_ins_do_not_share_what_they_remember() -> None:
    one, other = stand_in("a.A"), stand_in("a.B")
    first, second = one(1), one(2)
    first.__setstate__({"x": 1})
    assert (one.global_name, other.global_name) == ("a.A", "a.B")
    assert (first.args, second.args) == ((1,), (2,))
    assert (first.attributes, second.attributes) == ({"x": 1}, {})
    assert Instance.global_name == ""


@pytest.mark.parametrize(
    ("state", "attributes"),
    [
        ({"weight": 1, 2: "two"}, {"weight": 1, 2: "two"}),
        ({}, {}),
        (None, {}),
        (["weight"], {}),
        (({"a": 1}, {"slot": 2}), {}),  # as objects with slots are pickled
    ],
)
def test_attributes_are_what_a_state_holds_by_name(state: object, attributes: object) -> None:
    instance = stand_in("a.A")()
    instance.__setstate__(state)
    assert instance.state == state
    assert instance.attributes == attributes


def test_state_cannot_replace_what_a_stand_in_is() -> None:
    """Python's own way to restore an object would write these into it."""
    state = {"global_name": "builtins.dict", "args": (), "attributes": {"x": 1}, "__class__": dict}
    instance = stand_in("a.A")("argument")
    instance.__setstate__(state)
    assert (instance.global_name, instance.args) == ("a.A", ("argument",))
    assert instance.attributes == state


class Command:
    """Pickled as the call of ``os.mkdir`` with a path."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_nothing_is_called_for_what_a_stand_in_stands_for(
    tmp_path: os.PathLike[str], protocol: int
) -> None:
    path = os.path.join(tmp_path, "made")
    text = pickle.dumps(Command(path), protocol)
    root = read_pickle(text).root
    assert root.global_name == f"{os.mkdir.__module__}.mkdir"
    assert root.args == (path,)
    assert not os.path.exists(path)
    pickle.loads(text)
    assert os.path.exists(path)  # so the pickle was dangerous


def test_references_are_equal_if_what_they_refer_to_is() -> None:
    assert PersistentId(("storage", 0)) == PersistentId(("storage", 0))
    assert PersistentId(("storage", 0)) != PersistentId(("storage", 1))
