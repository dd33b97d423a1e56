"""What the network takes is declared once, and everything else follows the declaration."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.transforms import Normalize, ToTensor

import batchdigit
from batchdigit.models import spec
from batchdigit.models.cnn import CNN
from batchdigit.models.spec import MNIST, InputSpec

COLOUR = InputSpec(
    size=32, channels=3, scale=255, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3), classes=7
)
RNG = np.random.default_rng(0)


def test_shape_is_that_of_an_image() -> None:
    assert (MNIST.plane, MNIST.shape) == ((28, 28), (1, 28, 28))
    assert (COLOUR.plane, COLOUR.shape) == ((32, 32), (3, 32, 32))


def test_another_number_of_classes_leaves_the_input_alone() -> None:
    other = COLOUR.with_classes(4)
    assert other.classes == 4
    assert other.with_classes(7) == COLOUR


@pytest.mark.parametrize("numbers", [{"mean": (0.0, 0.0)}, {"std": ()}, {"channels": 3}])
def test_numbers_that_are_not_one_for_each_channel_are_refused(numbers: dict[str, Any]) -> None:
    settings: dict[str, Any] = {"size": 28, "channels": 1, "scale": 255, "classes": 10}
    settings |= {"mean": (0.0,), "std": (1.0,)}
    with pytest.raises(ValueError, match="for each of"):
        InputSpec(**(settings | numbers))


def test_pixels_become_what_torchvision_makes_of_them() -> None:
    images_BHWC = RNG.integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    normalise = Normalize(COLOUR.mean, COLOUR.std)
    oracle = torch.stack([normalise(ToTensor()(image)) for image in images_BHWC])
    ours = images_BHWC.transpose(0, 3, 1, 2).astype(np.float32)
    COLOUR.scale_pixels(ours)
    assert np.allclose(ours, oracle.numpy(), rtol=1e-6, atol=1e-6)
    tensor = torch.from_numpy(images_BHWC).permute(0, 3, 1, 2).float()
    COLOUR.scale_pixels(tensor)
    assert torch.allclose(tensor, oracle, rtol=1e-6, atol=1e-6)


def test_digits_become_exactly_what_to_tensor_makes_of_them() -> None:
    image = RNG.integers(0, 256, (28, 28), dtype=np.uint8)
    ours = image[None, None].astype(np.float32)
    MNIST.scale_pixels(ours)
    assert np.array_equal(ours[0], ToTensor()(image).numpy())


def test_network_is_built_from_its_declaration() -> None:
    """Another declaration gives another network."""
    model = CNN(spec=COLOUR).eval()
    assert model(torch.zeros(2, *COLOUR.shape)).shape == (2, 7)
    with pytest.raises(RuntimeError):
        model(torch.zeros(2, *MNIST.shape))


WITH_ANOTHER_SPEC = """
import dataclasses
from batchdigit.models import spec
spec.MNIST = dataclasses.replace(spec.MNIST, size=32, scale=100, classes=7)
import numpy as np, torch
from batchdigit.images.normalise import normalise
from batchdigit.images.preprocess import to_model_input
from batchdigit.models.cnn import CNN
from batchdigit.models.network import cnn
from batchdigit.training.scores import to_float

square = np.full((16, 16), 255, np.uint8)
assert normalise(square, 16).shape == (32, 32)
assert to_model_input(square, "exact").pixels.shape == (32, 32)
assert CNN()(torch.zeros(2, 1, 32, 32)).shape == (2, 7)
assert cnn().state_shapes()["fc.0.weight"] == (1024, 128 * 5 * 5)
assert float(to_float(torch.full((1, 1, 1, 1), 50, dtype=torch.uint8))) == 0.5
"""


def test_declaration_is_what_decides_everywhere() -> None:
    """A process with another declaration follows it."""
    subprocess.run([sys.executable, "-c", WITH_ANOTHER_SPEC], check=True)


def test_declaration_is_cheap_to_import() -> None:
    code = "import sys, batchdigit.models.spec; print({'numpy', 'torch', 'cv2'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


# Where 28, 255 and 10 have nothing to do with what the network takes, and what they are instead.
PACKAGE = Path(batchdigit.__file__).parent
STAGES = ("images", "models", "modelfiles", "training", "backends", "reading", "batches.py")
ELSEWHERE = {
    28: {"doctor/trial.py": "the side of a picture to try decoders on"},
    255: {
        "images": "white in 8-bit grey, which pictures consist of",
        "training/variants.py": "white in 8-bit grey, which pictures consist of",
    },
    10: {
        "modelfiles/file.py": "the length of the smallest safetensors file",
        "training/digits.py": "a tenth of a folder",
        "training/scores.py": "errors that a temperature can be learnt from",
        "training/trainer.py": "the warm-up of a moving average",
    },
}


def literals(source: str) -> Iterator[tuple[int, float]]:
    """The numbers written in a module, each with its line."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and type(node.value) in (int, float):
            yield node.lineno, node.value


@pytest.mark.parametrize(("number", "stages"), [(28, ("",)), (255, STAGES), (10, STAGES)])
def test_numbers_of_the_network_are_written_in_its_declaration_alone(
    number: int, stages: tuple[str, ...]
) -> None:
    allowed = tuple(ELSEWHERE[number])
    found = []
    for stage in stages:
        place = PACKAGE / stage
        for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            name = path.relative_to(PACKAGE).as_posix()
            if path == Path(spec.__file__) or name.startswith(allowed):
                continue
            found += [
                f"{name}:{line}"
                for line, value in literals(path.read_text())
                if value == number and type(value) is int
            ]
    assert found == []


def test_scan_finds_such_numbers_in_the_declaration() -> None:
    """So an empty list above means something."""
    assert {28, 255, 10} <= {value for _, value in literals(Path(spec.__file__).read_text())}


def test_one_mean_and_deviation_count_for_every_channel() -> None:
    other = COLOUR.normalised(0.25, 0.5)
    assert (other.mean, other.std) == ((0.25,) * 3, (0.5,) * 3)
    assert COLOUR.normalised(None, None) == COLOUR


def test_an_inverted_input_gives_the_same_numbers_for_the_negative_of_an_image() -> None:
    images_BCHW = RNG.integers(0, 256, (4, 3, 32, 32), dtype=np.uint8)
    plain, negative = images_BCHW.astype(np.float32), (255 - images_BCHW).astype(np.float32)
    COLOUR.scale_pixels(plain)
    COLOUR.inverted.scale_pixels(negative)
    np.testing.assert_allclose(negative, plain, atol=1e-5)
