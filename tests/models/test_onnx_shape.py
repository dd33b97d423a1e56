"""What the shape of an ONNX graph's input says of the images that it takes."""

import itertools
from typing import Any

import numpy as np
import pytest

from batchdigit import CheckpointError, UsageError
from batchdigit.modelfiles.declaration import LAYOUTS, Declaration
from batchdigit.models.onnx_file import OnnxValue
from batchdigit.models.onnx_shape import check_shape, declared_by
from batchdigit.models.spec import InputSpec

Shape = tuple[int | str | None, ...]


def value(*shape: int | str | None, dtype: str = "float32") -> OnnxValue:
    return OnnxValue("x", dtype, shape)


def said(**given: Any) -> Declaration:
    return Declaration(**given)


@pytest.mark.parametrize(
    ("shape", "declared"),
    [
        (("n", 1, 28, 28), said(size=(28, 28), channels=1, layout="nchw")),
        ((None, 3, 32, 28), said(size=(32, 28), channels=3, layout="nchw")),
        (("n", 28, 28, 1), said(size=(28, 28), channels=1, layout="nhwc")),
        ((64, 32, 28, 3), said(size=(32, 28), channels=3, layout="nhwc")),
        (("n", 1, "h", "w"), said(channels=1, layout="nchw")),
        (("n", None, None, 3), said(channels=3, layout="nhwc")),
        (("n", "c", 28, 28), said(size=(28, 28), layout="nchw")),
        (("n", 3, 3, 3), said(size=(3, 3), channels=3, layout="nchw")),
        (("n", 4, 28, 28), said(size=(28, 28), layout="nchw")),
        (("n", 28, 28), said(size=(28, 28), channels=1, layout="nhw")),
        (("n", "t", 28), said(channels=1, layout="nhw")),
        (("n", 784), said(size=(28, 28), channels=1, layout="flat")),
        (("n", 3072), said(size=(32, 32), channels=3, layout="flat")),
        (("n", 785), said(layout="flat")),
        (("n", "features"), said(layout="flat")),
        (("n", 0), said(layout="flat")),
        (("n", 0, 0, 1), said(channels=1, layout="nhwc")),
        (("n",), said()),
        ((), said()),
        ((1, 2, 3, 4, 5), said()),
    ],
)
def test_shape_says_layout_channels_and_size(shape: Shape, declared: Declaration) -> None:
    assert declared_by(value(*shape)) == declared
    assert declared_by(value(*shape, dtype="uint8")) == declared.over(said(range="0-255"))


def test_input_without_a_shape_says_nothing() -> None:
    assert declared_by(OnnxValue("x", "float32", None)) == Declaration()
    assert declared_by(OnnxValue("x", "uint8", None)) == Declaration(range="0-255")


SPECS = [
    InputSpec(size, channels, layout=layout)
    for size, channels, layout in itertools.product([(28, 28), (32, 20)], [1, 3], LAYOUTS)
    if (layout, channels) != ("nhw", 3)
]


def prepared(spec: InputSpec) -> tuple[int, ...]:
    """The shape of one image as the network gets it."""
    shape: tuple[int, ...] = spec.prepare(np.zeros((1, *spec.shape), np.float32)).shape[1:]
    return shape


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.text)
def test_input_takes_images_that_are_prepared_for_it_and_no_others(spec: InputSpec) -> None:
    for other in SPECS:
        fits = prepared(other) == prepared(spec)
        if fits:
            check_shape(value("n", *prepared(spec)), other)
        else:
            with pytest.raises((UsageError, CheckpointError), match="the model takes x float"):
                check_shape(value("n", *prepared(spec)), other)


def test_dimension_that_is_named_or_unknown_may_be_any() -> None:
    for shape in (("n", "c", "h", "w"), ("n", 1, None, 28), ("n", None, 28, "w")):
        check_shape(value(*shape), InputSpec())
    check_shape(OnnxValue("x", "float32", None), InputSpec((32, 32), 3))


@pytest.mark.parametrize(
    ("shape", "declare"),
    [
        (("n", 3, 32, 32), "declare --input-size 32 --channels 3"),
        (("n", 28, 28, 1), "declare --layout nhwc"),
        (("n", 784), "declare --layout flat"),
        (("n", 785), "declare --layout flat"),
    ],
)
def test_remedy_declares_what_the_shape_says(shape: Shape, declare: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_shape(value(*shape), InputSpec())
    assert caught.value.remedy == declare
    assert "and not [images, 1, 28, 28]" in caught.value.problem


def test_input_that_takes_no_images_is_the_files_fault() -> None:
    for shape in (("n", 4, 28, 28), (1, 2, 3, 4, 5)):
        with pytest.raises(CheckpointError, match=r"and not \[images, 1, 28, 28\]"):
            check_shape(value(*shape), InputSpec(scores="logits"))


@pytest.mark.parametrize(
    "fractions", [{"range": "0-1"}, {"mean": (33.0,)}, {"std": (78.0,)}, {"std": (-1.0,)}]
)
def test_pixels_stay_bytes_for_an_input_of_bytes(fractions: dict[str, Any]) -> None:
    image = value("n", 1, 28, 28, dtype="uint8")
    check_shape(image, InputSpec(range="0-255"))
    check_shape(image, InputSpec(range="0-255", expects="dark-on-light"))
    with pytest.raises(UsageError, match="can't be scaled"):
        check_shape(image, InputSpec(**({"range": "0-255"} | fractions)))
    check_shape(value("n", 1, 28, 28), InputSpec(**({"range": "0-255"} | fractions)))
