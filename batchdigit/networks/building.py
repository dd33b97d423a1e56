"""Making the user's network: his class is called, and what that changes in PyTorch is undone."""

from __future__ import annotations

import contextlib
import inspect
import json
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from batchdigit.errors import CheckpointError
from batchdigit.networks.downloads import nothing_downloaded
from batchdigit.networks.explaining import UserCode, described

Arguments = Mapping[str, Any] | Sequence[Any] | None


def build(maker: Callable[..., Any], name: str, arguments: Arguments, code: UserCode) -> Any:
    """The network that ``maker`` returns: on the CPU, in float32, in eval(), without gradients.

    ``name`` is what messages call the maker (``Net of net.py``). Raises CheckpointError.
    """
    import torch
    from torch.nn.parameter import is_lazy

    positional, named = _split(arguments)
    _check(maker, name, positional, named)
    try:
        with torch.no_grad(), nothing_downloaded():
            module = maker(*positional, **named)
            if isinstance(module, torch.nn.Module):
                module = module.cpu().float().eval()
                for parameter in module.parameters():
                    if not is_lazy(parameter):  # those of nn.LazyLinear get their shape later
                        parameter.requires_grad_(False)
                return module
    except (Exception, SystemExit) as error:  # the code of others
        raise failed(error, name, code) from error
    kind = type(module).__name__
    raise CheckpointError(
        f"{name} gives an object of type {kind}, which is no torch.nn.Module",
        "name a class that derives from torch.nn.Module, or a function that returns one",
    )


def failed(error: BaseException, name: str, code: UserCode) -> CheckpointError:
    """What ``error``, which came from the user's code, is for this program."""
    known = code.explain(error)
    if known is None:
        return CheckpointError(f"{name} raises {described(error)}", "see that Python can run it")
    return CheckpointError(known.problem, known.remedy)


def _split(arguments: Arguments) -> tuple[Sequence[Any], Mapping[str, Any]]:
    if arguments is None:
        return (), {}
    return ((), arguments) if isinstance(arguments, Mapping) else (arguments, {})


def _check(
    maker: Callable[..., Any], name: str, positional: Sequence[Any], named: Mapping[str, Any]
) -> None:
    """Raise CheckpointError if ``maker`` does not take these arguments."""
    try:
        signature = inspect.signature(maker)
    except (ValueError, TypeError):  # some that are written in C tell nothing
        return
    try:
        signature.bind(*positional, **named)
    except TypeError as error:
        shown = f"{name.partition(' ')[0]}{_plain(signature)}"
        if positional or named:
            raise CheckpointError(
                f"{name} does not take the arguments given: {error}; it is {shown}",
                "correct --network-args",
            ) from error
        needed = [one for one in signature.parameters.values() if _is_needed(one)]
        example = json.dumps({one.name: "..." for one in needed}).replace('"..."', "...")
        if any(one.kind is one.POSITIONAL_ONLY for one in needed):
            example = "[" + ", ".join("..." for _ in needed) + "]"
        raise CheckpointError(
            f"{name} needs arguments: {shown}", f"give --network-args '{example}'"
        ) from error


def _plain(signature: inspect.Signature) -> inspect.Signature:
    """The signature without the types of its parameters."""
    return signature.replace(
        parameters=[
            one.replace(annotation=inspect.Parameter.empty) for one in signature.parameters.values()
        ],
        return_annotation=inspect.Signature.empty,
    )


def _is_needed(parameter: inspect.Parameter) -> bool:
    variable = (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    return parameter.default is parameter.empty and parameter.kind not in variable


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Run code of the user's in the block.

    What it prints goes to standard error. Afterwards, the settings of PyTorch that it may have
    changed, and the states of random generators, are what they were before.
    """
    import numpy as np
    import torch

    states = random.getstate(), np.random.get_state()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    settings = [(read, write, read()) for read, write in _settings()]
    with (
        contextlib.redirect_stdout(sys.stderr),
        torch.random.fork_rng(devices),
        torch.set_grad_enabled(torch.is_grad_enabled()),
    ):
        try:
            if _default_device() is not None:
                torch.set_default_device("cpu")
            yield
        finally:
            for read, write, before in settings:
                if read() != before:
                    write(before)
            random.setstate(states[0])
            np.random.set_state(states[1])


def _settings() -> list[tuple[Callable[[], Any], Callable[[Any], Any]]]:
    """How to read and how to write each setting of the whole process that is put back."""
    import torch

    def deterministic() -> tuple[bool, bool]:
        enabled = torch.are_deterministic_algorithms_enabled()
        return enabled, torch.is_deterministic_algorithms_warn_only_enabled()

    cudnn = torch.backends.cudnn
    return [
        (_default_device, torch.set_default_device),
        (torch.get_default_dtype, torch.set_default_dtype),
        (torch.get_num_threads, torch.set_num_threads),
        (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
        (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
        (
            deterministic,
            lambda value: torch.use_deterministic_algorithms(value[0], warn_only=value[1]),
        ),
        *(
            (
                lambda name=name: getattr(cudnn, name),
                lambda value, name=name: setattr(cudnn, name, value),
            )
            for name in ("benchmark", "deterministic", "enabled")
        ),
    ]


def _default_device() -> Any:
    """The device that torch.set_default_device was given; None if it was not called."""
    import torch

    # torch.get_default_device makes a tensor to tell, and does not tell "cpu" from none.
    context = getattr(getattr(torch, "_GLOBAL_DEVICE_CONTEXT", None), "device_context", None)
    return None if context is None else context.device
