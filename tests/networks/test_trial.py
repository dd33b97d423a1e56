"""The trial of a network before it reads images: undisturbed, and part of what identifies it."""

from pathlib import Path

import pytest
import torch

from batchdigit import Job
from batchdigit.backends.own_model import OwnModel, own_model, wanted_by
from batchdigit.modelfiles.file import read_model_file
from tests.networks.conftest import Write
from tests.support.own_models import saved_weights

NET = """
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(784, 10)
    def forward(self, x):
        import late
        print("computing")
        torch.set_default_dtype(torch.float64)
        torch.set_float32_matmul_precision("medium")
        return self.fc(x.flatten(1))
"""


def made(folder: Path) -> OwnModel:
    path = saved_weights(folder)
    return own_model(read_model_file(path), Job(["x"], model=path, network="net.py:Net"))


def test_what_forward_imports_in_the_trial_tells_the_code_from_other_code(
    write: Write, folder: Path
) -> None:
    write("net.py", NET)
    write("late.py", "x = 1")
    first = made(folder).source
    assert made(folder).source == first
    write("late.py", "x = 2")
    assert made(folder).source != first


@pytest.mark.parametrize("layer", ["Linear(784, 10)", "LazyLinear(10)"])
def test_what_forward_prints_and_sets_in_the_trial_is_not_left(
    write: Write, folder: Path, capsys: pytest.CaptureFixture[str], layer: str
) -> None:
    write("late.py", "")
    write("net.py", NET.replace("Linear(784, 10)", layer))
    before = torch.get_default_dtype(), torch.get_float32_matmul_precision()
    if layer.startswith("Lazy"):
        assert wanted_by(Job(["x"], network="net.py:Net")).shapes["fc.weight"] == (10, 784)
    else:
        made(folder)
    assert (torch.get_default_dtype(), torch.get_float32_matmul_precision()) == before
    printed, told = capsys.readouterr()
    assert printed == ""
    assert "computing" in told
