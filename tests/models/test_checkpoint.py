"""Model files become PyTorch's network, however people have saved them."""

import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from batchdigit import CNN
from batchdigit.job import PACKAGED_WEIGHTS
from batchdigit.models.checkpoint import load_checkpoint
from batchdigit.models.spec import MNIST
from tests.support import oracle
from tests.support.modelfiles import refusal, run, same_weights, saved
from tests.support.samples import Program

GOOD = CNN().state_dict()
TUTORIAL = [
    f"{where}-{age}-{what}"
    for where in ("cpu", "cuda")
    for age in ("new", "old")
    for what in ("state", "whole", "parallel-state", "parallel-whole")
]


def test_tutorials_state_dict_loads_unchanged(tmp_path: Path) -> None:
    theirs = oracle.CNN()
    theirs.eval()
    path = saved(tmp_path / "CNN.pt", theirs.state_dict())
    images = torch.rand(5, 1, 28, 28)
    with torch.no_grad():
        assert torch.equal(load_checkpoint(path).model(images), theirs(images))


def test_packaged_weights_are_a_plain_state_dict() -> None:
    state = torch.load(PACKAGED_WEIGHTS, weights_only=True)
    assert list(state) == list(GOOD)
    assert {tensor.device.type for tensor in state.values()} == {"cpu"}
    assert load_checkpoint(PACKAGED_WEIGHTS).classes == 10


@pytest.mark.parametrize("name", TUTORIAL)
def test_file_of_the_tutorial_gives_the_same_weights(tutorial_files: Path, name: str) -> None:
    checkpoint = load_checkpoint(tutorial_files / f"{name}.pt")
    assert same_weights(checkpoint.model, torch.load(PACKAGED_WEIGHTS, weights_only=True))
    assert type(checkpoint.model) is CNN
    whole = name.endswith("whole")
    assert checkpoint.kind == ("whole model __main__.CNN" if whole else "state dict")
    assert ("old" in checkpoint.format) == ("old" in name)


def test_old_file_of_the_tutorial_holds_its_source_code(tutorial_files: Path) -> None:
    """So the test above covers the case that torch's own safe loader refuses."""
    path = tutorial_files / "cpu-old-whole.pt"
    assert b"def forward" in path.read_bytes()
    with pytest.raises(Exception, match="persistent_load|weights_only"):
        torch.load(path, weights_only=True)


@pytest.mark.parametrize("name", ["cpu-new-state", "cpu-new-whole", "cuda-old-whole"])
def test_file_of_the_tutorial_gives_the_same_report(
    tutorial_files: Path, program: Program, tmp_path: Path, digits: Path, name: str
) -> None:
    ours = program("run", digits, "--out", "ours.csv", "--probs")
    theirs = program(
        *("run", digits, "--out", "theirs.csv", "--probs"),
        *("--model", tutorial_files / f"{name}.pt"),
    )
    assert (ours.returncode, theirs.returncode) == (0, 0), theirs.stderr
    assert (tmp_path / "theirs.csv").read_bytes() == (tmp_path / "ours.csv").read_bytes()


FROM_A_MODULE = """
import sys, torch
from networks.digits import {name} as Network
model = Network()
model.load_state_dict(torch.load(sys.argv[1], weights_only=True))
torch.save(model, "whole.pt")
torch.save({{"model": model, "epoch": 3}}, "nested.pt")
torch.save(model, "old.pt", _use_new_zipfile_serialization=False)
"""


def save_from_a_module(folder: Path, name: str) -> None:
    (folder / "networks").mkdir()
    source = Path(oracle.__file__).read_text().replace("class CNN(", f"class {name}(")
    source = source.replace("super().__init__()", "super().__init__()\n        self.note = 'mine'")
    (folder / "networks" / "digits.py").write_text(source.split("@dataclass")[0])
    (folder / "save.py").write_text(FROM_A_MODULE.format(name=name))
    run(folder / "save.py", PACKAGED_WEIGHTS, folder=folder)
    (folder / "networks" / "digits.py").unlink()


def test_whole_model_of_a_module_that_is_not_here_loads(tmp_path: Path) -> None:
    save_from_a_module(tmp_path, "CNN")
    weights = torch.load(PACKAGED_WEIGHTS, weights_only=True)
    for name in ("whole", "nested", "old"):
        checkpoint = load_checkpoint(tmp_path / f"{name}.pt")
        assert same_weights(checkpoint.model, weights)
        assert "networks.digits.CNN" in checkpoint.kind
    assert not any(name.startswith("networks") for name in sys.modules)


def test_class_of_another_name_is_taken_once_it_is_named(tmp_path: Path) -> None:
    save_from_a_module(tmp_path, "DigitNet")
    for name in ("whole", "nested", "old"):
        message = refusal(tmp_path / f"{name}.pt")
        assert "networks.digits.DigitNet, not CNN" in message
        assert "--class-name networks.digits.DigitNet" in message
        for class_name in ("DigitNet", "networks.digits.DigitNet"):
            assert load_checkpoint(tmp_path / f"{name}.pt", class_name).classes == 10
        refusal(tmp_path / f"{name}.pt", "Net")
        refusal(tmp_path / f"{name}.pt", "other.DigitNet")


def test_safetensors_load_with_their_metadata(tmp_path: Path) -> None:
    path = tmp_path / "CNN.safetensors"
    save_file(GOOD, path, {"format": "pt", "author": "me"})
    checkpoint = load_checkpoint(path)
    assert same_weights(checkpoint.model, GOOD)
    assert checkpoint.format == "safetensors"


@pytest.mark.parametrize("classes", [1, 2, 36, 1000])
def test_last_layer_gives_the_number_of_classes(tmp_path: Path, classes: int) -> None:
    state = CNN(classes).state_dict()
    checkpoint = load_checkpoint(saved(tmp_path / "CNN.pt", state))
    assert checkpoint.classes == classes
    assert same_weights(checkpoint.model, state)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_binary_pickle_protocol_is_read(tmp_path: Path, protocol: int) -> None:
    path = saved(tmp_path / "CNN.pt", GOOD, pickle_protocol=protocol)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_checkpoint(path).classes == 10


def test_archive_without_checksums_loads(tmp_path: Path) -> None:
    try:
        torch.serialization.set_crc32_options(False)
        path = saved(tmp_path / "CNN.pt", GOOD)
    finally:
        torch.serialization.set_crc32_options(True)
    assert same_weights(load_checkpoint(path).model, GOOD)


def test_hash_is_that_of_the_file(tmp_path: Path) -> None:
    path = saved(tmp_path / "CNN.pt", GOOD)
    printed = subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True)
    assert load_checkpoint(path).sha256 == printed.stdout.split()[0]


def test_model_is_in_eval_mode(tmp_path: Path) -> None:
    training = oracle.CNN()
    training.train()
    assert not load_checkpoint(saved(tmp_path / "CNN.pt", training)).model.training


def test_loading_leaves_the_random_numbers_alone(tmp_path: Path) -> None:
    path = saved(tmp_path / "CNN.pt", GOOD)
    before = torch.random.get_rng_state()
    load_checkpoint(path)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_loading_leaves_torchs_allowlist_alone(tutorial_files: Path) -> None:
    before = set(torch.serialization.get_safe_globals())
    load_checkpoint(tutorial_files / "cpu-new-whole.pt")
    assert set(torch.serialization.get_safe_globals()) == before


def test_checkpoint_says_what_its_network_takes_and_gives(tmp_path: Path) -> None:
    assert load_checkpoint(PACKAGED_WEIGHTS).spec == MNIST
    checkpoint = load_checkpoint(saved(tmp_path / "CNN.pt", CNN(36).state_dict()))
    assert checkpoint.spec == MNIST.with_classes(36)
    images = torch.zeros(2, *checkpoint.spec.shape)
    assert checkpoint.model(images).shape == (2, checkpoint.spec.classes)


def test_model_is_in_single_precision_whatever_the_default_is(tmp_path: Path) -> None:
    path = saved(tmp_path / "CNN.pt", GOOD)
    try:
        torch.set_default_dtype(torch.float64)
        checkpoint = load_checkpoint(path)
    finally:
        torch.set_default_dtype(torch.float32)
    assert {tensor.dtype for tensor in checkpoint.model.parameters()} == {torch.float32}


def test_model_may_be_changed_and_the_saved_state_stays(tmp_path: Path) -> None:
    checkpoint = load_checkpoint(saved(tmp_path / "CNN.pt", GOOD))
    with torch.no_grad():
        for parameter in checkpoint.model.parameters():
            parameter.zero_()
    assert checkpoint.state.keys() == GOOD.keys()
    assert all(torch.equal(checkpoint.state[name], tensor) for name, tensor in GOOD.items())
