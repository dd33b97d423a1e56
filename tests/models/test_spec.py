"""What the network takes is declared once, and everything else follows the declaration."""

import ast
import dataclasses
import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torchvision.transforms import Normalize, PILToTensor, ToTensor

import batchdigit
from batchdigit import UsageError
from batchdigit.modelfiles.declaration import (
    DARK_ON_LIGHT,
    LAYOUTS,
    LIGHT_ON_DARK,
    POLARITIES,
    RANGES,
    Declaration,
)
from batchdigit.models import spec
from batchdigit.models.cnn import CNN
from batchdigit.models.spec import MNIST, InputSpec

COLOUR = InputSpec((32, 32), 3, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3), classes=7)
RNG = np.random.default_rng(0)

NUMBERS: dict[int, list[tuple[tuple[float, ...], tuple[float, ...]]]] = {
    1: [((0.0,), (1.0,)), ((0.1307,), (0.3081,)), ((0.5,), (-0.5,))],
    3: [((0.0,), (1.0,)), ((0.5,), (0.25,)), ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))],
}
SPECS = [
    InputSpec((20, 32), channels, extent, mean, std, expects, layout, transpose)
    for channels in (1, 3)
    for (mean, std), extent, expects, layout, transpose in itertools.product(
        NUMBERS[channels], RANGES, POLARITIES, LAYOUTS, (False, True)
    )
    if (layout, channels) != ("nhw", 3)
]


def by_torchvision(image: Image.Image, spec: InputSpec) -> torch.Tensor:
    """What a training program makes of one upright image, light strokes on a dark ground."""
    if spec.expects == DARK_ON_LIGHT:
        image = ImageOps.invert(image)
    if spec.transpose:
        image = image.transpose(Image.Transpose.TRANSPOSE)
    tensor_CHW = ToTensor()(image) if spec.range == "0-1" else PILToTensor()(image).float()
    tensor_CHW = Normalize(spec.mean, spec.std)(tensor_CHW)
    if spec.layout == "nhwc":
        return tensor_CHW.permute(1, 2, 0)
    if spec.layout == "nhw":
        return tensor_CHW.squeeze(0)
    return tensor_CHW.flatten() if spec.layout == "flat" else tensor_CHW


def random_images(spec: InputSpec, count: int = 4) -> np.ndarray:
    return RNG.integers(0, 256, (count, *spec.shape), dtype=np.uint8)


def as_pillow(image_CHW: np.ndarray) -> Image.Image:
    return Image.fromarray(image_CHW[0] if len(image_CHW) == 1 else image_CHW.transpose(1, 2, 0))


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.text)
def test_pixels_become_what_torchvision_makes_of_them(spec: InputSpec) -> None:
    images_BCHW = random_images(spec)
    oracle = torch.stack([by_torchvision(as_pillow(image), spec) for image in images_BCHW])
    arrays = spec.prepare(images_BCHW.astype(np.float32))
    assert (arrays.shape, arrays.dtype) == (tuple(oracle.shape), np.float32)
    np.testing.assert_allclose(arrays, oracle.numpy(), rtol=1e-5, atol=2e-5)
    tensors = spec.prepare(torch.from_numpy(images_BCHW).float())
    assert np.array_equal(tensors.numpy(), arrays), "numpy and torch disagree"


@pytest.mark.parametrize("layout", ["nchw", "nhwc", "flat"])
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_grey_images_stand_in_all_channels_of_a_network_of_colours(layout: str, kind: Any) -> None:
    spec = dataclasses.replace(COLOUR, layout=layout)
    grey_B1HW = random_images(dataclasses.replace(MNIST, size=(32, 32)))
    oracle = [by_torchvision(as_pillow(one).convert("RGB"), spec) for one in grey_B1HW]
    found = spec.prepare(kind(grey_B1HW.astype(np.float32)))
    np.testing.assert_allclose(np.asarray(found), torch.stack(oracle).numpy(), atol=2e-5)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.text)
def test_normalisation_does_in_one_step_what_the_steps_do(spec: InputSpec) -> None:
    images_BCHW = random_images(spec).astype(np.float64)
    mean_C, std_C = (np.array(numbers)[:, None, None] for numbers in spec.normalisation)
    at_once = (images_BCHW / 255 - mean_C) / std_C
    spec.scale_pixels(images_BCHW)
    np.testing.assert_allclose(at_once, images_BCHW, rtol=1e-9, atol=1e-7)


@pytest.mark.parametrize("kind", [np.zeros, torch.zeros])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_batch_of_no_image_is_prepared_too(layout: str, kind: Any) -> None:
    spec = InputSpec((20, 32), layout=layout)
    one, none = (spec.prepare(kind((count, 1, 20, 32))) for count in (1, 0))
    assert tuple(none.shape) == (0, *one.shape[1:])


def test_digits_become_exactly_what_to_tensor_makes_of_them() -> None:
    image = RNG.integers(0, 256, (28, 28), dtype=np.uint8)
    ours = MNIST.prepare(image[None, None].astype(np.float32))
    assert np.array_equal(ours[0], ToTensor()(image).numpy())


def test_shape_is_that_of_an_image() -> None:
    assert (MNIST.plane, MNIST.shape, MNIST.pixels) == ((28, 28), (1, 28, 28), 784)
    assert (COLOUR.plane, COLOUR.shape, COLOUR.pixels) == ((32, 32), (3, 32, 32), 1024)
    wide = InputSpec((20, 32))
    assert (wide.shape, dataclasses.replace(wide, transpose=True).shape) == (
        (1, 20, 32),
        (1, 32, 20),
    )


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.text)
def test_declaration_declares_the_same_again(spec: InputSpec) -> None:
    assert InputSpec.declared(spec.declaration, spec.classes) == spec


def test_what_is_not_declared_is_as_the_packaged_network_has_it() -> None:
    said_nothing = InputSpec.declared(Declaration())
    assert dataclasses.replace(said_nothing, scores="logits") == MNIST
    assert (said_nothing.scores, said_nothing.classes) == ("auto", 10)
    for mean, channels in (((0.5,), 1), ((0.5, 0.4, 0.3), 3)):
        found = InputSpec.declared(Declaration(mean=mean, std=(1.0,)), classes=26)
        assert (found.channels, found.classes) == (channels, 26)
        assert len(found.mean) == len(found.std) == channels


def test_single_number_is_the_side_of_a_square() -> None:
    size: Any = 32
    assert InputSpec(size).size == (32, 32)
    assert InputSpec((32, 20)).size == (32, 20)


def test_text_tells_specs_apart() -> None:
    assert len({one.text for one in SPECS}) == len(SPECS) == len(set(SPECS))
    assert COLOUR.text != COLOUR.with_classes(3).text


def test_another_number_of_classes_leaves_the_input_alone() -> None:
    other = COLOUR.with_classes(4)
    assert other.classes == 4
    assert other.with_classes(7) == COLOUR


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"mean": (0.0, 0.0)}, "mean"),
        ({"std": ()}, "std"),
        ({"mean": (0.0, 0.0, 0.0)}, "mean"),
        ({"std": (0.0,)}, "std"),
        ({"size": (0, 28)}, "size"),
        ({"channels": 2}, "channels"),
        ({"range": "0-2"}, "range"),
        ({"expects": "grey"}, "expects"),
        ({"layout": "hwc"}, "layout"),
        ({"layout": "nhw", "channels": 3}, "layout"),
        ({"transpose": 1}, "transpose"),
        ({"place": "crop"}, "place"),
        ({"scores": "loss"}, "scores"),
    ],
)
def test_values_that_no_network_has_are_refused(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match=f"^{named} "):
        InputSpec(**settings)


def test_one_mean_and_deviation_count_for_every_channel() -> None:
    one = InputSpec(channels=3, mean=(0.25,), std=(0.5,))
    assert (one.mean, one.std) == ((0.25,) * 3, (0.5,) * 3)
    assert one == InputSpec(channels=3, mean=(0.25,) * 3, std=(0.5,) * 3)


@pytest.mark.parametrize("extent", RANGES)
def test_an_inverted_input_gives_the_same_numbers_for_the_negative_of_an_image(extent: str) -> None:
    spec = dataclasses.replace(COLOUR, range=extent)
    images_BCHW = random_images(spec)
    plain = spec.prepare(images_BCHW.astype(np.float32))
    negative = spec.inverted.prepare((255 - images_BCHW).astype(np.float32))
    np.testing.assert_allclose(negative, plain, rtol=1e-5, atol=1e-5)
    assert (spec.expects, spec.inverted.expects) == (LIGHT_ON_DARK, DARK_ON_LIGHT)
    assert spec.inverted.inverted == spec


def test_network_is_built_from_its_declaration() -> None:
    """Another declaration gives another network."""
    model = CNN(spec=COLOUR).eval()
    assert model(torch.zeros(2, *COLOUR.shape)).shape == (2, 7)
    with pytest.raises(RuntimeError):
        model(torch.zeros(2, *MNIST.shape))


WITH_ANOTHER_SPEC = """
import dataclasses
from batchdigit.models import spec
spec.MNIST = dataclasses.replace(spec.MNIST, size=32, range="0-255", classes=7)
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
assert float(to_float(torch.full((1, 1, 1, 1), 50, dtype=torch.uint8))) == 50
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
    28: {
        "doctor/trial.py": "the side of a picture to try decoders on",
        "backends/trying.py": "one of the usual sizes, all of which are tried",
    },
    255: {
        "images": "white in 8-bit grey, which pictures consist of",
        "training/variants.py": "white in 8-bit grey, which pictures consist of",
    },
    10: {
        "modelfiles/file.py": "the length of the smallest safetensors file",
        "modelfiles/declaration.py": "more digits than any size has",
        "models/onnx_": "numbers of fields and of types in onnx.proto3",
        "backends/declarations.py": "the least number of images that says something",
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
