"""Another network in a line."""

import pytest
from torch import nn

from batchdigit.errors import one_line
from batchdigit.modelfiles.tensors import StoredTensor
from batchdigit.models.architecture import MAX_LAYERS, MAX_NAME, layers_in_a_line


def declared(model: nn.Module) -> dict[str, StoredTensor]:
    return {
        name: StoredTensor("float32", tuple(tensor.shape))
        for name, tensor in model.state_dict().items()
    }


def test_layers_are_told_by_names_and_shapes() -> None:
    model = nn.ModuleDict(
        {
            "conv1": nn.Conv2d(1, 32, 3),
            "bn1": nn.BatchNorm2d(32),
            "norm": nn.LayerNorm(32),
            "features": nn.Sequential(nn.Conv2d(32, 64, (3, 5)), nn.ReLU(), nn.Conv1d(1, 2, 7)),
            "fc1": nn.Linear(9216, 128),
            "rnn": nn.LSTM(3, 4),
        }
    )
    assert layers_in_a_line(declared(model)) == (
        "conv1 Conv2d 1→32 3×3, bn1 BatchNorm 32, norm Norm 32, features.0 Conv2d 32→64 3×5, "
        "features.2 Conv1d 1→2 7, fc1 Linear 9216→128, rnn 4 tensors"
    )


@pytest.mark.parametrize(
    ("state", "line"),
    [
        ({}, ""),
        ({"weight": (2, 3)}, "Linear 3→2"),
        ({"a.weight": ()}, "a weight of 0 dimensions"),
        ({"a.weight": (1,) * 8}, "a weight of 8 dimensions"),
        ({"token": (1, 2)}, "1 tensor"),
    ],
)
def test_odd_states_have_a_line(state: dict[str, tuple[int, ...]], line: str) -> None:
    tensors = {name: StoredTensor("float32", shape) for name, shape in state.items()}
    assert layers_in_a_line(tensors) == line


def test_line_is_short_whatever_the_file_holds() -> None:
    shape = ((1 << 63) - 1,) * 5
    state = {f"{n}{'x' * 900}\n\x1b.weight": StoredTensor("float32", shape) for n in range(1_000)}
    line = layers_in_a_line(state)
    assert line.endswith(f" and {1_000 - MAX_LAYERS} more")
    assert len(line) < MAX_LAYERS * (MAX_NAME + 8 + 5 * 20 + 10)
    assert line == one_line(line, 10_000)
