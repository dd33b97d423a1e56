"""A program is refused, and the refusal says which network it holds and how to write it as ONNX."""

import json
import warnings
import zipfile
from pathlib import Path

import onnxruntime
import pytest
import torch

import batchdigit
from batchdigit import CheckpointError
from batchdigit.modelfiles.file import ModelFile, read_model_file
from batchdigit.models.programs import scanned
from batchdigit.models.wanted import THE_CNN, Wanted


class Small(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden = torch.nn.Linear(784, 20)
        self.out = torch.nn.Linear(20, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(torch.relu(self.hidden(x.flatten(1))))


OWN = Wanted(
    "the network net.py:Small",
    {name: tuple(value.shape) for name, value in Small().state_dict().items()},
)


def traced(model: torch.nn.Module, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        torch.jit.trace(model.eval(), torch.zeros(2, 1, 28, 28)).save(str(path))  # type: ignore[no-untyped-call]
    return path


def exported(model: torch.nn.Module, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(model.eval(), (torch.zeros(2, 1, 28, 28),)), path)
    return path


def refusal(path: Path, wanted: Wanted = THE_CNN) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        scanned(read_model_file(path), wanted)
    return caught.value


@pytest.mark.parametrize(("save", "kind"), [(traced, "TorchScript"), (exported, "torch.export")])
def test_refusal_says_whether_it_is_this_network(save, kind: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    ours, other = save(batchdigit.CNN(), tmp_path / "a.pt"), save(Small(), tmp_path / "b.pt")
    assert f"is a {kind} program of the CNN, which is code" in refusal(ours).problem
    assert f"is a {kind} program of another network (hidden Linear 784→20" in refusal(other).problem
    assert f"program of {OWN.title}" in refusal(other, OWN).problem
    assert "of another network (layer1.0 Conv2d" in refusal(ours, OWN).problem


def test_lines_that_help_write_it_as_onnx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Small()
    path = traced(model, tmp_path / "model.pt")
    _, _, lines = refusal(path).remedy.partition(": ")
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(lines, {"torch": torch})  # noqa: S102  (what a user would paste)
    images = torch.rand(5, 1, 28, 28)
    session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
    (scores,) = session.run(None, {"images": images.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(scores), model(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("damage", [b"", b"\x80\x02", b"not a pickle", b'{"config": 3}'])
def test_program_whose_weights_cannot_be_read_is_refused_as_one(
    damage: bytes, tmp_path: Path
) -> None:
    for name in ("data.pkl", "data/weights/model_weights_config.json"):
        path = tmp_path / "model.pt"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x/archive_format" if "json" in name else "x/constants.pkl", b"")
            archive.writestr(f"x/{name}", damage)
        assert "program, which is code" in refusal(path).problem


def test_endless_list_of_weights_is_not_read(tmp_path: Path) -> None:
    entry = {"tensor_meta": {"sizes": [{"as_int": 1}]}}
    path = tmp_path / "model.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/archive_format", b"")
        listed = {f"layer{number}.weight": entry for number in range(2_000)}
        name = "x/data/weights/model_weights_config.json"
        archive.writestr(name, json.dumps({"config": listed}))
    assert "is a torch.export program, which is code" in refusal(path).problem


def test_list_of_weights_that_is_long_is_not_read(tmp_path: Path) -> None:
    entry = {"tensor_meta": {"sizes": [{"as_int": 1}]}, "more": "x" * (4 << 20)}
    path = tmp_path / "model.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/archive_format", b"")
        name = "x/data/weights/model_weights_config.json"
        archive.writestr(name, json.dumps({"config": {"a.weight": entry}}))
    assert "is a torch.export program, which is code" in refusal(path).problem


def test_other_files_are_scanned(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save(Small().state_dict(), path)
    assert list(scanned(ModelFile(path, path.read_bytes()), OWN).root) == list(OWN.shapes)
