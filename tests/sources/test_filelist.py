"""Names of many files, compared with a plain list of them."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchdigit.sources.filelist import FileList
from tests.sources.test_filenames import ODD_NAMES

NAMES = st.lists(st.binary(max_size=8))


@given(NAMES)
def test_it_is_a_list_of_names(names: list[bytes]) -> None:
    files = FileList(names)
    assert len(files) == len(names)
    assert list(files) == names
    assert [files[index] for index in range(len(names))] == names


@given(NAMES)
def test_arrays_give_back_every_name(names: list[bytes]) -> None:
    arrays = FileList(names).as_arrays()
    assert [array.dtype for array in arrays] == [np.uint8, np.uint64]
    files = FileList.from_arrays(*arrays)
    assert list(files) == names


@pytest.mark.parametrize(
    "offsets",
    [[], [0], [0, 2], [1, 3], [0, 2, 1, 3], [0, 4]],
    ids=["none", "too few", "short", "late", "back", "long"],
)
def test_offsets_that_are_not_those_of_the_names_are_refused(offsets: list[int]) -> None:
    names = np.frombuffer(b"abc", np.uint8)
    with pytest.raises(ValueError, match="offsets"):
        FileList.from_arrays(names, np.array(offsets, np.uint64))


def test_odd_names_have_texts() -> None:
    files = FileList(ODD_NAMES)
    assert list(files) == ODD_NAMES
    assert files.filename(3) == "not-utf8-\\xff\\xfe.png"


@pytest.mark.parametrize("index", [-1, 2])
def test_index_outside_is_refused(index: int) -> None:
    with pytest.raises(IndexError):
        FileList([b"a", b"b"])[index]


def test_it_reaches_a_worker_as_two_objects() -> None:
    names = [b"%06d.png" % number for number in range(10_000)]
    sent = pickle.dumps(FileList(names))
    assert len(sent) < sum(map(len, names)) + 8 * len(names) + 500
    assert list(pickle.loads(sent)) == names
