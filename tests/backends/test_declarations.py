"""Which declaration of an input fits a model: by how it reads digits whose labels are known."""

from collections.abc import Generator, Iterable

import numpy as np
import pytest

from batchdigit import CheckpointError, DeviceError, InputSpec
from batchdigit.backends.declarations import (
    LEAST,
    Counted,
    DigitTrial,
    likeliest,
    plausible,
)
from batchdigit.batches import Batch, Predictions
from batchdigit.modelfiles.declaration import Declaration
from batchdigit.models.digits import packaged_digits

PLAIN = InputSpec()
TRUTH = np.arange(1000) % 10


class Reader:
    """Reads the share of digits right that ``shares`` has for a declaration, as sure as that."""

    def __init__(self, shares: dict[InputSpec, float], spec: InputSpec = PLAIN) -> None:
        self.shares = shares
        self.spec = spec
        self.asked: list[tuple[InputSpec, int]] = []
        self.error: Exception | None = None

    def taking(self, spec: InputSpec) -> "Reader":
        other = Reader(self.shares, spec)
        other.asked, other.error = self.asked, self.error
        return other

    def predict(self, batches: Iterable[Batch]) -> Generator[Predictions, None, None]:
        parts = list(batches)
        self.asked.append((self.spec, sum(map(len, parts))))
        share, start = self.shares.get(self.spec, 0.1), 0
        if self.error is not None and self.spec != PLAIN:
            raise self.error
        for batch in parts:
            places = np.arange(start, start + len(batch))
            start += len(batch)
            right = places % 100 < 100 * share
            labels = np.where(right, places % 10, (places + 1) % 10)
            probs = np.full((len(batch), 1), share, np.float32)
            yield Predictions.of(batch, labels[:, None], probs, {})


def trial(shares: dict[InputSpec, float], class_of: Iterable[int] = range(10)) -> DigitTrial:
    return DigitTrial(Reader(shares), packaged_digits(), TRUTH, list(class_of))


def test_right_digits_are_counted_and_how_sure_the_model_is() -> None:
    counted = trial({PLAIN: 0.75}).count(PLAIN)
    assert (counted.right, counted.of, counted.share) == (750, 1000, 0.75)
    assert counted.confidence == pytest.approx(0.75)
    of_truth = 0.75 * np.log(0.75) + 0.25 * np.log(0.25 / 9)
    assert counted.likelihood == pytest.approx(of_truth, abs=1e-6)
    assert trial({PLAIN: 0.75}).count(PLAIN, 100).right == 75


def test_classes_may_be_in_another_order() -> None:
    turned = [(place - 1) % 10 for place in range(10)]
    assert trial({PLAIN: 0.0}, turned).count(PLAIN).right == 1000


@pytest.mark.parametrize("error", [DeviceError("not finite", "x"), CheckpointError("no", "x")])
def test_numbers_that_cannot_be_computed_are_read_wrong(error: Exception) -> None:
    reader = Reader({})
    reader.error = error
    counted = DigitTrial(reader, packaged_digits(), TRUTH, range(10)).count(PLAIN.inverted)
    assert (counted.right, counted.of, counted.confidence) == (0, 1000, 0.0)


@pytest.mark.parametrize("polarity", [True, False])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(28, 28), (32, 32), (32, 28)])
def test_what_is_plausible_keeps_the_shape(
    size: tuple[int, int], channels: int, polarity: bool
) -> None:
    spec = InputSpec(size=size, channels=channels, layout="nhwc", classes=12, scores="logits")
    specs = plausible(spec, polarity=polarity)
    assert specs[0] == spec
    assert len(set(specs)) == len(specs)
    assert {(one.size, one.channels, one.layout, one.classes, one.scores) for one in specs} == {
        (size, channels, "nhwc", 12, "logits")
    }
    assert len({one.expects for one in specs}) == 1 + polarity
    assert {one.transpose for one in specs} == ({False, True} if size[0] == size[1] else {False})
    assert {one.place for one in specs} == ({"resize"} if size == (28, 28) else {"resize", "pad"})


@pytest.mark.parametrize(
    ("channels", "numbers"),
    [
        (1, {"mean": (0.1307,), "std": (0.3081,)}),
        (1, {"mean": (0.5,), "std": (0.5,)}),
        (1, {"range": "0-255"}),
        (3, {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}),
        (3, {"mean": (0.5,), "std": (0.5,)}),
    ],
)
def test_usual_numbers_are_plausible(channels: int, numbers: dict[str, object]) -> None:
    wanted = InputSpec(channels=channels, **numbers)  # type: ignore[arg-type]
    specs = plausible(InputSpec(channels=channels))
    assert wanted in specs
    assert wanted.inverted in specs


def test_what_a_file_carries_is_plausible() -> None:
    own = Declaration(mean=(0.9,), std=(0.07,))
    assert InputSpec(mean=(0.9,), std=(0.07,)) in plausible(PLAIN, others=[own])
    assert InputSpec(mean=(0.9,), std=(0.07,)) not in plausible(PLAIN)


HALF = InputSpec(mean=(0.5,), std=(0.5,))
NORMALISED = InputSpec(mean=(0.1307,), std=(0.3081,))


def test_the_best_of_many_is_found_whatever_its_place() -> None:
    specs = plausible(PLAIN)
    for best in (specs[0], specs[7], specs[-1]):
        ranked = trial(dict.fromkeys(specs, 0.5) | {best: 0.99}).rank(specs)
        assert likeliest(ranked.finalists).spec == best
        assert ranked.counted[0].spec == best
        assert ranked.counted[0].of == 1000
        assert {one.spec for one in ranked.counted} == set(specs)


def test_bad_ones_are_given_up_after_few_images() -> None:
    specs = plausible(PLAIN)
    reader = Reader({HALF: 0.99})
    DigitTrial(reader, packaged_digits(), TRUTH, range(10)).rank(specs)
    on_all = [spec for spec, count in reader.asked if count == 1000]
    assert HALF in on_all
    assert len(on_all) < len(specs) / 2


def test_usual_one_is_not_given_up_for_others_that_are_hardly_surer() -> None:
    """Where a network is sure of all of few images, more of them have to tell."""
    specs = [PLAIN, *(InputSpec(mean=(number / 100,), std=(0.5,)) for number in range(40))]
    shares = dict.fromkeys(specs, 1 - 1e-09) | {PLAIN: 0.9999}
    ranked = trial(shares).rank(specs)
    assert ranked.finalists[0].spec == PLAIN
    assert likeliest(ranked.finalists).spec == PLAIN


def test_nothing_is_tried_where_even_that_takes_too_long() -> None:
    reader = Reader({})
    ranked = DigitTrial(reader, packaged_digits(), TRUTH, range(10)).rank([PLAIN, HALF], 1e-9)
    assert (ranked.finalists, ranked.counted) == ((), ())
    assert set(reader.asked) == {(PLAIN, LEAST)}


class Slow(Reader):
    """Takes a second of a clock for each image."""

    now = 0.0

    def predict(self, batches: Iterable[Batch]) -> Generator[Predictions, None, None]:
        for found in super().predict(batches):
            Slow.now += len(found)
            yield found

    def taking(self, spec: InputSpec) -> "Slow":
        other = Slow(self.shares, spec)
        other.asked = self.asked
        return other


@pytest.mark.parametrize(
    ("seconds", "images"),
    [(10_000, 1000), (1_500, 610), (400, 100), (230, 75), (100, 30), (60, 20), (35, 0)],
)
def test_as_many_images_are_tried_as_there_is_time_for(
    monkeypatch: pytest.MonkeyPatch, seconds: float, images: int
) -> None:
    monkeypatch.setattr("batchdigit.backends.declarations.time.monotonic", lambda: Slow.now)
    trial = DigitTrial(Slow({HALF: 0.99}), packaged_digits(), TRUTH, range(10))
    begun = Slow.now
    ranked = trial.rank([PLAIN, HALF], seconds)
    assert Slow.now - begun <= seconds + 2 * LEAST
    assert [one.of for one in ranked.finalists] == ([images] * 2 if images else [])
    assert likeliest(ranked.finalists).spec == HALF if images else not ranked.counted


def counted(spec: InputSpec, right: int, likelihood: float) -> Counted:
    return Counted(spec, right, 1000, 0.9, likelihood)


@pytest.mark.parametrize(
    ("usual", "other", "is_usual"),
    [
        ((985, -0.05), (985, -0.05), True),
        ((985, -0.05), (988, -0.05), True),  # by chance
        ((985, -0.05), (985, -0.04), True),  # hardly surer
        ((900, -0.30), (985, -0.05), False),  # reads far fewer
        ((985, -0.60), (985, -0.05), False),  # not sure of the truth
        ((1000, -0.01), (900, -0.001), True),
    ],
)
def test_usual_declaration_is_preferred_where_it_is_hardly_worse(
    usual: tuple[int, float], other: tuple[int, float], is_usual: bool
) -> None:
    best = likeliest([counted(NORMALISED, *usual), counted(HALF, *other)])
    assert best.spec == (NORMALISED if is_usual else HALF)


def test_usual_sizes_are_tried_where_a_network_may_take_any() -> None:
    sizes = {one.size for one in plausible(InputSpec(), sizes=True)}
    assert sizes == {(28, 28), (32, 32)}
    assert {one.size for one in plausible(InputSpec())} == {(28, 28)}
    assert plausible(InputSpec(size=32), sizes=True)[0] == InputSpec(size=32)
