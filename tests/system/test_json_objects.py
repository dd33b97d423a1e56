import pytest

from batchdigit.system.json_objects import load_json


@pytest.mark.parametrize("text", ['{"a": 1, "b": {"c": [2]}}', b'{"a": 1, "b": {"c": [2]}}'])
def test_objects_are_read(text: str | bytes) -> None:
    assert load_json(text, doubled="twice") == {"a": 1, "b": {"c": [2]}}


@pytest.mark.parametrize(
    "text",
    ['{"a": 1, "a": 2}', '{"a": 1, "a": 1}', '[{"b": {"a": 1, "a": 2}}]', '{"a": 1, "\\u0061": 2}'],
)
def test_name_that_stands_twice_is_refused_at_any_depth(text: str) -> None:
    with pytest.raises(ValueError, match="^a name stands twice$"):
        load_json(text, doubled="a name stands twice")


def test_what_is_not_json_is_refused() -> None:
    with pytest.raises(ValueError, match="Expecting"):
        load_json('{"a": }', doubled="twice")
