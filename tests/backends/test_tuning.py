import json
import os
from pathlib import Path

import pytest

from batchdigit.backends.tuning import MAX_BATCH_SIZE, MIN_BATCH_SIZE, best_batch_size, remembered


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "batchdigit" / "tuning.json"


def test_what_was_measured_is_remembered(cache: Path) -> None:
    assert remembered("a", lambda: 1) == (1, "measured")
    assert remembered("b", lambda: 2) == (2, "measured")
    assert remembered("a", lambda: 3) == (1, "cached")
    assert json.loads(cache.read_text()) == {"a": 1, "b": 2}
    assert [path.name for path in cache.parent.iterdir()] == ["tuning.json"]


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{", b"\xff", b'{"a": "x"}', b'{"a": -1}', b'{"a": ']
)
def test_damaged_cache_is_written_anew(cache: Path, content: bytes) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_bytes(content)
    assert remembered("a", lambda: 1) == (1, "measured")
    assert remembered("a", lambda: 2) == (1, "cached")


def test_cache_that_cannot_be_written_is_done_without(cache: Path) -> None:
    cache.parent.parent.parent.mkdir(exist_ok=True)
    cache.parent.parent.write_text("a file where the folder belongs")
    assert remembered("a", lambda: 1) == (1, "measured")
    assert remembered("a", lambda: 2) == (2, "measured")


@pytest.mark.skipif(os.name != "posix", reason="needs a FIFO")
def test_cache_that_is_no_file_holds_nothing_up(cache: Path) -> None:
    cache.parent.mkdir(parents=True)
    os.mkfifo(cache)  # whoever opens it to read it waits for somebody who writes
    assert remembered("a", lambda: 1) == (1, "measured")
    assert remembered("a", lambda: 2) == (1, "cached")


def test_relative_cache_folder_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert remembered("a", lambda: 1) == (1, "measured")
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_write_that_fails_leaves_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object, **_options: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("batchdigit.backends.tuning.json.dump", fail)
    assert remembered("a", lambda: 1) == (1, "measured")
    assert list(cache.parent.iterdir()) == []


def test_no_home_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    assert remembered("a", lambda: 1) == (1, "measured")


def test_batch_grows_while_twice_as_much_gains_three_percent() -> None:
    rates = {256: 100.0, 512: 180.0, 1024: 220.0, 2048: 226.0, 4096: 900.0}
    assert best_batch_size(rates.__getitem__) == 1024


def test_batch_stops_where_memory_ends() -> None:
    assert best_batch_size(lambda size: None if size > 2048 else float(size)) == 2048
    assert best_batch_size(lambda _size: None) == MIN_BATCH_SIZE


def test_batch_does_not_grow_for_ever() -> None:
    assert best_batch_size(float) == MAX_BATCH_SIZE


def test_any_json_can_be_remembered_if_it_is_what_it_should_be() -> None:
    def are_two(value: object) -> bool:
        return isinstance(value, list) and len(value) == 2

    assert remembered("a", lambda: [1, 2], are_two) == ([1, 2], "measured")
    assert remembered("a", lambda: [3, 4], are_two) == ([1, 2], "cached")
    assert remembered("a", lambda: 5) == (5, "measured")


def test_nothing_is_written_unasked(cache: Path) -> None:
    assert remembered("a", lambda: 1, write=False) == (1, "measured")
    assert not cache.exists()


def test_the_oldest_are_forgotten(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchdigit.backends.tuning.MAX_REMEMBERED", 3)
    for number, key in enumerate("abcd"):
        remembered(key, lambda number=number: number)
    assert json.loads(cache.read_text()) == {"b": 1, "c": 2, "d": 3}
