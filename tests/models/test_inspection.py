import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from batchdigit import CNN, CheckpointError, inspect_model
from batchdigit.cli.lines import inspection_lines
from batchdigit.job import PACKAGED_WEIGHTS
from batchdigit.modelfiles.file import read_model_file
from batchdigit.models.inspection import inspect_file
from tests.support import oracle
from tests.support.modelfiles import saved, wanted_by
from tests.support.onnx_models import classifier, onnx_file
from tests.support.samples import Program

GOOD = CNN().state_dict()
PARAMETERS = sum(parameter.numel() for parameter in oracle.CNN().parameters())


def test_state_dict_is_described(tmp_path: Path) -> None:
    path = tmp_path / "CNN.pt"
    torch.save(GOOD, path)
    found = inspect_model(path)
    assert found.usable
    assert (found.kind, found.classes, found.finite) == ("state dict", 10, True)
    assert found.parameters == PARAMETERS
    assert found.size == path.stat().st_size
    assert {name: tensor.shape for name, tensor in found.tensors.items()} == {
        name: tuple(tensor.shape) for name, tensor in GOOD.items()
    }
    assert found.tensors["fc.4.bias"].dtype == "float32"
    assert set(found.globals.values()) == {"tensor data"}


@pytest.mark.parametrize("age", ["new", "old"])
def test_whole_model_is_described(tutorial_files: Path, age: str) -> None:
    found = inspect_model(tutorial_files / f"cpu-{age}-parallel-whole.pt")
    assert found.usable
    assert found.kind == "whole model __main__.CNN"
    assert found.parameters == PARAMETERS
    assert "module.fc.4.bias" in found.tensors
    assert found.globals["__main__.CNN"] == "model, read as data"
    assert found.globals["torch.nn.modules.conv.Conv2d"] == "layer, read as data"


def test_safetensors_are_described_with_their_metadata(tmp_path: Path) -> None:
    path = tmp_path / "CNN.safetensors"
    save_file({name: tensor.half() for name, tensor in GOOD.items()}, path, {"author": "me"})
    found = inspect_model(path)
    assert found.usable
    assert found.metadata == {"author": "me"}
    assert found.tensors["fc.4.bias"].dtype == "float16"


def test_every_tensor_of_a_checkpoint_is_listed(tmp_path: Path) -> None:
    model = oracle.CNN()
    optimizer = torch.optim.SGD(model.parameters(), momentum=0.9)
    model(torch.zeros(2, 1, 28, 28)).sum().backward()
    optimizer.step()
    path = tmp_path / "CNN.pt"
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, path)
    found = inspect_model(path)
    assert found.kind == "state dict under model"
    assert found.tensors["optimizer.state.0.momentum_buffer"].shape == (16, 1, 3, 3)


def test_weights_that_are_not_finite_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "CNN.pt"
    torch.save(GOOD | {"fc.4.bias": torch.full((10,), torch.nan)}, path)
    found = inspect_model(path)
    assert found.finite is False
    assert "not finite in fc.4.bias" in found.problem


def test_other_architecture_is_described_and_not_usable(tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    torch.save(torch.nn.Linear(3, 2).state_dict(), path)
    found = inspect_model(path)
    assert not found.usable
    assert found.finite is True
    assert found.tensors["weight"].shape == (2, 3)
    assert "holds another network than the CNN: Linear 3→2" in found.problem


def test_damaged_file_is_described_as_far_as_it_goes(tmp_path: Path) -> None:
    path = tmp_path / "CNN.pt"
    path.write_bytes(PACKAGED_WEIGHTS.read_bytes()[:-10])
    found = inspect_model(path)
    assert (found.format, found.usable) == ("PyTorch archive", False)
    assert "is damaged" in found.problem


def test_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="No such file"):
        inspect_model(tmp_path / "CNN.pt")


def test_text_shows_what_json_holds(program: Program) -> None:
    shown = program("model", "inspect", PACKAGED_WEIGHTS)
    printed = program("model", "inspect", PACKAGED_WEIGHTS, "--json")
    assert (shown.returncode, printed.returncode) == (0, 0)
    assert (shown.stderr, printed.stderr) == ("", "")
    found = json.loads(printed.stdout)
    assert found["sha256"] in shown.stdout
    assert found["usable"] is True
    assert found["parameters"] == PARAMETERS
    assert f"{PARAMETERS:,}" in shown.stdout
    for tensor in found["tensors"]:
        assert f"{tensor['name']} " in shown.stdout
        assert f"{tensor['dtype']}{tensor['shape']}" in shown.stdout
    for name in found["globals"]:
        assert name in shown.stdout


def test_file_that_a_run_refuses_ends_inspection_with_65(tmp_path: Path, program: Program) -> None:
    path = tmp_path / "whole.pt"
    torch.save(torch.nn.Sequential(torch.nn.LSTM(3, 3)), path)
    shown = program("model", "inspect", path)
    assert shown.returncode == 65
    assert shown.stderr == ""
    assert "no: the model" in shown.stdout
    assert "REFUSED" in shown.stdout
    assert json.loads(program("model", "inspect", path, "--json").stdout)["usable"] is False
    missing = program("model", "inspect", tmp_path / "none.pt")
    assert (missing.returncode, missing.stdout) == (65, "")
    assert len(missing.stderr.splitlines()) == 1


def test_names_in_a_file_cannot_command_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "CNN.pt"
    torch.save({"\x1b[2Jweight\n\x07": torch.zeros(1)}, path)
    text = "\n".join(inspection_lines(inspect_model(path)))
    assert "weight" in text
    assert all(line.isprintable() for line in text.split("\n"))


def test_own_network_is_inspected_as_a_run_would_take_it(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    content = {"model": {f"net.{name}": one for name, one in model.state_dict().items()}}
    file = read_model_file(saved(tmp_path / "net.pt", content))
    found = inspect_file(file, wanted=wanted_by(model))
    assert found.usable
    assert (found.kind, found.finite, found.classes) == ("state dict under model", True, None)
    assert found.parameters == sum(one.numel() for one in model.parameters())
    assert not inspect_file(file).usable
    other = inspect_file(file, wanted=wanted_by(torch.nn.Linear(4, 2)))
    assert "--network-args" in other.remedy


def test_class_of_a_whole_model_of_the_users_own_is_part_of_the_model(tmp_path: Path) -> None:
    model = oracle.CNN()
    model.extra = torch.nn.GELU()
    file = read_model_file(saved(tmp_path / "net.pt", model))
    found = inspect_file(file, wanted=wanted_by(model))
    assert found.usable
    assert found.unknown == ()
    assert found.globals["torch.nn.modules.activation.GELU"] == "part of the model, read as data"
    assert inspect_file(file).globals["torch.nn.modules.activation.GELU"] == ""


def test_onnx_file_is_described_by_its_inputs_and_outputs() -> None:
    found = inspect_file(onnx_file(classifier(("n", 1, 4, 4))))
    assert found.usable
    assert (found.inputs, found.outputs) == (("x float32[n, 1, 4, 4]",), ("y float32[n, 3]",))
    assert (found.classes, found.kind) == (3, "ONNX graph by other")
    assert found.operators == {"Cast": 1, "Flatten": 1, "MatMul": 1}
    assert found.metadata == {"opset ai.onnx": "17"}
    assert {name: tensor.shape for name, tensor in found.tensors.items()} == {"w": (16, 3)}
    assert "holds one model" in inspect_file(onnx_file(classifier()), key="model").problem
