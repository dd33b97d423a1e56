"""Weights that a class would download when it is made, although its weights come from a file.

``resnet18(pretrained=True)`` in a constructor fetches what the file of the model replaces anyway.
Here it is not fetched, and the network keeps its random weights until those of the file are loaded.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

_FETCHERS = ("torch.hub", "torchvision._internally_replaced_utils", "torchvision.models._api")
_FETCH = "load_state_dict_from_url"


class _NotFetched(dict[str, Any]):
    """A state dict that would have been downloaded."""


@contextlib.contextmanager
def nothing_downloaded() -> Iterator[None]:
    """Let torch.hub fetch no state dicts in the block; loading them there changes nothing."""
    import torch

    fetch, load = torch.hub.load_state_dict_from_url, torch.nn.Module.load_state_dict
    inside = True

    def fetch_nothing(*arguments: Any, **named: Any) -> Any:
        # A package that is imported in the block keeps this function afterwards.
        return _NotFetched() if inside else fetch(*arguments, **named)

    def load_what_is_there(self: Any, state_dict: Any, *arguments: Any, **named: Any) -> Any:
        if isinstance(state_dict, _NotFetched):
            return torch.nn.modules.module._IncompatibleKeys([], [])
        return load(self, state_dict, *arguments, **named)

    holders = [
        module
        for name in _FETCHERS
        if getattr(module := sys.modules.get(name), _FETCH, None) is fetch
    ]
    for module in holders:
        setattr(module, _FETCH, fetch_nothing)
    torch.nn.Module.load_state_dict = load_what_is_there  # type: ignore[method-assign]
    try:
        yield
    finally:
        inside = False
        torch.nn.Module.load_state_dict = load  # type: ignore[method-assign]
        for module in holders:
            setattr(module, _FETCH, fetch)
