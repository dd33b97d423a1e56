from batchdigit.bench.facts import MAX_LENGTH, facts


def test_values_of_any_kind_are_text() -> None:
    data = {"gpu": None, "quiet": True, "memory_bytes": 8_000_000_000, "share": 0.5, "name": "x"}
    assert facts(data) == {
        "gpu": "unknown",
        "quiet": "yes",
        "memory bytes": "8,000,000,000",
        "share": "0.5",
        "name": "x",
    }


def test_objects_in_objects_are_named_by_both_and_lists_are_joined() -> None:
    data = {"reader": {"start_method": "fork", "sizes": [1, None, 1000]}, "none": []}
    assert facts(data) == {
        "reader start method": "fork",
        "reader sizes": "1, unknown, 1,000",
        "none": "",
    }


def test_no_text_is_longer_than_a_line_or_a_command_for_a_terminal() -> None:
    found = facts({"a" * 500: "b" * 500, "list": ["\x1b[2J\n"] * 500})
    for text in (*found, *found.values()):
        assert len(text) <= MAX_LENGTH
        assert text.isprintable()
