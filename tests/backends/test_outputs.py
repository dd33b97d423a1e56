"""Which part of what a network returns are its scores, and what kind of scores they are."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from batchdigit.backends.outputs import (
    Output,
    OutputError,
    adds_up,
    check_probabilities,
    choose_output,
    kind_of_scores,
    scores_in,
    to_probabilities,
)
from batchdigit.errors import CheckpointError

COUNT = 4


def array(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape, dtype=int), dtype=np.float32).reshape(shape)


S, F = array(COUNT, 10), array(COUNT, 50)

CHOSEN: dict[str, tuple[Any, int, Output]] = {
    "alone": (S, 0, Output((), 10)),
    "of any number of classes": (array(COUNT, 3), 0, Output((), 3)),
    "of one class": (array(COUNT, 1), 0, Output((), 1)),
    "in a tuple": ((S, F), 0, Output((0,), 10)),
    "behind features": ([F, S], 0, Output((1,), 10)),
    "by its name": ({"features": F, "logits": S}, 0, Output(("logits",), 10)),
    "nested": ((None, [{"x": S}, "text"]), 0, Output((1, 0, "x"), 10)),
    "first of equal ones": ((S, S), 0, Output((0,), 10)),
    "first of equal ones of seven": ((array(COUNT, 7), array(COUNT, 7)), 0, Output((0,), 7)),
    "beside a loss": ({"loss": array(), "logits": array(COUNT, 7)}, 0, Output(("logits",), 7)),
    "beside pictures": ((array(COUNT, 1, 28, 28), array(COUNT, 7)), 0, Output((1,), 7)),
    "of one pixel": (array(COUNT, 10, 1, 1), 0, Output((), 10)),
    "as many as labels": ((S, array(COUNT, 26)), 26, Output((1,), 26)),
    "ten, though labels are of none": ((array(COUNT, 7), S), 0, Output((1,), 10)),
    "alone, though labels are of others": (S, 26, Output((), 10)),
}  # fmt: skip


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize("case", CHOSEN)
def test_scores_are_found(case: str, kind: Any) -> None:
    def converted(outputs: Any) -> Any:
        if isinstance(outputs, np.ndarray):
            return kind(outputs)
        if isinstance(outputs, dict):
            return {name: converted(part) for name, part in outputs.items()}
        if isinstance(outputs, list | tuple):
            return type(outputs)(map(converted, outputs))
        return outputs

    outputs, labels, expected = CHOSEN[case]
    given_outputs = converted(outputs)
    assert choose_output(given_outputs, COUNT, labels) == expected
    scores = scores_in(given_outputs, expected, COUNT)
    assert tuple(scores.shape) == (COUNT, expected.classes)


def test_scores_of_one_image_may_lack_their_first_dimension() -> None:
    assert choose_output(array(10), 1) == Output((), 10)
    assert scores_in(array(10), Output((), 10), 1).shape == (1, 10)
    with pytest.raises(OutputError):
        choose_output(array(10), 10)


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        (array(3 * COUNT, 10), r"returns \[12, 10\] for 4 images, not \[4, classes\]"),
        (array(COUNT, 10, 2), r"returns \[4, 10, 2\]"),
        (array(COUNT), r"returns \[4\]"),
        (array(COUNT, 0), r"returns \[4, 0\]"),
        (array(COUNT, 1_000_000), r"returns \[4, 1000000\]"),
        (array(), r"returns \[\] for"),
        (None, "returns NoneType for"),
        ("seven", "returns str for"),
        ({}, "returns dict for"),
        ([[[[[S]]]]], "returns list for"),
        ((array(COUNT, 7), array(COUNT, 9)), r"returns \[4, 7\], \[4, 9\], and nobody says which"),
    ],
)
def test_what_has_no_scores_is_an_error_in_words(outputs: Any, said: str) -> None:
    with pytest.raises(OutputError, match=said):
        choose_output(outputs, COUNT)


@pytest.mark.parametrize(
    ("outputs", "way"),
    [
        (array(3 * COUNT, 10), ()),
        (array(COUNT, 11), ()),
        ((), (0,)),
        ({}, ("logits",)),
        (None, (0,)),
        ("text", (0,)),
        (S, (0, 0, 0)),
    ],
)
def test_other_scores_than_for_the_first_images_are_an_error(
    outputs: Any, way: tuple[int | str, ...]
) -> None:
    with pytest.raises(OutputError, match="returns "):
        scores_in(outputs, Output(way, 10), COUNT)


logits = st.lists(
    st.lists(st.floats(-30, 30, width=32), min_size=3, max_size=3), min_size=1, max_size=5
)


@given(logits)
def test_what_softmax_gives_is_never_taken_for_logits(rows: list[list[float]]) -> None:
    probabilities = torch.tensor(rows).softmax(1)
    assert kind_of_scores(probabilities.numpy()) == "probabilities"
    assert kind_of_scores(probabilities.half().float().numpy()) == "probabilities"
    assert adds_up(probabilities.numpy())
    logarithms = torch.tensor(rows, dtype=torch.float64).log_softmax(1)
    assert kind_of_scores(logarithms.numpy()) == "log-probabilities"


@pytest.mark.parametrize(
    ("scores", "kind"),
    [
        ([[0.1, 0.9, 0.8]], "probabilities"),  # of sigmoids
        ([[0.0, 0.0, 1.2]], "logits"),  # behind a ReLU
        ([[0.0, 0.0, 0.0]], "probabilities"),
        ([[-0.2, 0.5, 0.7]], "logits"),
        ([[-1.0, -2.0, -3.0]], "logits"),
        ([[-5.0, -50.0, -500.0]], "logits"),
        ([[0.0, -200.0, -300.0]], "log-probabilities"),
    ],
)
def test_kind_of_scores_is_what_they_look_like(scores: list[list[float]], kind: str) -> None:
    assert kind_of_scores(np.array(scores, np.float32)) == kind


def test_one_image_that_does_not_add_up_counts() -> None:
    assert not adds_up(np.array([[0.5, 0.5], [0.5, 0.6]]))
    assert adds_up(np.array([[0.5, 0.5], [0.5, 0.5005]]))


@pytest.mark.parametrize("scores", ["logits", "probabilities", "log-probabilities"])
def test_every_kind_of_scores_becomes_the_same_probabilities(scores: str) -> None:
    probabilities = torch.tensor([[0.7, 0.2, 0.1]], dtype=torch.float64)
    of_that_kind = (
        probabilities
        if scores == "probabilities"
        else probabilities.log() + (3 if scores == "logits" else 0)
    )
    found = to_probabilities(of_that_kind, scores, lambda x: x.softmax(1), torch.exp)
    torch.testing.assert_close(found, probabilities)


@pytest.mark.parametrize("low", [-0.1, np.nan])
@pytest.mark.parametrize("high", [1.0, 4.0])
def test_numbers_that_are_no_probabilities_are_refused(low: float, high: float) -> None:
    check_probabilities(np.array([[0.0, 1.0], [0.5, 1.0005]], np.float32))
    check_probabilities(np.empty((0, 2), np.float32))
    with pytest.raises(CheckpointError) as caught:
        check_probabilities(np.array([[low, high]], np.float32))
    assert caught.value.remedy == "give --scores logits"


def test_of_two_outputs_alike_the_one_that_reads_digits_counts() -> None:
    truth = np.arange(20) % 10
    good, noise = np.eye(10)[truth], np.eye(10)[(truth + 3) % 10]
    log_probs = np.log(good * 0.9 + 0.01)
    assert choose_output((noise, good), 20, truth=truth).way == (1,)
    assert choose_output({"features": noise, "scores": good}, 20, truth=truth).way == ("scores",)
    assert choose_output((log_probs, good), 20, truth=truth).way == (0,)
    assert choose_output((noise, good), 20).way == (0,)
