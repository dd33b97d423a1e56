"""A network in a file of the user's own, in a script and in a notebook, and its weights."""

import json
from pathlib import Path

import torch

from tests.support.own_models import own

CODE = """\
import os
import sys

from torch import nn


class Net(nn.Module):
    def __init__(self, sign=1):
        super().__init__()
        self.fc = nn.Linear(784, 10)
        self.sign = sign

    def forward(self, x):
        return self.sign * self.fc(x.flatten(1))


class Backwards(Net):
    def forward(self, x):
        return super().forward(x).flip(1)


class Talkative(Net):
    def __init__(self):
        super().__init__()
        print("a print of __init__")

    def forward(self, x):
        print("a print of forward")
        sys.__stdout__.write("what was held\\\\n")
        os.write(1, b"what C code prints\\\\n")
        return super().forward(x)


def talkative():
    os.system("echo what another process prints")
    return Talkative()


class Letters(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(784, 26)

    def forward(self, x):
        return self.fc(x.flatten(1))


class Raises(Net):
    def forward(self, x):
        raise ValueError("out of order")
""".replace("\\\\n", "\\n")


def script(folder: Path, code: str = CODE) -> Path:
    """The code in ``net.py``, and its weights in ``net.pt`` beside it."""
    torch.save(own("Linear").state_dict(), folder / "net.pt")
    (folder / "net.py").write_text(code)
    return folder / "net.py"


def notebook(folder: Path, code: str = CODE) -> Path:
    """The same in ``net.ipynb``, between a text and a line that is none of Python's."""
    script(folder, code)
    cells = [
        {"cell_type": "markdown", "source": ["# My network"]},
        {"cell_type": "code", "source": ["%matplotlib inline\n"]},
        {"cell_type": "code", "source": code.splitlines(keepends=True)},
    ]
    (folder / "net.ipynb").write_text(json.dumps({"cells": cells, "nbformat": 4}))
    return folder / "net.ipynb"


def letters(folder: Path) -> Path:
    """Weights of the class Letters, beside the script."""
    script(folder)
    torch.manual_seed(0)
    torch.save(torch.nn.ModuleDict({"fc": torch.nn.Linear(784, 26)}).state_dict(), folder / "26.pt")
    return folder / "26.pt"
