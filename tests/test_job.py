import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batchdigit import Job, Tolerance, UsageError
from batchdigit.job import Computing, Reading, Reporting, Resuming
from batchdigit.training.job import TrainJob

SOURCE = (Path("images"),)


@pytest.mark.parametrize(
    "options",
    [
        {"source": ()},
        {"topk": 0},
        {"batch_size": 0},
        {"batch_size": 10**20},
        {"device": "tpu"},
        {"workers": -1},
        {"source": ("images", "")},
        {"precision": "fp8"},
        {"start_method": "thread"},
    ],
)
def test_senseless_option_is_an_error(options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        Job(**({"source": SOURCE} | options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "tolerance"),
    [
        (3, Tolerance(3)),
        ("3", Tolerance(3)),
        ("0.5%", Tolerance.parse("0.5%")),
        (Tolerance(4), Tolerance(4)),
    ],
)
def test_tolerance_may_be_given_as_a_number_or_text(given: Any, tolerance: Tolerance) -> None:
    assert Job("images", max_bad=given).max_bad == tolerance


@pytest.mark.parametrize("given", [-1, 0.5, None, "many"])
def test_senseless_tolerance_of_a_job_is_an_error(given: Any) -> None:
    with pytest.raises(UsageError, match="max-bad"):
        Job("images", max_bad=given)


def test_half_of_the_files_may_be_gone_unless_the_job_says_otherwise() -> None:
    assert Job("images", out=Path("a.csv"), update=True).max_gone == Tolerance.parse("50%")
    other: Any = 3
    assert Job("images", out=Path("a.csv"), update=True, max_gone=other).max_gone == Tolerance(3)
    assert Job("images").max_gone is None


@pytest.mark.parametrize("given", [-1, 0.5, "many"])
def test_senseless_number_of_files_that_may_be_gone_is_an_error(given: Any) -> None:
    with pytest.raises(UsageError, match="--max-gone"):
        Job("images", out=Path("a.csv"), update=True, max_gone=given)


def test_only_an_update_knows_which_files_are_gone() -> None:
    with pytest.raises(UsageError, match="add --update"):
        Job("images", max_gone=Tolerance(3))


def test_training_on_variants_takes_fitting() -> None:
    with pytest.raises(UsageError, match="--variants 0"):
        TrainJob(Path("data"), Path("CNN.pt"), preprocess="exact")
    TrainJob(Path("data"), Path("CNN.pt"), preprocess="exact", variants=0)


@pytest.mark.parametrize("source", ["images", Path("images"), ["images"], (Path("images"),)])
def test_sources_are_text_whatever_they_are_given_as(source: Any) -> None:
    assert Job(source).source == ("images",)


def test_address_keeps_its_slashes() -> None:
    assert Job("s3://bucket/images").source == ("s3://bucket/images",)  # type: ignore[arg-type]


def test_every_option_belongs_to_one_part() -> None:
    parts = [Reading, Computing, Reporting, Resuming]
    names = [option.name for part in parts for option in fields(part)]
    assert len(names) == len(set(names))
    assert {option.name for option in fields(Job)} == {"source", "out", *names}


def test_job_hands_its_parts_on() -> None:
    job = Job(("a",), follow_symlinks=True, max_pixels=7, topk=3)
    assert job.reading == Reading(follow_symlinks=True, max_pixels=7)
    assert type(job.reading) is Reading


@pytest.mark.parametrize("name", [field.name for field in fields(Job)])
def test_value_that_no_option_takes_is_refused_with_its_name(name: str) -> None:
    values: dict[str, Any] = {"source": SOURCE, "update": True, "out": "out.csv", name: object()}
    with pytest.raises(UsageError) as caught:
        Job(**values)
    assert re.sub("[- ]", "_", name) in re.sub("[- ]", "_", str(caught.value))
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("topk", "2"),
        ("topk", True),
        ("topk", None),
        ("batch_size", "x"),
        ("batch_size", 2.0),
        ("workers", 1.5),
        ("workers", "2"),
        ("probs", "yes"),
        ("probs", 1),
        ("review_below", "high"),
        ("review_below", True),
        ("timeout", None),
        ("timeout", "20"),
        ("timeout", 10**400),
        ("labels", 5),
        ("labels", [1, 2]),
        ("labels", "0123456789"),
        ("max_pixels", np.array([1, 2])),
        ("backend", None),
        ("device", 0),
        ("precision", b"fp32"),
        ("model", 5),
        ("source", 5),
        ("source", [5]),
        ("out", None),
        ("save_fitted", True),
        ("start_method", ["fork"]),
    ],
)
def test_value_of_another_type_is_wrong_usage(name: str, value: object) -> None:
    with pytest.raises(UsageError) as caught:
        Job(**({"source": SOURCE} | {name: value}))  # type: ignore[arg-type]
    assert caught.value.remedy


def test_numbers_of_numpy_and_any_kind_of_path_are_taken() -> None:
    job = Job(
        SOURCE, Path("out.csv"), topk=np.int64(2), probs=np.bool_(True), workers=np.uint8(1),
        timeout=np.float32(2), review_below=1, model=b"CNN.pt", device=np.str_("cpu"),
    )  # fmt: skip
    taken = (job.topk, job.probs, job.workers, job.timeout, job.review_below, job.device)
    assert taken == (2, True, 1, 2.0, 1.0, "cpu")
    assert list(map(type, taken)) == [int, bool, int, float, float, str]
    assert job.model == Path("CNN.pt")


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), 1e6])
def test_timeout_that_makes_no_sense_says_what_to_give_instead(seconds: float) -> None:
    with pytest.raises(UsageError, match=r"^--timeout .*; to wait longer .* try 86400"):
        Job("images", timeout=seconds)


class Network:
    """What tells a network in memory from a path."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def forward(self, x: Any) -> Any:
        return x


def test_network_in_memory_is_given_as_the_model() -> None:
    network: Any = Network()
    job = Job("images", model=network)
    assert (job.module, job.model) == (network, Path("Network"))
    assert not job.is_packaged_model
    assert Job("images").is_packaged_model


@pytest.mark.parametrize("model", [Network, object(), 3])
def test_what_is_no_network_and_no_path_is_refused(model: Any) -> None:
    with pytest.raises(UsageError):
        Job("images", model=model)


def test_class_instead_of_a_network_is_refused_with_what_to_give() -> None:
    model: Any = Network
    with pytest.raises(UsageError, match=r"no network in memory.*as Net\(\)"):
        Job("images", model=model)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"network_args": {"classes": 10}}, "--network-args has no effect without --network"),
        ({"model": Network(), "network": "net.py:Net"}, "needs no network"),
        ({"mean": 0.5}, "--mean and --std go together"),
        ({"std": 0.5}, "--mean and --std go together"),
        ({"channels": 1, "mean": (0.1, 0.2, 0.3), "std": 1}, "--mean has 3 numbers for 1 channel"),
        ({"input_size": 0}, "--input-size 0"),
        ({"input_size": "28x"}, "--input-size '28x'"),
        ({"channels": 2}, "--channels 2"),
        ({"layout": "chw"}, "--layout 'chw'"),
        ({"scores": "softmax"}, "--scores 'softmax'"),
        ({"transpose": "yes"}, "--transpose 'yes'"),
    ],
)
def test_declaration_that_makes_no_sense_is_an_error(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        Job("images", **options)


@pytest.mark.parametrize(
    ("options", "declared"),
    [
        ({}, {}),
        ({"input_size": "32x28"}, {"size": (32, 28)}),
        ({"input_size": np.int64(32)}, {"size": (32, 32)}),
        ({"mean": "0.5", "std": 0.25}, {"mean": (0.5,), "std": (0.25,)}),
        ({"mean": [1, 2, 3], "std": 1}, {"mean": (1.0, 2.0, 3.0), "std": (1.0,)}),
        ({"transpose": False}, {"transpose": False}),
    ],
)
def test_declaration_is_stored_in_one_form(
    options: dict[str, Any], declared: dict[str, Any]
) -> None:
    job = Job("images", **options)
    assert job.declaration.given() == declared
    assert job.is_packaged_model is (not declared)
