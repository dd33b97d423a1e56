"""A file counts as unchanged only if that is certain."""

import os
import time
from pathlib import Path

import numpy as np
import pytest

from batchdigit.sources.stamps import UNKNOWN, UNSETTLED, Stamps
from tests.support.samples import files_in

OLD = 10**18


def touch(path: Path, content: bytes = b"", modified: int = OLD) -> None:
    path.write_bytes(content)
    os.utime(path, ns=(modified, modified))


def stamps_of(folder: Path, *names: bytes, follow_symlinks: bool = False) -> Stamps:
    files = files_in(folder, names, follow_symlinks=follow_symlinks)
    return files.stamps(range(len(names)))


def test_size_and_time_are_those_of_the_file(tmp_path: Path) -> None:
    touch(tmp_path / "a", b"12345")
    touch(tmp_path / "b", modified=OLD + 1)
    found = stamps_of(tmp_path, b"a", b"b")
    assert found.sizes.tolist() == [5, 0]
    assert found.times.tolist() == [OLD, OLD + 1]


def test_missing_file_is_unknown(tmp_path: Path) -> None:
    found = stamps_of(tmp_path, b"a")
    assert (found.sizes.tolist(), found.times.tolist()) == ([UNKNOWN], [UNKNOWN])


def test_link_is_looked_at_itself_unless_links_are_followed(tmp_path: Path) -> None:
    touch(tmp_path / "a", b"12345")
    (tmp_path / "link").symlink_to("a")
    os.utime(tmp_path / "link", ns=(OLD + 7, OLD + 7), follow_symlinks=False)
    assert stamps_of(tmp_path, b"link").times.tolist() == [OLD + 7]
    followed = stamps_of(tmp_path, b"link", follow_symlinks=True)
    assert (followed.sizes.tolist(), followed.times.tolist()) == ([5], [OLD])


@pytest.mark.parametrize("seconds", [-1.9, 0.0, 1.9])
def test_file_of_this_moment_is_unsettled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    """So is one from the near future, by a clock that is a little ahead."""
    touch(tmp_path / "a", modified=OLD + int(seconds * 1e9))
    monkeypatch.setattr(time, "time_ns", lambda: OLD)
    found = stamps_of(tmp_path, b"a")
    assert (found.sizes.tolist(), found.times.tolist()) == ([0], [UNSETTLED])
    assert found.settled.tolist() == [False]


@pytest.mark.parametrize("seconds", [-2.0, 2.0])
def test_file_of_another_moment_is_settled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    touch(tmp_path / "a", modified=OLD + int(seconds * 1e9))
    monkeypatch.setattr(time, "time_ns", lambda: OLD)
    assert stamps_of(tmp_path, b"a").settled.tolist() == [True]


def test_each_file_is_compared_with_its_own_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looking at a million files takes a while: the last may be younger than the first look."""
    touch(tmp_path / "1.png")
    touch(tmp_path / "2.png", modified=OLD + 10**11)
    moments = iter((OLD + 10**11, OLD + 10**11 + 1))
    monkeypatch.setattr(time, "time_ns", lambda: next(moments))
    found = stamps_of(tmp_path, b"1.png", b"2.png")
    assert found.times.tolist() == [OLD, UNSETTLED]


def test_equal_is_only_what_is_certain() -> None:
    before = Stamps(np.array([1, 1, 1, UNKNOWN, 1]), np.array([5, 5, 5, UNKNOWN, UNSETTLED]))
    after = Stamps(np.array([1, 2, 1, UNKNOWN, 1]), np.array([5, 5, 6, UNKNOWN, UNSETTLED]))
    assert after.equals(before).tolist() == [True, False, False, False, False]
    assert not Stamps.unknown(2).equals(Stamps.unknown(2)).any()


@pytest.mark.parametrize("places", [[2, 0], [True, False, True]], ids=["positions", "mask"])
def test_some_are_taken_by_position_or_mask(places: list[int]) -> None:
    some = Stamps(np.array([1, 2, 3]), np.array([4, 5, 6])).at(np.array(places))
    assert sorted(zip(some.sizes.tolist(), some.times.tolist(), strict=True)) == [(1, 4), (3, 6)]
