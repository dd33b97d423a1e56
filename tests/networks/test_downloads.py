"""A class that would download weights is made without them."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from batchdigit.networks.downloads import nothing_downloaded
from batchdigit.networks.load import load_network
from batchdigit.networks.naming import NetworkName

PRETRAINED = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(784, 10)
        state = torch.hub.load_state_dict_from_url("http://203.0.113.1/weights.pth")
        self.body.load_state_dict(state)

    def forward(self, x):
        return self.body(x.flatten(1))
"""


def test_weights_that_the_file_replaces_are_not_fetched(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(PRETRAINED)
    network = load_network(NetworkName.parse(f"{tmp_path / 'net.py'}:Net"), None)
    assert network.module(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


def test_other_state_dicts_are_loaded_all_the_same() -> None:
    weight = torch.ones(1, 1)
    layer = torch.nn.Linear(1, 1, bias=False)
    with nothing_downloaded():
        layer.load_state_dict({"weight": weight})
    assert torch.equal(layer.weight, weight)


def test_everything_is_as_it_was_afterwards() -> None:
    before = torch.hub.load_state_dict_from_url, torch.nn.Module.load_state_dict
    with pytest.raises(ZeroDivisionError), nothing_downloaded():
        raise ZeroDivisionError
    assert (torch.hub.load_state_dict_from_url, torch.nn.Module.load_state_dict) == before


@pytest.mark.parametrize("first", ["import torchvision", "pass"])
def test_torchvision_fetches_nothing_while_a_network_is_made(first: str, tmp_path: Path) -> None:
    """Whether it was imported before or is imported meanwhile."""
    pytest.importorskip("torchvision")
    code = f"""
import socket
{first}
from batchdigit.networks.downloads import nothing_downloaded
class Connected(Exception): pass
def connect(*arguments): raise Connected
socket.create_connection = connect
with nothing_downloaded():
    from torchvision.models import resnet18
    resnet18(weights="IMAGENET1K_V1")
try:
    import torch.hub
    torch.hub.load_state_dict_from_url("http://203.0.113.1/x.pth", model_dir="{tmp_path}")
except Connected:
    print("fetches again")
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.endswith("fetches again\n")
