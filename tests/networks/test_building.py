"""A network is made by calling its class, and PyTorch is afterwards as it was before."""

import contextlib
import random
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from batchdigit.errors import CheckpointError
from batchdigit.networks.building import build, failed, undisturbed
from batchdigit.networks.explaining import UserCode


class Net(nn.Module):
    def __init__(self, hidden: int, /, classes: int = 10, *, bias: "bool" = True) -> None:
        super().__init__()
        self.layer = nn.Linear(hidden, classes, bias, dtype=torch.float64)


class Named(nn.Module):
    def __init__(self, hidden: int, sizes: tuple[int, ...], *more: int, depth: int = 3) -> None:
        super().__init__()


def refusal(maker: Callable[..., Any], arguments: Any = None) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        build(maker, "Net of net.py", arguments, UserCode())
    return caught.value


def test_network_is_ready_to_compute() -> None:
    module = build(Net, "Net of net.py", [5], UserCode())
    parameters = list(module.parameters())
    assert {one.dtype for one in parameters} == {torch.float32}
    assert {one.device.type for one in parameters} == {"cpu"}
    assert not any(one.requires_grad for one in parameters)
    assert not any(part.training for part in module.modules())


@pytest.mark.parametrize(
    ("arguments", "shape"),
    [
        ([5], (10, 5)),
        ([5, 3], (3, 5)),
    ],
)
def test_arguments_by_order_reach_the_class(arguments: list[int], shape: tuple[int, int]) -> None:
    assert build(Net, "Net of net.py", arguments, UserCode()).layer.weight.shape == shape


def test_arguments_by_name_reach_the_class() -> None:
    module = build(nn.Linear, "L of n.py", {"in_features": 5, "out_features": 3}, UserCode())
    assert module.weight.shape == (3, 5)


@pytest.mark.parametrize("maker", [partial(Net, 5), lambda: Net(5)])
def test_functions_make_networks_too(maker: Callable[..., Any]) -> None:
    assert isinstance(build(maker, "make of net.py", None, UserCode()), Net)


def test_class_that_needs_arguments_shows_which() -> None:
    error = refusal(Named)
    assert error.problem == (
        "Net of net.py needs arguments: Net(hidden, sizes, *more, depth=3)"
    )  # by the name that it was given, and without types
    assert error.remedy == """give --network-args '{"hidden": ..., "sizes": ...}'"""


def test_class_that_needs_arguments_by_order_shows_that() -> None:
    error = refusal(Net)
    assert (
        error.problem == "Net of net.py needs arguments: Net(hidden, /, classes=10, *, bias=True)"
    )
    assert error.remedy == "give --network-args '[...]'"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"hiden": 5}, "hidden"),
        ([5, 10, 3], "too many positional arguments"),
        ({}, "needs arguments"),
        ([], "needs arguments"),
    ],
)
def test_arguments_that_it_does_not_take_are_refused(arguments: Any, says: str) -> None:
    error = refusal(Net, arguments)
    assert says in error.problem
    assert "Net(hidden, /, classes=10, *, bias=True)" in error.problem
    assert "--network-args" in error.remedy


@pytest.mark.parametrize(
    ("given", "kind"), [(None, "NoneType"), ((nn.Identity(), 1), "tuple"), (nn.Identity, "type")]
)
def test_what_is_no_module_is_refused(given: object, kind: str) -> None:
    assert (
        f"an object of type {kind}, which is no torch.nn.Module" in refusal(lambda: given).problem
    )


@pytest.mark.parametrize("error", [ValueError("no\nway"), SystemExit(3), MemoryError()])
def test_what_it_raises_is_one_line(error: BaseException) -> None:
    def maker() -> None:
        raise error

    assert type(error).__name__ in refusal(maker).problem
    assert "\n" not in str(refusal(maker))


def test_interruption_passes() -> None:
    def maker() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(maker, "Net of net.py", None, UserCode())


def test_layers_that_learn_their_shape_from_weights_are_taken() -> None:
    module = build(lambda: nn.LazyLinear(10), "Net of net.py", None, UserCode())
    module.load_state_dict(nn.Linear(4, 10).state_dict())
    assert module(torch.ones(2, 4)).shape == (2, 10)


def test_network_without_numbers_is_refused() -> None:
    """One that is made on the device "meta" has none."""
    assert "NotImplementedError" in refusal(lambda: nn.Linear(3, 4, device="meta")).problem


def test_error_of_other_code_names_the_network() -> None:
    assert failed(ValueError("x"), "Net of net.py", UserCode()).problem == (
        "Net of net.py raises ValueError: x"
    )


def test_what_is_printed_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    with undisturbed():
        sys.stdout.write("building")
    sys.stdout.write("a report")
    assert capsys.readouterr() == ("a report", "building")


@pytest.mark.parametrize("draw", [torch.rand, np.random.rand, lambda _: random.random()])  # noqa: S311
def test_random_numbers_are_those_of_a_run_without_a_network(
    draw: Callable[[int], Any],
) -> None:
    def seeded() -> Any:
        random.seed(5)
        np.random.seed(5)
        torch.manual_seed(5)

    seeded()
    expected = draw(1)
    seeded()
    with undisturbed():
        torch.manual_seed(0), np.random.seed(0), random.seed(0)
        draw(7)
    assert draw(1) == expected


CHANGES: list[tuple[Callable[[], Any], Callable[[], Any]]] = [
    (torch.get_default_dtype, lambda: torch.set_default_dtype(torch.float64)),
    (torch.get_num_threads, lambda: torch.set_num_threads(torch.get_num_threads() + 1)),
    (torch.is_grad_enabled, lambda: torch.set_grad_enabled(False)),
    (torch.get_default_device, lambda: torch.set_default_device("meta")),
    (
        torch.are_deterministic_algorithms_enabled,
        lambda: torch.use_deterministic_algorithms(True, warn_only=True),
    ),
    (
        torch.is_deterministic_algorithms_warn_only_enabled,
        lambda: torch.use_deterministic_algorithms(True, warn_only=True),
    ),
    (torch.get_float32_matmul_precision, lambda: torch.set_float32_matmul_precision("medium")),
    (torch.is_anomaly_enabled, lambda: torch.autograd.set_detect_anomaly(True)),
    (
        lambda: torch.backends.cudnn.benchmark,
        lambda: setattr(torch.backends.cudnn, "benchmark", True),
    ),
    (
        lambda: torch.backends.cudnn.deterministic,
        lambda: setattr(torch.backends.cudnn, "deterministic", True),
    ),
]


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize(("read", "change"), CHANGES)
def test_setting_is_what_it_was(
    read: Callable[[], Any], change: Callable[[], Any], fails: bool
) -> None:
    before = read()
    with (
        pytest.raises(ZeroDivisionError) if fails else contextlib.nullcontext(),
        undisturbed(),
    ):
        change()
        assert read() != before
        1 / int(not fails)
    assert read() == before


def test_network_is_made_on_the_cpu_whatever_the_default_is() -> None:
    torch.set_default_device("meta")
    try:
        with undisturbed():
            assert torch.empty(1).device.type == "cpu"
        assert torch.empty(1).device.type == "meta"
    finally:
        torch.set_default_device(None)
