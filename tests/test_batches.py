"""The laws of batches: joining, splitting and renumbering them gives the rows of plain lists."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchdigit.batches import (
    Batch,
    Failure,
    Predictions,
    Treatment,
    join_batches,
    join_predictions,
)
from batchdigit.sources.filelist import FileList
from tests.support.rows import Row, assert_same, batch_of, predictions_of, rows


@given(rows(), st.data())
def test_joined_predictions_are_in_order_however_rows_were_dealt(
    whole: list[Row], data: st.DataObject
) -> None:
    parts = data.draw(st.integers(1, 4))
    dealt: list[list[Row]] = [[] for _ in range(parts)]
    for row in whole:
        dealt[data.draw(st.integers(0, parts - 1))].append(row)
    joined = join_predictions([predictions_of(part) for part in dealt])
    assert_same(joined, predictions_of(whole))


def test_joining_adds_up_the_work() -> None:
    one, other = {"read": 1.0, "network": 2.0}, {"network": 4.0}
    both = {"read": 1.0, "network": 6.0}
    assert join_predictions([predictions_of([], one), predictions_of([], other)]).busy == both
    assert join_batches([batch_of([], one), batch_of([], other)]).busy == both


@given(rows(), st.integers(-1, 42))
def test_predictions_are_split_at_an_index(whole: list[Row], index: int) -> None:
    below, above = predictions_of(whole).split(index)
    assert_same(below, predictions_of([row for row in whole if row.index < index]))
    assert_same(above, predictions_of([row for row in whole if row.index >= index]))


@given(rows(), st.lists(st.booleans(), min_size=41, max_size=41), st.integers(0, 100))
def test_renumbered_predictions_are_those_of_the_files_that_stay(
    whole: list[Row], stay: list[bool], offset: int
) -> None:
    index_of = np.cumsum(stay) - 1 + offset
    index_of[~np.array(stay)] = -1
    renumbered = predictions_of(whole).renumbered(index_of.astype(np.int64))
    expected = [
        row._replace(index=sum(stay[: row.index]) + offset) for row in whole if stay[row.index]
    ]
    assert_same(renumbered, predictions_of(expected))


@given(rows())
def test_predictions_say_which_files_they_are_about(whole: list[Row]) -> None:
    predictions = predictions_of(whole)
    assert predictions.rows == len(whole)
    assert len(predictions) == sum(not row.failed for row in whole)
    if whole:
        assert (predictions.first, predictions.last) == (whole[0].index, whole[-1].index)


@given(rows(), st.integers(1, 15))
def test_parts_of_a_batch_are_the_batch(whole: list[Row], size: int) -> None:
    batch = batch_of(whole, {"read": 1.0})
    parts = batch.parts(size)
    assert len(parts) == max(math.ceil(len(batch) / size), 1)
    assert all(len(part) <= size for part in parts)
    assert [bool(part.busy) for part in parts] == [True] + [False] * (len(parts) - 1)
    assert not any(part.failures for part in parts[1:])
    joined = join_batches(parts)
    assert_same(joined, batch)
    assert joined.busy == batch.busy


@given(rows(), st.lists(st.integers(0, 12), max_size=3))
def test_joined_batches_are_those_that_follow_one_another(
    whole: list[Row], cuts: list[int]
) -> None:
    edges = [0, *sorted(cuts), len(whole)]
    parts = [whole[start:end] for start, end in itertools.pairwise(edges)]
    assert_same(join_batches([batch_of(part) for part in parts]), batch_of(whole))


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 20, 64)])
def test_batches_of_any_size_join_with_those_of_no_image(shape: tuple[int, int, int]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, *shape), dtype=np.uint8)
    some = Batch.of(images)
    failed = [Batch.failed(Failure(index, "read", "gone")) for index in (3, 4)]
    for parts in ([some, *failed], [failed[0], some, failed[1]], [*failed, some]):
        joined = join_batches(parts)
        assert np.array_equal(joined.images, images)
        assert [failure.index for failure in joined.failures] == [3, 4]
    none = join_batches(failed)
    assert (len(none), len(none.images), len(none.failures)) == (0, 0, 2)


@given(rows(), st.integers(1, 15))
def test_parts_of_colour_images_are_the_batch(whole: list[Row], size: int) -> None:
    batch = batch_of(whole)
    colours = replace(batch, images=np.repeat(batch.images, 3, axis=1))
    assert_same(join_batches(colours.parts(size)), colours)


def test_filenames_are_those_of_the_file_list() -> None:
    rows = [Row(0, 1, failed=False), Row(1, 2, failed=True), Row(2, 3, failed=False)]
    predictions = predictions_of(rows)
    with pytest.raises(ValueError, match="without their file list"):
        predictions.filenames  # noqa: B018
    files = FileList([b"a.png", b"b.png", b"\xff.png"])
    named = type(predictions)(**(vars(predictions) | {"files": files}))
    assert named.filenames == ["a.png", "\\xff.png"]
    assert named.filename_of(named.failures[0]) == "b.png"


def test_failure_is_an_error_that_starts_with_its_stage() -> None:
    assert Failure(3, "too-large", "more than 5 pixels").text == "too-large: more than 5 pixels"


def test_treatments_fit_into_a_byte() -> None:
    everything = Treatment.FITTED | Treatment.DARK | Treatment.CROWDED
    assert np.uint8(everything) == everything


def test_arrays_with_other_facts_are_refused() -> None:
    arrays = predictions_of([Row(0, 1, failed=False)]).as_arrays()
    arrays["facts"] = np.zeros(1, [("treatment", "u1"), ("target", "i4")])
    with pytest.raises(ValueError, match="other facts"):
        Predictions.from_arrays(arrays)
