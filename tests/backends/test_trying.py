"""A network is tried on known digits: what makes its answers worthless is found out."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from batchdigit import CheckpointError, InputSpec, UsageError
from batchdigit.backends.outputs import Output
from batchdigit.backends.trying import (
    COUNT,
    MAX_REMEDIES,
    TakesOtherError,
    takes_other,
    try_network,
)
from batchdigit.models.digits import packaged_digits

SPEC = InputSpec()
WEIGHTS = np.random.default_rng(3).normal(size=(784, 10)).astype(np.float32)

Images = NDArray[np.uint8]


def scores(images: Images) -> NDArray[np.float32]:
    product: NDArray[np.float32] = images.reshape(len(images), -1) / np.float32(255) @ WEIGHTS
    return product


def softmax(images: Images) -> NDArray[np.float32]:
    exponentials = np.exp(scores(images))
    whole: NDArray[np.float32] = exponentials / exponentials.sum(axis=1, keepdims=True)
    return whole


def test_network_sees_known_digits_of_its_size() -> None:
    seen: list[Images] = []

    def forward(images: Images) -> Any:
        seen.append(images)
        return np.ones((len(images), 10))

    try_network(forward, InputSpec(size=(32, 40)), "Net")
    assert {images.shape[1:] for images in seen} == {(1, 32, 40)}
    seen.clear()
    try_network(forward, SPEC, "Net")
    assert np.array_equal(seen[0], packaged_digits()[:COUNT])
    assert {1, COUNT} <= {len(images) for images in seen}


@pytest.mark.parametrize(
    ("forward", "way", "kind", "adds_up"),
    [
        (scores, (), "logits", True),
        (softmax, (), "probabilities", True),
        (lambda images: (images, softmax(images)), (1,), "probabilities", True),
        (lambda images: np.log(softmax(images)), (), "log-probabilities", True),
        (lambda images: 1 / (1 + np.exp(-scores(images))), (), "probabilities", False),
        (lambda images: scores(images).astype(np.float64), (), "logits", True),
    ],
)
def test_what_is_returned_is_found_out(
    forward: Callable[[Images], Any], way: tuple[int, ...], kind: str, adds_up: bool
) -> None:
    tried = try_network(forward, SPEC, "Net")
    assert (tried.output, tried.scores, tried.adds_up) == (Output(way, 10), kind, adds_up)


def test_what_is_declared_of_scores_is_not_guessed() -> None:
    tried = try_network(softmax, InputSpec(scores="logits"), "Net")
    assert (tried.scores, tried.adds_up) == ("logits", True)
    declared = InputSpec(scores="probabilities")
    assert not try_network(lambda images: softmax(images) / 2, declared, "Net").adds_up


@pytest.mark.parametrize(
    ("forward", "declared"),
    [
        (scores, "probabilities"),
        (scores, "log-probabilities"),
        (softmax, "log-probabilities"),
        (lambda images: np.log(softmax(images)), "probabilities"),
    ],
)
def test_scores_that_are_declared_as_what_they_cannot_be_are_wrong_usage(
    forward: Callable[[Images], Any], declared: str
) -> None:
    with pytest.raises(UsageError, match=f"gives .* for known digits, and no {declared}") as caught:
        try_network(forward, InputSpec(scores=declared), "Net")
    assert "leave --scores off" in caught.value.remedy


class Noisy:
    """Scores that change from one call to the next by a share of the largest."""

    def __init__(self, share: float) -> None:
        self.share = share
        self.calls = 0

    def __call__(self, images: Images) -> Any:
        self.calls += 1
        found = scores(images)
        return found + self.share * (self.calls % 2) * abs(scores(packaged_digits()[:COUNT])).max()


@pytest.mark.parametrize(
    ("forward", "said"),
    [
        (lambda images: np.repeat(scores(images), 3, axis=0), r"returns \[60, 10\] for 20 images"),
        (lambda images: scores(images) * np.nan, "not finite"),
        (lambda images: scores(images) + np.inf, "not finite"),
        (Noisy(0.01), "answers differently each time"),
        (lambda images: scores(images) - scores(images).mean(axis=0), "depend on the other images"),
        (lambda images: scores(images)[::-1], "depend on the other images"),
        (lambda images: scores(images)[:19], r"returns \[19, 10\] for 20 images"),
        (lambda images: scores(np.resize(images, (20, 784))), r"returns \[20, 10\] for 1 images"),
        (lambda images: None, "returns NoneType"),
    ],
)  # fmt: skip
def test_what_makes_answers_worthless_is_an_error(
    forward: Callable[[Images], Any], said: str
) -> None:
    with pytest.raises(CheckpointError, match=f"the network Net.* {said}"):
        try_network(forward, SPEC, "Net")


def test_rounding_that_differs_with_the_batch_is_no_difference() -> None:
    assert try_network(Noisy(1e-5), SPEC, "Net").scores == "logits"


# The remedy where a network takes other images


@pytest.mark.parametrize(
    ("takes", "remedy"),
    [
        ({"size": (32, 32)}, "--input-size 32"),
        ({"channels": 3}, "--channels 3"),
        ({"layout": "nhwc"}, "--layout nhwc"),
        ({"size": (224, 224), "channels": 3}, "--input-size 224 --channels 3"),
        ({"layout": "flat", "size": (64, 64)}, "--input-size 64 --layout flat"),
    ],
)
def test_remedy_names_what_the_network_takes(takes: dict[str, Any], remedy: str) -> None:
    wanted = InputSpec(**takes)
    error = takes_other("Net cannot", "mend it", lambda spec: spec == wanted, SPEC)
    assert isinstance(error, TakesOtherError)
    assert (error.problem, error.remedy) == ("Net cannot", f"it does with {remedy}")
    assert list(error.specs) == [wanted]


def test_least_changes_are_named_first() -> None:
    error = takes_other("", "", lambda spec: "nhw" in spec.layout, SPEC)
    assert len(error.specs) == MAX_REMEDIES
    assert error.remedy == "it does with --layout nhwc or --layout nhw"


def test_only_what_needs_changing_is_changed() -> None:
    spec = InputSpec(mean=(0.5,), std=(0.25,), expects="dark-on-light", classes=26)
    error = takes_other("", "", lambda spec: spec.channels == 3, spec)
    assert error.remedy.split(" or ")[0] == "it does with --channels 3"
    assert error.specs[0] == InputSpec(
        channels=3, mean=(0.5,) * 3, std=(0.25,) * 3, expects="dark-on-light", classes=26
    )
    colour = InputSpec(channels=3, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    error = takes_other("", "", lambda spec: spec.channels == 1, colour)
    assert (error.specs[0].mean, error.specs[0].std) == ((0.5,), (0.2,))


def test_network_that_takes_nothing_has_the_remedy_that_is_given() -> None:
    error = takes_other("Net cannot", "mend it", lambda _spec: False, SPEC)
    assert (error.remedy, list(error.specs)) == ("mend it", [])


def test_network_whose_answer_to_a_single_image_is_no_number_is_refused() -> None:
    """What is no number is neither more nor less than another."""

    def forward(images: Images) -> Any:
        return scores(images) if len(images) > 1 else scores(images) * np.float32(np.nan)

    with pytest.raises(CheckpointError, match="depend on the other images"):
        try_network(forward, SPEC, "Net")
