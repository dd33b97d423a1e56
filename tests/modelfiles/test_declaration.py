"""What may be said of a network's input and output, by whatever says it."""

import math
import shlex
from typing import Any

import numpy as np
import pytest

from batchdigit import Job, UsageError
from batchdigit.modelfiles.declaration import (
    DECLARED,
    GIVEN_AS,
    Declaration,
    declaring,
    flags,
)
from batchdigit.models.spec import InputSpec

SAID: dict[str, Any] = {
    "size": (32, 28),
    "channels": 3,
    "range": "0-255",
    "mean": (0.5, 0.4, 0.3),
    "std": (0.2, 0.25, -0.3),
    "expects": "dark-on-light",
    "layout": "nhwc",
    "transpose": True,
    "place": "pad",
    "scores": "log-probabilities",
}
EVERYTHING = Declaration(**SAID)


def option(name: str) -> str:
    return GIVEN_AS[name]


def of(**given: Any) -> Declaration:
    return Declaration.of(given, option)


def refusal(**given: Any) -> UsageError:
    with pytest.raises(UsageError) as caught:
        of(**given)
    assert caught.value.remedy
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("mean", "std"), [(None, None), (0, 1), (0.1307, 0.3081), (0, 1 / 255), (1, -1), (-3.5, 1e-5)]
)
def test_pixels_can_be_scaled_by_these(mean: float | None, std: float | None) -> None:
    job = Job(["x"], mean=mean, std=std)
    assert (job.mean, job.std) == tuple(None if one is None else (one,) for one in (mean, std))


@pytest.mark.parametrize(
    ("mean", "std", "named"),
    [
        (0.5, None, "--mean and --std"),
        (None, 0.5, "--mean and --std"),
        (math.nan, 1, "--mean"),
        (math.inf, 1, "--mean"),
        (1e6, 1, "--mean"),
        (0.5, 0, "--std"),
        (0.5, 1e-7, "--std"),
        (0.5, math.nan, "--std"),
        (0.5, math.inf, "--std"),
        (0.5, -1e9, "--std"),
    ],
)
def test_pixels_cannot_be_scaled_by_these(
    mean: float | None, std: float | None, named: str
) -> None:
    with pytest.raises(UsageError) as caught:
        Job(["x"], mean=mean, std=std)
    assert named in caught.value.problem
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("given", "size"),
    [
        ("32", (32, 32)),
        (32, (32, 32)),
        (np.int64(32), (32, 32)),
        ("32x28", (32, 28)),
        ("32X28", (32, 28)),
        ([32, 28], (32, 28)),
        ((32,), (32, 32)),
        (1, (1, 1)),
        (1024, (1024, 1024)),
    ],
)
def test_size_is_a_side_or_a_height_and_a_width(given: object, size: tuple[int, int]) -> None:
    assert of(size=given).size == size


@pytest.mark.parametrize(
    "given",
    [
        *(0, -1, 1025, 28.0, True, (), (28, 28, 1), [28, None], {}, "", "x", "28x", "28x28x1"),
        *("28.0", "-28", "1" * 50, [[28]], 16**6000, math.nan, b"28"),
    ],
    ids=lambda given: repr(given)[:20] if given != 16**6000 else "many digits",
)
def test_what_is_no_size_is_refused(given: object) -> None:
    assert "is no size of 1 to 1024 pixels" in refusal(size=given).problem


@pytest.mark.parametrize(
    ("given", "numbers"),
    [
        (0.5, (0.5,)),
        ("0.5", (0.5,)),
        ([0.5], (0.5,)),
        ("0.5,0.25,1", (0.5, 0.25, 1.0)),
        ((0.5, "0.25", 1), (0.5, 0.25, 1.0)),
        (np.float32(0.5), (0.5,)),
    ],
)
def test_numbers_are_one_or_one_for_each_channel(given: object, numbers: tuple[float, ...]) -> None:
    found = of(mean=given, std=given)
    assert (found.mean, found.std) == (numbers, numbers)


@pytest.mark.parametrize(
    "given",
    ["", "a", "0.5,", "0.5;0.5", [None], [[0.5]], {}, b"", object(), 16**6000],
    ids=range(10),
)
@pytest.mark.parametrize("name", ["mean", "std"])
def test_what_is_no_number_is_refused(name: str, given: object) -> None:
    error = refusal(**({"mean": 0.5, "std": 0.5} | {name: given}))
    assert error.problem.startswith(f"--{name} ")


@pytest.mark.parametrize("given", [[], [0.5, 0.5], [0.5] * 4])
def test_numbers_for_no_such_channels_are_refused(given: list[float]) -> None:
    assert refusal(mean=given, std=1).problem == f"--mean has {len(given)} numbers"


@pytest.mark.parametrize("given", [True, [False], math.nan, -math.inf])
def test_what_counts_for_python_as_a_number_is_no_mean(given: object) -> None:
    assert "is no mean of pixels" in refusal(mean=given, std=1).problem


@pytest.mark.parametrize("name", ["mean", "std"])
def test_three_numbers_are_for_three_channels(name: str) -> None:
    given = {"mean": (0.0,), "std": (1.0,)} | {name: (0.5, 0.4, 0.3)}
    assert f"--{name} has 3 numbers for 1 channel" in refusal(channels=1, **given).problem
    assert getattr(of(channels=3, **given), name) == (0.5, 0.4, 0.3)
    assert getattr(of(**given), name) == (0.5, 0.4, 0.3)


def test_images_without_channels_have_one() -> None:
    assert of(layout="nhw", channels=1).layout == "nhw"
    for three in ({"channels": 3}, {"mean": [0.5] * 3, "std": 1}, {"mean": 0.5, "std": [1] * 3}):
        assert "--layout nhw has no place for 3 channels" in refusal(layout="nhw", **three).problem


@pytest.mark.parametrize(
    "given", [0, 2, 4, True, 1.0, "three", "", None.__class__, 16**6000], ids=range(9)
)
def test_channels_are_one_or_three(given: object) -> None:
    assert "is no number of channels" in refusal(channels=given).problem
    assert (of(channels="3").channels, of(channels=1).channels) == (3, 1)


@pytest.mark.parametrize("name", ["range", "expects", "layout", "place", "scores"])
@pytest.mark.parametrize("given", ["", "NCHW", 5, ["0-1"], {}, 16**6000], ids=range(6))
def test_word_of_another_kind_is_refused_with_those_that_there_are(
    name: str, given: object
) -> None:
    error = refusal(**{name: given})
    assert error.problem.startswith(f"--{name} ")
    assert SAID[name] in error.remedy


@pytest.mark.parametrize("given", ["yes", "true", 1, 0, []])
def test_what_is_not_true_or_false_is_neither(given: object) -> None:
    assert "is not true or false" in refusal(transpose=given).problem


def test_what_is_not_given_is_not_said() -> None:
    assert of(**dict.fromkeys(SAID)).given() == {}
    assert of(**SAID) == EVERYTHING
    assert EVERYTHING.given() == SAID
    assert list(GIVEN_AS) == list(SAID)


def test_what_is_given_first_counts_and_the_rest_is_filled_in() -> None:
    one, other = of(size=32, transpose=False), of(size=28, transpose=True, channels=3)
    assert one.over(other) == of(size=32, transpose=False, channels=3)
    assert Declaration().over(EVERYTHING) == EVERYTHING.over(Declaration()) == EVERYTHING


@pytest.mark.parametrize(
    ("upper", "lower", "expected"),
    [
        ({"mean": 0.5, "std": 0.5}, {"range": "0-255"}, {"mean": 0.5, "std": 0.5}),
        (
            {"mean": 0.5, "std": 0.5},
            {"range": "0-255", "mean": 33, "std": 78},
            {"mean": 0.5, "std": 0.5},
        ),
        ({"range": "0-255"}, {"mean": 0.5, "std": 0.5}, {"range": "0-255"}),
        ({"range": "0-1"}, {"range": "0-255", "mean": 33, "std": 78}, {"range": "0-1"}),
        (
            {"range": "0-1"},
            {"mean": 0.5, "std": 0.5},
            {"range": "0-1", "mean": 0.5, "std": 0.5},
        ),
        (
            {"size": 32},
            {"range": "0-255", "mean": 33, "std": 78},
            {"size": 32, "range": "0-255", "mean": 33, "std": 78},
        ),
    ],
)
def test_numbers_stay_with_their_range(
    upper: dict[str, Any], lower: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert of(**upper).over(of(**lower)) == of(**expected)


NUMBERS = [
    {"range": "0-1", "mean": 0, "std": 1},
    {"range": "0-1", "mean": 0.5, "std": 0.5},
    {"range": "0-255", "mean": 0, "std": 1},
    {"range": "0-255", "mean": 0.5, "std": 0.5},
    {"range": "0-255", "mean": 33, "std": 78},
]


@pytest.mark.parametrize("lower", NUMBERS)
@pytest.mark.parametrize("upper", NUMBERS)
def test_difference_over_the_other_is_the_same_again(
    upper: dict[str, Any], lower: dict[str, Any]
) -> None:
    one, other = of(**upper), of(**lower)
    found = InputSpec.declared(one.without(other).over(other))
    assert found == InputSpec.declared(one)


@pytest.mark.parametrize("name", SAID)
def test_what_another_declaration_says_too_is_left_out(name: str) -> None:
    assert EVERYTHING.without(EVERYTHING) == Declaration()
    assert EVERYTHING.without(Declaration()) == EVERYTHING
    said = {name: SAID[name]}
    if name in ("range", "mean", "std"):  # which go together
        said = {key: SAID[key] for key in ("range", "mean", "std")}
    others = {key: value for key, value in SAID.items() if key != name}
    assert EVERYTHING.without(Declaration(**others)) == Declaration(**said)


def test_one_number_for_all_channels_says_what_one_for_each_says() -> None:
    one, each = of(mean=0.5, std=0.25), of(mean=[0.5] * 3, std=[0.25] * 3)
    assert one.without(each) == each.without(one) == Declaration()
    assert one.without(of(mean=[0.5, 0.5, 0.4], std=0.25)) == one


def test_options_are_those_that_a_person_would_write() -> None:
    assert EVERYTHING.flags() == (
        "--input-size 32x28 --channels 3 --range 0-255 --mean 0.5,0.4,0.3 --std 0.2,0.25,-0.3 "
        "--expects dark-on-light --layout nhwc --transpose --place pad --scores log-probabilities"
    )
    assert of(size=32, transpose=False).flags() == "--input-size 32"
    assert flags(0.1307, 0.3081) == "--mean 0.1307 --std 0.3081"


def test_words_of_options_declare_the_same_again() -> None:
    words = EVERYTHING.words()
    assert words == shlex.split(EVERYTHING.flags())
    words[words.index("--transpose") : words.index("--transpose") + 1] = ["--transpose", ""]
    by_option = dict(zip(words[::2], words[1::2], strict=True))
    given = {name: by_option[one] or True for name, one in GIVEN_AS.items()}
    assert of(**given) == EVERYTHING


def test_job_declares_what_its_fields_say() -> None:
    fields = declaring(EVERYTHING)
    assert fields.pop("input_size") == (32, 28)
    assert fields == {name: value for name, value in SAID.items() if name != "size"}
    assert Job(["x"], **declaring(EVERYTHING)).declaration == EVERYTHING
    assert DECLARED.keys() == GIVEN_AS.keys()


def test_messages_name_things_as_the_place_does_where_they_were_said() -> None:
    with pytest.raises(UsageError, match="^input.size 'big' is no size"):
        Declaration.of({"size": "big"}, "input.{}".format)
