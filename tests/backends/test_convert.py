import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from batchdigit import (
    BatchdigitError,
    CheckpointError,
    Job,
    OutputError,
    UsageError,
    convert_model,
    load_checkpoint,
)
from batchdigit.backends import convert
from batchdigit.backends.opening import open_model_file
from batchdigit.job import PACKAGED_WEIGHTS
from batchdigit.models.digits import packaged_digits
from batchdigit.models.onnx_graph import onnx_model
from batchdigit.models.weights import Weights
from tests.support import odd_networks, oracle
from tests.support.modelfiles import trained_on
from tests.support.own_models import network, own, predicted, probabilities, saved_weights
from tests.support.samples import SAMPLES, Program

WEIGHTS = torch.load(PACKAGED_WEIGHTS, weights_only=True)


def equal(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    return list(ours) == list(theirs) and all(
        tensor.dtype == theirs[name].dtype and torch.equal(tensor, theirs[name])
        for name, tensor in ours.items()
    )


def test_there_and_back_again_the_tensors_are_identical(tmp_path: Path) -> None:
    first, second = tmp_path / "CNN.safetensors", tmp_path / "again.pt"
    convert_model(PACKAGED_WEIGHTS, first)
    convert_model(first, second)
    assert equal(torch.load(second, weights_only=True), WEIGHTS)
    with safe_open(first, "pt") as file:
        assert file.metadata() == {"format": "pt"}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
def test_precision_is_kept(tmp_path: Path, dtype: torch.dtype, suffix: str) -> None:
    state = {name: tensor.to(dtype) for name, tensor in WEIGHTS.items()}
    torch.save(state, tmp_path / "in.pt")
    convert_model(tmp_path / "in.pt", tmp_path / f"out{suffix}")
    convert_model(tmp_path / f"out{suffix}", tmp_path / "again.pt")
    assert equal(torch.load(tmp_path / "again.pt", weights_only=True), state)


@pytest.mark.parametrize("name", ["cpu-new-whole", "cpu-old-whole", "cuda-new-parallel-whole"])
def test_whole_model_becomes_a_plain_state_dict(
    tutorial_files: Path, tmp_path: Path, name: str
) -> None:
    target = tmp_path / "CNN.pt"
    done = convert_model(tutorial_files / f"{name}.pt", target)
    assert done.kind == "whole model __main__.CNN"
    assert equal(torch.load(target, weights_only=True), WEIGHTS)
    assert done.bytes == target.stat().st_size


def test_views_are_written_without_what_lies_beside_them(tmp_path: Path) -> None:
    wide = torch.zeros(2_000_000)
    torch.save(WEIGHTS | {"fc.4.bias": wide[:10], "fc.2.bias": wide[10:138]}, tmp_path / "in.pt")
    for name in ("out.pt", "out.safetensors"):
        convert_model(tmp_path / "in.pt", tmp_path / name)
        assert (tmp_path / name).stat().st_size < 10_000_000


def digits_1000() -> np.ndarray:
    """Real digits, each at ten positions; they are not those that the package carries."""
    with_borders = []
    for path in sorted(SAMPLES.glob("*.png")):
        with Image.open(path) as image:
            pixels = np.asarray(image)
        with_borders += [np.roll(pixels, (dy, dx), (0, 1)) for dy in range(-2, 3) for dx in (0, 1)]
    return np.stack(with_borders)[:, None]


@pytest.mark.parametrize("classes", [10, 36])
def test_onnx_agrees_with_the_tutorials_network_on_a_thousand_digits(
    tmp_path: Path, classes: int
) -> None:
    source, target = PACKAGED_WEIGHTS, tmp_path / "CNN.onnx"
    theirs = oracle.CNN()
    theirs.load_state_dict(WEIGHTS)
    if classes != 10:
        torch.manual_seed(0)
        theirs.fc[4] = torch.nn.Linear(128, classes)
        source = tmp_path / "CNN.pt"
        torch.save(theirs.state_dict(), source)
    theirs.eval()
    done = convert_model(source, target)
    assert "any batch size" in done.checked
    assert done.undeclared == ""

    images = digits_1000()
    assert len(images) == 1000
    with torch.no_grad():
        expected = theirs(torch.from_numpy(images).float() / 255).softmax(1).numpy()
    session = onnxruntime.InferenceSession(target, providers=["CPUExecutionProvider"])
    for part in (slice(0, 1), slice(1, 8), slice(8, 1000)):
        (logits,) = session.run(["logits"], {"images": images[part]})
        probs = torch.from_numpy(logits).softmax(1).numpy()
        assert np.abs(probs - expected[part]).max() < 1e-5
        assert (probs.argmax(1) == expected[part].argmax(1)).all()


def test_onnx_says_what_it_is(tmp_path: Path) -> None:
    target = tmp_path / "CNN.onnx"
    convert_model(PACKAGED_WEIGHTS, target)
    model = onnx.load(target)
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 18)]
    assert not model.metadata_props
    (images,) = model.graph.input
    assert (images.name, images.type.tensor_type.elem_type) == ("images", onnx.TensorProto.UINT8)
    assert [size.dim_value for size in images.type.tensor_type.shape.dim][1:] == [1, 28, 28]
    assert images.type.tensor_type.shape.dim[0].dim_param == "batch"
    assert os.fspath(tmp_path) not in str(target.read_bytes())


def test_onnx_that_disagrees_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other_model(weights: Weights) -> bytes:
        other = {name: array * 1.001 for name, array in weights.stored.items()}
        return onnx_model(replace(weights, stored=other))

    monkeypatch.setattr(convert, "onnx_model", other_model)
    target = tmp_path / "CNN.onnx"
    with pytest.raises(BatchdigitError, match="would differ"):
        convert_model(PACKAGED_WEIGHTS, target)
    assert list(tmp_path.iterdir()) == []


# What is refused, and what the program says


@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".onnx"])
def test_existing_file_is_replaced_only_by_force(tmp_path: Path, suffix: str) -> None:
    target = tmp_path / f"CNN{suffix}"
    target.write_text("mine")
    with pytest.raises(OutputError, match="exists already.*--force"):
        convert_model(PACKAGED_WEIGHTS, target)
    assert target.read_text() == "mine"
    convert_model(PACKAGED_WEIGHTS, target, force=True)
    assert target.stat().st_size > 9_000_000
    assert [path.name for path in tmp_path.iterdir()] == [target.name]


def test_model_can_be_converted_in_its_place(tutorial_files: Path, tmp_path: Path) -> None:
    path = tmp_path / "CNN.pt"
    path.write_bytes((tutorial_files / "cpu-old-whole.pt").read_bytes())
    convert_model(path, path, force=True)
    assert equal(torch.load(path, weights_only=True), WEIGHTS)


@pytest.mark.parametrize("name", ["CNN", "CNN.bin", "CNN.pt.gz"])
def test_unknown_extension_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=".pt, .pth, .safetensors, .onnx"):
        convert_model(PACKAGED_WEIGHTS, tmp_path / name)


def test_source_that_cannot_be_used_leaves_nothing_behind(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "in.pt")
    with pytest.raises(CheckpointError):
        convert_model(tmp_path / "in.pt", tmp_path / "out.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["in.pt"]


def test_program_converts_and_says_how_it_checked(program: Program, tutorial_files: Path) -> None:
    source = tutorial_files / "cpu-new-whole.pt"
    done = program("model", "convert", source, "CNN.safetensors")
    assert (done.returncode, done.stdout) == (0, "")
    assert "34 tensors, read again and equal" in done.stderr
    again = program("model", "convert", source, "CNN.safetensors")
    assert again.returncode == 73
    assert len(again.stderr.splitlines()) == 1
    quiet = program("model", "convert", source, "CNN.safetensors", "--force", "--quiet")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")


def test_program_says_no_more_than_that_of_an_onnx_model(program: Program) -> None:
    done = program("model", "convert", PACKAGED_WEIGHTS, "CNN.onnx")
    assert (done.returncode, done.stdout) == (0, "")
    assert len(done.stderr.splitlines()) == 2


@pytest.mark.parametrize(
    ("missing", "target"), [("onnxruntime", "CNN.onnx"), ("safetensors", "CNN.safetensors")]
)
def test_missing_package_is_an_error_with_a_remedy(
    tmp_path: Path, program: Program, missing: str, target: str
) -> None:
    (tmp_path / f"{missing}.py").write_text("raise ImportError")
    environment = os.environ | {"PYTHONPATH": os.fspath(tmp_path)}
    done = program("model", "convert", PACKAGED_WEIGHTS, target, env=environment)
    assert done.returncode == 1
    assert "pip install" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / target).exists()


NORMALISED = ((0.1307, 0.3081), (0.0, 1 / 255), (1.0, -1.0))


@pytest.mark.parametrize(("mean", "std"), NORMALISED)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".onnx"])
def test_mean_and_deviation_become_part_of_the_weights(
    tmp_path: Path, suffix: str, mean: float, std: float
) -> None:
    torch.save(trained_on(mean, std), tmp_path / "in.pt")
    target = tmp_path / f"out{suffix}"
    done = convert_model(tmp_path / "in.pt", target, mean=mean, std=std)
    assert ("in the first convolution" in done.checked) == (suffix != ".onnx")
    assert done.undeclared == ""
    digits = packaged_digits()[:100]
    pixels = torch.from_numpy(digits).float() / 255
    network = oracle.CNN()
    network.load_state_dict(WEIGHTS)
    with torch.inference_mode():
        expected = network.eval()(pixels).softmax(dim=1).numpy()  # of the weights before all this
    if suffix == ".onnx":
        (logits,) = onnxruntime.InferenceSession(target).run(None, {"images": digits})
        found = torch.from_numpy(logits)
    else:
        with torch.inference_mode():
            found = load_checkpoint(target).model(pixels)
    np.testing.assert_allclose(found.softmax(dim=1).numpy(), expected, atol=1e-5)


def test_what_half_precision_cannot_hold_is_written_in_single(tmp_path: Path) -> None:
    state = {name: tensor.half() for name, tensor in trained_on(0.0, 1 / 255).items()}
    torch.save(state, tmp_path / "in.pt")
    convert_model(tmp_path / "in.pt", tmp_path / "out.pt", mean=0.0, std=1 / 255)
    written = torch.load(tmp_path / "out.pt", weights_only=True)
    single = {name for name, tensor in written.items() if tensor.dtype == torch.float32}
    assert single == {"layer1.0.weight", "layer1.0.bias"}


def test_weights_that_overflow_with_a_deviation_are_refused(tmp_path: Path) -> None:
    state = dict(WEIGHTS)
    state["layer1.0.weight"] = torch.full_like(state["layer1.0.weight"], 1e36)
    state["layer1.1.weight"] = torch.full_like(state["layer1.1.weight"], 1e-30)
    torch.save(state, tmp_path / "in.pt")
    convert_model(tmp_path / "in.pt", tmp_path / "as-it-is.pt")
    with pytest.raises(CheckpointError, match="not finite"):
        convert_model(tmp_path / "in.pt", tmp_path / "out.pt", mean=0.0, std=1e-5)
    assert not (tmp_path / "out.pt").exists()


# Networks of the user's own


DECLARED: dict[str, tuple[str, dict[str, Any]]] = {
    "as it is": ("Linear", {}),
    "size": ("Side32", {"input_size": 32}),
    "margin": ("Side32", {"input_size": 32, "place": "pad"}),
    "colour": ("Colour", {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4)}),
    "channels last": ("ChannelsLast", {"layout": "nhwc"}),
    "flat": ("Rows", {"layout": "flat"}),
    "rows": ("Recurrent", {"layout": "nhw", "transpose": True}),
    "dark": ("Linear", {"expects": "dark-on-light", "mean": 0.1307, "std": 0.3081}),
    "bytes": ("Linear", {"range": "0-255", "mean": 33.3, "std": 78.6}),
    "nested": ("Within", {"transpose": True}),
    "probabilities": ("LogitsAndProbabilities", {}),
    "logarithms": ("LogSoftmaxAndFeatures", {}),
    "sigmoids": ("Sigmoid", {}),
}


@pytest.mark.parametrize("kind", DECLARED)
@pytest.mark.parametrize("suffix", [".onnx", ".safetensors"])
def test_own_network_that_was_converted_needs_no_declaration(
    tmp_path: Path, suffix: str, kind: str
) -> None:
    name, declared = DECLARED[kind]
    torch.manual_seed(1)
    module = getattr(odd_networks, name)()
    path, target = saved_weights(tmp_path, module), tmp_path / f"new{suffix}"
    named = {"network": network(name)}
    done = convert_model(path, target, **named, **declared)
    found = predicted(target, **({} if suffix == ".onnx" else named))
    expected = probabilities(predicted(path, **named, **declared))
    np.testing.assert_allclose(probabilities(found), expected, atol=1e-5)
    assert (done.classes, done.bytes) == (10, target.stat().st_size)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_state_dict_of_an_own_network_says_which_options_it_needs(
    tmp_path: Path, suffix: str
) -> None:
    module = own("Counts", prepare=lambda pixels: (pixels - 0.5) / 0.25)
    path, target = saved_weights(tmp_path, module), tmp_path / f"new{suffix}"
    options = {"network": network("Counts"), "mean": 0.5, "std": 0.25}
    done = convert_model(path, target, **options)
    assert "3 tensors, read again and equal" in done.checked
    assert done.undeclared == ("--mean 0.5 --std 0.25" if suffix == ".pt" else "")
    state = load_file(target) if suffix != ".pt" else torch.load(target, weights_only=True)
    assert {name: (tensor.dtype, tensor.tolist()) for name, tensor in state.items()} == {
        name: (tensor.dtype, tensor.tolist()) for name, tensor in module.state_dict().items()
    }


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_precision_of_an_own_network_is_kept(
    tmp_path: Path, suffix: str, dtype: torch.dtype
) -> None:
    state = {name: tensor.to(dtype) for name, tensor in own("Linear").state_dict().items()}
    torch.save(state, tmp_path / "in.pt")
    target = tmp_path / f"out{suffix}"
    convert_model(tmp_path / "in.pt", target, network=network("Linear"))
    found = load_file(target) if suffix != ".pt" else torch.load(target, weights_only=True)
    assert equal(dict(sorted(found.items())), dict(sorted(state.items())))


def test_onnx_of_others_gets_its_declaration_and_its_labels(tmp_path: Path) -> None:
    source, target = tmp_path / "in.onnx", tmp_path / "out.onnx"
    convert_model(saved_weights(tmp_path), source, network=network("Linear"))
    plain = onnx.load(source)
    plain.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    source.write_bytes(plain.SerializeToString())  # which scales its input by itself
    declared = {"range": "0-255", "labels": list("abcdefghij"), "expects": "dark-on-light"}
    convert_model(source, target, **declared)
    (entry,) = onnx.load(target).metadata_props
    assert json.loads(entry.value) == {"labels": list("abcdefghij")}
    table, expected = predicted(target, probs=False), predicted(source, probs=False, **declared)
    assert table["prediction"].tolist() == expected["prediction"].tolist()
    assert set(table["prediction"]) <= set("abcdefghij")


def test_onnx_becomes_nothing_but_onnx(tmp_path: Path) -> None:
    source = tmp_path / "in.onnx"
    convert_model(saved_weights(tmp_path), source, network=network("Linear"))
    with pytest.raises(UsageError, match="from which only ONNX can be written"):
        convert_model(source, tmp_path / "out.pt")
    assert not (tmp_path / "out.pt").exists()


def test_converter_does_not_run_what_cannot_be_used(tmp_path: Path) -> None:
    path = saved_weights(tmp_path, odd_networks.ForgetsThatItIsTrained())
    with pytest.raises(CheckpointError, match="answers differently each time"):
        convert_model(path, tmp_path / "x.onnx", network=network("ForgetsThatItIsTrained"))
    assert not (tmp_path / "x.onnx").exists()


@pytest.mark.parametrize("options", [{"mean": 0.5}, {"mean": 0.5, "std": 0.0}])
def test_a_mean_without_its_deviation_converts_nothing(
    tmp_path: Path, options: dict[str, float]
) -> None:
    with pytest.raises(UsageError, match="--std"):
        convert_model(PACKAGED_WEIGHTS, tmp_path / "out.pt", **options)
    assert not (tmp_path / "out.pt").exists()


# What is said beside the network


class Narrow(torch.nn.Module):
    """Its logits are from 0 to 1, as probabilities are."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = torch.nn.Linear(784, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x.flatten(1)).sigmoid()


def test_onnx_says_which_scores_it_gives_where_somebody_said_so(tmp_path: Path) -> None:
    path, target = saved_weights(tmp_path, Narrow()), tmp_path / "new.onnx"
    named: dict[str, Any] = {"network": f"{__file__}:Narrow", "scores": "logits"}
    convert_model(path, target, **named)
    (entry,) = onnx.load(target).metadata_props
    assert json.loads(entry.value) == {"input": {"scores": "logits"}}
    found, expected = (probabilities(predicted(*one[0], **one[1])) for one in (
        ((target,), {}), ((path,), named)
    ))  # fmt: skip
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_onnx_gives_probabilities_for_their_logarithms(tmp_path: Path) -> None:
    path, target = saved_weights(tmp_path, own("LogSoftmaxAndFeatures")), tmp_path / "new.onnx"
    convert_model(path, target, network=network("LogSoftmaxAndFeatures"),
                  scores="log-probabilities")  # fmt: skip
    (entry,) = onnx.load(target).metadata_props
    assert json.loads(entry.value) == {"input": {"scores": "probabilities"}}


@pytest.mark.parametrize("suffix", [".onnx", ".safetensors", ".pt"])
def test_fit_and_labels_are_kept_or_told(tmp_path: Path, suffix: str) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "model.toml").write_text('fit = "fit"\n')
    labels = list("abcdefghij")
    target = tmp_path / f"new{suffix}"
    done = convert_model(saved_weights(folder), target, network=network("Linear"), labels=labels)
    job, _ = open_model_file(Job(["x"], model=target))
    if suffix == ".pt":
        assert done.undeclared == "--labels FILE --preprocess fit"
    else:
        assert (job.preprocess, job.labels, done.undeclared) == ("fit", tuple(labels), "")
