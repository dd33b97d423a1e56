"""Networks of the user's own with weights that read digits, and the plain loop that runs them."""

from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision import transforms as tv

import batchdigit
from batchdigit import BatchdigitError, SourceError
from batchdigit.models.digits import packaged_digits
from tests.support import odd_networks
from tests.support.samples import SAMPLES

FILE = Path(odd_networks.__file__)
LIGHT = 1e-3  # of the regression, so that digits that it has not seen are read, too
SURE = 40.0  # a score of a digit that is one, where others have 0

Prepare = Callable[[Tensor], Tensor]


def network(name: str) -> str:
    """The value of ``--network`` for a class in odd_networks.py."""
    return f"{FILE}:{name}"


def as_it_is(pixels: Tensor) -> Tensor:
    return pixels


@cache
def _solved(prepare: Prepare) -> tuple[Tensor, Tensor]:
    """Weights and bias by least squares, for what ``prepare`` makes of pixels from 0 to 1."""
    images = torch.from_numpy(packaged_digits()).double() / 255
    inputs = prepare(images).flatten(1)
    scale = inputs.std()
    columns = torch.cat([inputs / scale, torch.ones(len(inputs), 1, dtype=torch.float64)], 1)
    wanted = SURE * torch.eye(10, dtype=torch.float64)[torch.arange(len(inputs)) % 10]
    gram = columns.T @ columns + LIGHT * len(inputs) * torch.eye(columns.shape[1])
    solution = torch.linalg.solve(gram, columns.T @ wanted)
    return (solution[:-1] / scale).T.float().contiguous(), solution[-1].float()


def reads_digits(module: nn.Module, prepare: Prepare = as_it_is) -> Any:
    """The same network, in eval(); its linear layer reads digits that ``prepare`` prepares."""
    weight, bias = _solved(prepare)
    state = {**module.state_dict(), "fc.weight": weight, "fc.bias": bias}
    module.load_state_dict(state)
    return module.eval()


def own(name: str, prepare: Prepare = as_it_is) -> Any:
    """A network of odd_networks.py that reads digits."""
    return reads_digits(getattr(odd_networks, name)(), prepare)


def saved_weights(folder: Path, module: nn.Module | None = None, name: str = "own.pt") -> Path:
    """The state dict of a network, by default that of Linear, in a file."""
    path = folder / name
    torch.save((module or own("Linear")).state_dict(), path)
    return path


def plain_loop(
    module: nn.Module,
    paths: Iterable[Path],
    transform: Callable[[Image.Image], Tensor] = tv.ToTensor(),  # noqa: B008
    scores: Callable[[Any], Tensor] = lambda output: output.softmax(1),
) -> np.ndarray:
    """Probabilities [N, K]: open, transform, forward, one image after another."""
    rows = []
    with torch.inference_mode():
        for path in paths:
            with Image.open(path) as image:
                rows.append(scores(module(transform(image).unsqueeze(0)))[0])
    return torch.stack(rows).numpy()


def probabilities(table: Any, classes: int = 10) -> np.ndarray:
    """The probabilities [N, K] in a DataFrame that was asked for them."""
    return table[[f"prob_{number}" for number in range(classes)]].to_numpy(np.float64)


def refused(model: Any, **options: Any) -> BatchdigitError:
    """Why nothing is predicted: an error in one line, before any image is looked for."""
    with pytest.raises(BatchdigitError) as caught:
        batchdigit.predict("no-such-folder", model, **options)
    assert len(str(caught.value).splitlines()) == 1
    assert caught.value.remedy
    assert not isinstance(caught.value, SourceError)
    return caught.value


def predicted(model: Any, source: Any = SAMPLES, **options: Any) -> Any:
    """A DataFrame with all probabilities of images that are read as they are."""
    usual = {"preprocess": "exact", "probs": True, "workers": 0, "device": "cpu"}
    return batchdigit.predict(source, model, **(usual | {"model_check": False} | options))
