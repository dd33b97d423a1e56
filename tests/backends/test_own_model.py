"""A network of the user's own in PyTorch: what it may be, and what is said where it cannot be."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn
from torchvision import transforms as tv

import batchdigit
from batchdigit import CheckpointError, InputSpec, Job, UsageError
from batchdigit.backends.own_model import own_model
from batchdigit.modelfiles.file import read_model_file
from tests.support import odd_networks
from tests.support.own_models import (
    network,
    own,
    plain_loop,
    predicted,
    probabilities,
    refused,
    saved_weights,
)

RETURNED = "let forward() return the scores of each image"


def softmax(output_BK: Tensor) -> Tensor:
    return output_BK.softmax(1)


# What its author's own loop says, the report says


SCORES: dict[str, Callable[[Any], Tensor]] = {
    "Linear": softmax,
    "InATuple": lambda output: softmax(output[0]),
    "InAList": lambda output: softmax(output[1]),
    "InADictionary": lambda output: softmax(output["logits"]),
    "Within": lambda output: softmax(output[1][0]["logits"]),
    "OnePixel": lambda output: softmax(output[:, :, 0, 0]),
    "Squeezed": lambda output: softmax(output[None]),
    "LogitsAndProbabilities": lambda output: output[1],
    "Softmax": lambda output: output,
    "LogSoftmax": torch.exp,
    "LogSoftmaxAndFeatures": lambda output: output[0].exp(),
    "Sigmoid": lambda output: output,
    "Rectified": softmax,
    "KeepsWhatItSaw": softmax,
    "OnlySingle": softmax,
    "Counts": softmax,
}


@pytest.mark.parametrize("name", SCORES)
def test_report_is_that_of_the_authors_loop(
    tmp_path: Path, sample_paths: list[Path], name: str
) -> None:
    module = own(name)
    expected = plain_loop(module, sample_paths, scores=SCORES[name])
    table = predicted(saved_weights(tmp_path, module), network=network(name))
    assert table["prediction"].tolist() == expected.argmax(1).tolist()
    np.testing.assert_allclose(probabilities(table), expected, atol=1e-5)


INPUTS: dict[str, tuple[str, dict[str, Any], Callable[[Image.Image], Tensor]]] = {
    "size": ("Side32", {"input_size": 32}, tv.Compose([tv.Resize((32, 32)), tv.ToTensor()])),
    "margin": (
        "Side32",
        {"input_size": 32, "place": "pad"},
        tv.Compose([tv.Pad(2), tv.ToTensor()]),
    ),
    "colour": (
        "Colour",
        {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4)},
        tv.Compose(
            [
                tv.Grayscale(3),
                tv.ToTensor(),
                tv.Normalize((0.5, 0.4, 0.3), (0.2, 0.3, 0.4)),
            ]
        ),
    ),
    "channels last": (
        "ChannelsLast",
        {"layout": "nhwc"},
        tv.Compose([tv.ToTensor(), lambda image: image.permute(1, 2, 0)]),
    ),
    "flat": ("Rows", {"layout": "flat"}, tv.Compose([tv.ToTensor(), torch.flatten])),
    "rows": ("Recurrent", {"layout": "nhw"}, tv.Compose([tv.ToTensor(), lambda image: image[0]])),
    "dark": ("Linear", {"expects": "dark-on-light"}, tv.Compose([ImageOps.invert, tv.ToTensor()])),
    "bytes": ("Linear", {"range": "0-255"}, lambda image: tv.PILToTensor()(image).float()),
    "transposed": (
        "Linear",
        {"transpose": True, "mean": 0.1307, "std": 0.3081},
        tv.Compose([tv.ToTensor(), tv.Normalize((0.1307,), (0.3081,)), lambda image: image.mT]),
    ),
}


@pytest.mark.parametrize("kind", INPUTS)
def test_input_that_is_declared_is_what_the_authors_transforms_give(
    tmp_path: Path, sample_paths: list[Path], kind: str
) -> None:
    name, declared, transform = INPUTS[kind]
    torch.manual_seed(1)
    module = getattr(odd_networks, name)().eval()
    expected = plain_loop(module, sample_paths, transform)
    for table in (
        predicted(saved_weights(tmp_path, module), network=network(name), **declared),
        predicted(module, **declared),
    ):
        np.testing.assert_allclose(probabilities(table), expected, atol=2e-5)


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
@pytest.mark.parametrize("workers", [0, 2])
def test_rows_do_not_depend_on_batches_and_workers(batch_size: int, workers: int) -> None:
    module = own("KeepsWhatItSaw")
    table = predicted(module, batch_size=batch_size, workers=workers)
    np.testing.assert_allclose(
        probabilities(table), probabilities(predicted(own("Linear"))), atol=1e-6
    )


# What cannot be used ends in one line, before any image is looked for


REFUSED = {
    "Raises": ("raises ValueError: out of order since torch.float32", "correct it there"),
    "Exits": ("would end the program", "correct it there"),
    "Pictures": ("returns [20, 1, 28, 28] for 20 images, not [20, classes]", RETURNED),
    "OneNumber": ("returns [] for 20 images", RETURNED),
    "Nothing": ("returns NoneType for 20 images", RETURNED),
    "Word": ("returns str for 20 images", RETURNED),
    "TwoUnknown": ("returns [20, 7], [20, 9], and nobody says which", RETURNED),
    "NotANumber": ("numbers that are not finite", "check its weights"),
    "Infinite": ("numbers that are not finite", "check its weights"),
    "ForgetsThatItIsTrained": ("differently each time", "training=self.training"),
    "NeverTrained": ("several images, but not every number", "BatchNorm use what it learnt"),
    "SoftmaxOfTheBatch": ("depend on the other images in a batch", "keep images apart"),
    "HoldsALock": ("cannot be copied", "no locks"),
    "WithoutParameters": ("has no weights to load", "name the class of the model"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_class_that_cannot_be_used_is_one_line(tmp_path: Path, name: str) -> None:
    problem, remedy = REFUSED[name]
    module = getattr(odd_networks, name)()
    error = refused(saved_weights(tmp_path, module), network=network(name))
    assert isinstance(error, CheckpointError)
    assert (error.exit_code, name in error.problem) == (65, True)
    assert problem in error.problem
    assert remedy in error.remedy


@pytest.mark.parametrize("name", [name for name in REFUSED if name != "WithoutParameters"])
def test_module_that_cannot_be_used_is_one_line(name: str) -> None:
    problem, _ = REFUSED[name]
    error = refused(getattr(odd_networks, name)())
    assert error.exit_code == 65
    assert name in error.problem
    assert "SystemExit" in error.problem if name == "Exits" else problem in error.problem


OTHERS = {
    "Side32": "--input-size 32",
    "Colour": "--channels 3",
    "ChannelsLast": "--layout nhwc",
    "Rows": "--layout flat",
    "Recurrent": "--layout nhw",
}


@pytest.mark.parametrize("name", OTHERS)
def test_remedy_for_another_input_is_an_option_that_works(tmp_path: Path, name: str) -> None:
    module = getattr(odd_networks, name)()
    path = saved_weights(tmp_path, module)
    error = refused(path, network=network(name))
    assert error.exit_code == 65
    assert f"{name} cannot take images of [1, 28, 28]: " in error.problem
    first = error.remedy.removeprefix("it does with ").split(" or ")[0]
    assert first == OTHERS[name]
    option, value = first.removeprefix("--").split()
    declared = {option.replace("-", "_"): int(value) if value.isdecimal() else value}
    assert len(predicted(path, network=network(name), **declared)) == 100


def test_channels_that_become_rows_are_found_out() -> None:
    error = refused(own("RowsOf784"), channels=3)
    assert "returns [60, 10] for 20 images" in error.problem
    assert error.remedy.startswith("it does with --channels 1")
    assert len(predicted(own("RowsOf784"))) == 100


def test_lazy_layers_get_their_sizes_from_what_is_declared(
    tmp_path: Path, sample_paths: list[Path]
) -> None:
    path = saved_weights(tmp_path)
    table = predicted(path, network=network("Lazy"))
    expected = plain_loop(own("Linear"), sample_paths)
    np.testing.assert_allclose(probabilities(table), expected, atol=1e-5)
    error = refused(path, network=network("Lazy"), input_size=32)
    assert "(10, 784) instead of (10, 1024)" in error.problem


def test_module_whose_layers_have_no_sizes_yet_is_refused() -> None:
    error = refused(odd_networks.Lazy())
    assert "has lazy layers" in error.problem
    assert error.remedy == "call it once with images"


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    error = refused(saved_weights(tmp_path), network=network("Side32"))
    assert error.exit_code == 65
    assert "fc.weight has the shape (10, 784) instead of (10, 1024)" in error.problem


# A module in memory


def test_module_is_not_changed_nor_moved_nor_put_in_eval() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(), nn.Flatten(), nn.Linear(1352, 10)
    ).double()
    module[1].eval()
    module[4].bias.requires_grad_(requires_grad=False)
    kept = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    grads = {name: parameter.requires_grad for name, parameter in module.named_parameters()}
    modes = [part.training for part in module.modules()]
    first = predicted(module)
    assert len(predicted(module).compare(first)) == 0  # nothing of it is left in training
    assert [part.training for part in module.modules()] == modes
    state = module.state_dict()
    assert all(
        state[name].dtype == tensor.dtype and state[name].equal(tensor)
        for name, tensor in kept.items()
    )
    assert {name: one.requires_grad for name, one in module.named_parameters()} == grads
    assert all(parameter.grad is None for parameter in module.parameters())


def test_module_gives_the_rows_of_its_file(tmp_path: Path) -> None:
    module = own("InADictionary")
    path = saved_weights(tmp_path, module)
    assert predicted(module).equals(predicted(path, network=network("InADictionary")))


def test_buffers_are_what_they_were_after_the_trial() -> None:
    found = own_model(None, Job(["x"], model=own("Counts")))
    assert found.module.state_dict()["asked"] == 0


def test_network_and_module_exclude_each_other() -> None:
    with pytest.raises(UsageError, match="needs no network"):
        batchdigit.predict("images", own("Linear"), network=network("Linear"))


def test_onnx_runtime_computes_no_network_of_the_users(tmp_path: Path) -> None:
    for model, options in (
        (own("Linear"), {}),
        (saved_weights(tmp_path), {"network": network("Linear")}),
    ):
        error = refused(model, backend="onnxruntime", **options)
        assert isinstance(error, UsageError)
        assert "leave --backend off" in error.remedy


def test_network_for_an_onnx_file_is_refused(tmp_path: Path) -> None:
    batchdigit.convert_model(batchdigit.job.PACKAGED_WEIGHTS, tmp_path / "CNN.onnx")
    error = refused(tmp_path / "CNN.onnx", network=network("Linear"))
    assert isinstance(error, UsageError)
    assert "--network" in error.remedy


# The declaration in Python


def test_spec_declares_all_at_once_and_single_options_come_first() -> None:
    module = own("Linear", prepare=lambda pixels: (pixels - 0.5) / 0.25)
    spec = InputSpec(mean=(0.5,), std=(0.25,), scores="logits")
    wanted = predicted(module, mean=0.5, std=0.25, scores="logits")
    assert predicted(module, spec=spec).equals(wanted)
    half = InputSpec(mean=(0.1,), std=(0.9,), scores="logits")
    assert not predicted(module, spec=half).equals(wanted)
    assert predicted(module, spec=half, mean=0.5, std=0.25).equals(wanted)


# What is found out of it


@pytest.mark.parametrize(
    ("name", "scores", "adds_up"),
    [
        ("Linear", "logits", True),
        ("Rectified", "logits", True),
        ("Softmax", "probabilities", True),
        ("LogSoftmax", "log-probabilities", True),
        ("Sigmoid", "probabilities", False),
    ],
)
def test_kind_of_scores_is_found_out(tmp_path: Path, name: str, scores: str, adds_up: bool) -> None:
    path = saved_weights(tmp_path, own(name))
    job = Job(["x"], model=path, network=network(name))
    found = own_model(read_model_file(path), job)
    assert (found.spec.scores, found.adds_up, found.classes) == (scores, adds_up, 10)


def test_scores_that_are_declared_are_believed(sample_paths: list[Path]) -> None:
    table = predicted(own("Softmax"), scores="logits")
    expected = plain_loop(own("Softmax"), sample_paths)  # squashed twice, as was asked for
    np.testing.assert_allclose(probabilities(table), expected, atol=1e-5)


def test_labels_choose_among_outputs() -> None:
    table = predicted(own("TwoUnknown"), labels=list("abcdefghi"), probs=False)
    assert set(table["prediction"]) <= set("abcdefghi")


def test_what_tells_a_model_from_others_is_its_code_and_its_weights(tmp_path: Path) -> None:
    path = saved_weights(tmp_path)

    def identity(path: Path, name: str) -> str:
        return own_model(
            read_model_file(path), Job(["x"], model=path, network=network(name))
        ).identity

    first = identity(path, "Linear")
    other = saved_weights(tmp_path, own("Linear", prepare=lambda x: 1 - x), name="other.pt")
    assert identity(other, "Linear") != first
    copy = tmp_path / "mine.py"
    copy.write_text(Path(odd_networks.__file__).read_text())
    same = own_model(read_model_file(path), Job(["x"], model=path, network=f"{copy}:Linear"))
    assert same.identity == first
    copy.write_text(copy.read_text() + "\n# changed\n")
    changed = own_model(read_model_file(path), Job(["x"], model=path, network=f"{copy}:Linear"))
    assert changed.identity != first
    assert (
        own_model(None, Job(["x"], model=own("Linear"))).identity
        == own_model(None, Job(["x"], model=own("Linear"))).identity
        != own_model(None, Job(["x"], model=own("Softmax"))).identity
    )


# Precision


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_network_that_only_computes_in_single_is_refused_in_less(
    tmp_path: Path, precision: str
) -> None:
    path = saved_weights(tmp_path)
    error = refused(path, network=network("OnlySingle"), precision=precision, device="cpu")
    assert error.exit_code == 65
    assert f"runs on the CPU in fp32, but not in {precision}: " in error.problem
    assert error.remedy == "leave --precision off"


def test_precision_auto_is_fp32_for_a_network_that_only_computes_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("batchdigit.backends.torch_backend.has_bfloat16_units", lambda: True)
    single = predicted(own("OnlySingle"), precision="fp32")
    assert predicted(own("OnlySingle"), precision="auto").equals(single)
    chosen = predicted(own("Linear"), precision="auto")
    assert not chosen.equals(single)  # which computes in bf16
    assert chosen["prediction"].tolist() == single["prediction"].tolist()


def test_modules_that_compute_something_else_are_told_apart() -> None:
    """Although their weights and their code are the same."""

    class Shifted(torch.nn.Module):
        def __init__(self, shift: float) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.fc = torch.nn.Linear(784, 10)
            self.shift = shift

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.roll(self.fc(x.flatten(1)), int(self.shift), dims=1)

    def identity(shift: float) -> str:
        return own_model(None, Job(["x"], model=Shifted(shift))).identity

    assert identity(0) == identity(0)
    assert identity(0) != identity(1)
