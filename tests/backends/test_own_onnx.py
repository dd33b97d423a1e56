"""ONNX files of any origin: whatever shape and type their input has, they give the same rows."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from PIL import Image
from torchvision import transforms as tv

from batchdigit import CheckpointError, Job, UsageError
from batchdigit.backends.onnx_backend import OnnxBackend
from batchdigit.modelfiles.file import read_model_file
from tests.support.onnx_models import BOOL, FLOAT, model_of, value, weights
from tests.support.own_models import own, plain_loop, predicted, probabilities, refused
from tests.support.samples import SAMPLES

Dims = Sequence[int | str | None] | None
GREY = ("n", 1, 28, 28)


def linear(
    shape: Dims = GREY,
    *after: Any,
    dtype: int = FLOAT,
    module: str = "Linear",
    scale: float = 1.0,
    outputs: Sequence[Any] | None = None,
    before: Sequence[Any] = (),
    **parts: Any,
) -> Any:
    """A linear network that reads digits, as a graph from ``x`` by ``scores`` to ``y``.

    ``before`` make ``taken`` of ``float``, and ``after`` the outputs of ``scores``.
    """
    network = own(module) if module == "Linear" else module
    fc = network.fc
    batch = shape[0] if shape else "n"
    nodes = [
        helper.make_node("Cast", ["x"], ["float"], to=FLOAT),
        *(before or [helper.make_node("Identity", ["float"], ["taken"])]),
        helper.make_node("Flatten", ["taken"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w", "b"], ["scores"], transB=1),
        *(after or [helper.make_node("Identity", ["scores"], ["y"])]),
    ]
    return model_of(
        nodes,
        [value("x", shape, dtype)],
        outputs or [value("y", [batch, 10])],
        initializer=[
            weights("w", fc.weight.detach().numpy() * np.float32(scale)),
            weights("b", fc.bias.detach().numpy()),
            *parts.pop("initializer", []),
        ],
        **parts,
    )


def saved(folder: Path, model: Any, name: str = "own.onnx") -> Path:
    path = folder / name
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture(scope="module")
def sixty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sixty")
    for path in sorted(SAMPLES.glob("*.png"))[::2][:50] + sorted(SAMPLES.glob("*.png"))[1:20:2]:
        (folder / path.name).write_bytes(path.read_bytes())
    assert len(list(folder.iterdir())) == 60
    return folder


@pytest.fixture(scope="module")
def expected(sixty: Path) -> np.ndarray:
    """What the plain loop says of sixty images."""
    return plain_loop(own("Linear"), sorted(sixty.iterdir(), key=os.fsencode))


BYTES = 1 / 255
SHAPES: dict[str, tuple[Dims, dict[str, Any]]] = {
    "any batch": (GREY, {}),
    "batch without a name": ((None, 1, 28, 28), {}),
    "batch 1": ((1, 1, 28, 28), {}),
    "batch 8": ((8, 1, 28, 28), {}),
    "batch larger than all": ((100, 1, 28, 28), {}),
    "channels last": (("n", 28, 28, 1), {}),
    "channels last, batch 8": ((8, 28, 28, 1), {}),
    "flat": (("n", 784), {}),
    "flat, batch 1": ((1, 784), {}),
    "rows": (("n", 28, 28), {}),
    "names alone": (("n", "c", "h", "w"), {}),
    "no shape": (None, {}),
    "bytes": (GREY, {"dtype": TensorProto.UINT8, "scale": BYTES}),
    "bytes, channels last, batch 8": (
        (8, 28, 28, 1),
        {"dtype": TensorProto.UINT8, "scale": BYTES},
    ),
    "half": (GREY, {"dtype": TensorProto.FLOAT16}),
    "double": (GREY, {"dtype": TensorProto.DOUBLE}),
}


@pytest.mark.parametrize("kind", SHAPES)
def test_input_of_any_shape_and_type_gives_the_rows_of_the_plain_loop(
    tmp_path: Path, sixty: Path, expected: np.ndarray, kind: str
) -> None:
    shape, options = SHAPES[kind]
    table = predicted(saved(tmp_path, linear(shape, **options)), sixty)
    assert table["prediction"].tolist() == expected.argmax(1).tolist()
    tolerance = 0.02 if kind == "half" else 1e-4  # pixels of half precision are rounded
    np.testing.assert_allclose(probabilities(table), expected, atol=tolerance)


@pytest.mark.parametrize("batch", ["n", 1, 8])
@pytest.mark.parametrize("batch_size", [1, 7, 60])
@pytest.mark.parametrize("workers", [0, 2])
def test_rows_do_not_depend_on_batches_and_workers(
    tmp_path: Path, sixty: Path, expected: np.ndarray, batch: Any, batch_size: int, workers: int
) -> None:
    path = saved(tmp_path, linear((batch, 1, 28, 28)))
    table = predicted(path, sixty, batch_size=batch_size, workers=workers)
    np.testing.assert_allclose(probabilities(table), expected, atol=1e-5)


def test_declaration_is_applied_before_the_graph(tmp_path: Path, sample_paths: list[Path]) -> None:
    module = own("Linear", prepare=lambda pixels: (pixels - 0.5) / 0.25)
    path = saved(tmp_path, linear(module=module))
    transform = tv.Compose([tv.ToTensor(), tv.Normalize((0.5,), (0.25,))])
    found = probabilities(predicted(path, mean=0.5, std=0.25))
    np.testing.assert_allclose(found, plain_loop(module, sample_paths, transform), atol=1e-4)


def test_colours_last_are_taken_as_such(tmp_path: Path, sample_paths: list[Path]) -> None:
    module = own("Colour", prepare=lambda pixels: pixels.repeat(1, 3, 1, 1))
    first = helper.make_node("Transpose", ["float"], ["taken"], perm=[0, 3, 1, 2])
    path = saved(tmp_path, linear(("n", 28, 28, 3), module=module, before=[first]))
    transform = tv.Compose([tv.Grayscale(3), tv.ToTensor()])
    table = predicted(path)
    np.testing.assert_allclose(
        probabilities(table), plain_loop(module, sample_paths, transform), atol=1e-5
    )


# What it gives


FEATURES = helper.make_node("Slice", ["flat", "start", "end", "axis"], ["features"])
FIFTY = [
    weights("start", np.array([0])), weights("end", np.array([50])), weights("axis", np.array([1])),
]  # fmt: skip
SOFTMAX = helper.make_node("Softmax", ["scores"], ["y"], axis=1)
OUTPUTS: dict[str, tuple[list[Any], list[Any]]] = {
    "features first": (
        [FEATURES, helper.make_node("Identity", ["scores"], ["y"])],
        [value("features", ["n", 50]), value("y", ["n", 10])],
    ),
    "logits and probabilities": (
        [SOFTMAX],
        [value("scores", ["n", 10]), value("y", ["n", 10])],
    ),
    "probabilities": ([SOFTMAX], [value("y", ["n", 10])]),
    "their logarithms": (
        [helper.make_node("LogSoftmax", ["scores"], ["y"], axis=1)],
        [value("y", ["n", 10])],
    ),
    "one pixel": (
        [helper.make_node("Unsqueeze", ["scores", "places"], ["y"])],
        [value("y", ["n", 10, 1, 1])],
    ),
    "half": (
        [helper.make_node("Cast", ["scores"], ["y"], to=TensorProto.FLOAT16)],
        [value("y", ["n", 10], TensorProto.FLOAT16)],
    ),
    "labels, too": (
        [
            helper.make_node("ArgMax", ["scores"], ["label"], axis=1, keepdims=0),
            helper.make_node("Identity", ["scores"], ["y"]),
        ],
        [value("label", ["n"], TensorProto.INT64), value("y", ["n", 10])],
    ),
}


@pytest.mark.parametrize("kind", OUTPUTS)
@pytest.mark.parametrize("batch", ["n", 8])
def test_scores_are_found_in_whatever_it_gives(
    tmp_path: Path, sixty: Path, expected: np.ndarray, kind: str, batch: Any
) -> None:
    after, outputs = OUTPUTS[kind]
    constants = [*FIFTY, weights("places", np.array([2, 3]))]
    path = saved(
        tmp_path,
        linear((batch, 1, 28, 28), *after, outputs=outputs, initializer=constants),
    )
    table = predicted(path, sixty)
    np.testing.assert_allclose(
        probabilities(table), expected, atol=0.02 if kind == "half" else 1e-4
    )


def test_kind_of_scores_and_classes_are_found_out(tmp_path: Path) -> None:
    path = saved(tmp_path, linear(GREY, SOFTMAX))
    model = OnnxBackend().load(read_model_file(path), Job(["x"], model=path))
    assert (model.spec.scores, model.adds_up, model.classes) == ("probabilities", True, 10)
    sigmoid = helper.make_node("Sigmoid", ["scores"], ["y"])
    path = saved(tmp_path, linear(GREY, sigmoid))
    model = OnnxBackend().load(read_model_file(path), Job(["x"], model=path))
    assert (model.spec.scores, model.adds_up) == ("probabilities", False)
    assert model.sha256 == read_model_file(path).sha256


# What cannot be used ends in one line, before any image is looked for


def two_inputs() -> Any:
    model = linear()
    model.graph.input.append(value("mask", ["n", 10]))
    return model


NOISE = [
    helper.make_node("RandomNormalLike", ["scores"], ["noise"]),
    helper.make_node("Add", ["scores", "noise"], ["y"]),
]
OF_THE_BATCH = [
    helper.make_node("ReduceMean", ["scores"], ["mean"], axes=[0], keepdims=1),
    helper.make_node("Sub", ["scores", "mean"], ["y"]),
]
REFUSED: dict[str, tuple[Any, str]] = {
    "two inputs": (two_inputs, "takes 2 inputs, x and mask"),
    "custom operator": (
        lambda: linear(
            GREY, helper.make_node("Magic", ["scores"], ["y"], domain="mine"), domains=["mine"]
        ),
        "Magic",
    ),
    "unknown operator": (
        lambda: linear(GREY, helper.make_node("Magic", ["scores"], ["y"])),
        "Magic",
    ),
    "not a number": (lambda: linear(scale=np.nan), "not finite"),
    "random": (lambda: linear(GREY, *NOISE), "answers differently each time"),
    "of the batch": (lambda: linear(GREY, *OF_THE_BATCH), "depend on the other images"),
    "pictures": (
        lambda: linear(GREY, outputs=[value("float", GREY)]),
        "returns [20, 1, 28, 28] for 20 images",
    ),
    "wrong side": (
        lambda: linear(("n", 1, "h", "w"), before=[
            helper.make_node("Resize", ["float", "", "scales"], ["taken"], mode="nearest")
        ], initializer=[weights("scales", np.array([1, 1, 2, 2], np.float32))]),
        "ONNX Runtime cannot run the model",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_graph_that_cannot_be_used_is_one_line(
    tmp_path: Path, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    make, said = REFUSED[kind]
    error = refused(saved(tmp_path, make()))
    assert isinstance(error, CheckpointError)
    assert error.exit_code == 65
    assert said in error.problem
    assert "own.onnx" in error.problem
    assert capfd.readouterr() == ("", "")  # not even of ONNX Runtime's own


@pytest.mark.parametrize(
    ("declared", "remedy"),
    [
        ({"input_size": 32}, "declare --input-size 28"),
        ({"channels": 3}, "declare --channels 1"),
        ({"layout": "nhwc"}, "declare --layout nchw"),
    ],
)
def test_declaration_that_conflicts_with_the_graph_is_wrong_usage(
    tmp_path: Path, declared: dict[str, Any], remedy: str
) -> None:
    error = refused(saved(tmp_path, linear()), **declared)
    assert isinstance(error, UsageError)
    assert "the model takes x float32[n, 1, 28, 28], and not [images, " in error.problem
    assert error.remedy == remedy


def test_bytes_cannot_be_scaled(tmp_path: Path) -> None:
    path = saved(tmp_path, linear(dtype=TensorProto.UINT8, scale=BYTES))
    for declared in ({"range": "0-1"}, {"mean": 0.5, "std": 0.5}):
        assert isinstance(refused(path, **declared), UsageError)
    assert len(predicted(path, range="0-255")) == 100


# A graph may run for ever; a signal ends it


def looping(condition: str) -> Any:
    """A linear network that first computes nothing as long as the ``condition`` holds.

    That is ``always``, or ``dark``: no pixel of the batch is light.
    """
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["still"]),
            helper.make_node("Identity", ["before"], ["behind"]),
        ],
        "body",
        [value("number", [], TensorProto.INT64), value("going", [], BOOL), value("before", None)],
        [value("still", [], BOOL), value("behind", None)],
    )
    return linear(
        before=[
            helper.make_node("ReduceMax", ["float"], ["light"], keepdims=0),
            helper.make_node("Less", ["light", "half"], ["dark"]),
            helper.make_node("Less", ["light", "two"], ["always"]),
            helper.make_node("Loop", ["", condition, "float"], ["taken"], body=body),
        ],
        initializer=[weights("half", np.float32(0.5)), weights("two", np.float32(2))],
    )


# Says when ONNX Runtime begins to run the graph.
TALKATIVE = """
import sys
from batchdigit.backends import own_onnx
from batchdigit.cli.app import main

run = own_onnx.Graph._run

def said(self, names, pixels, options):
    dark = "dark" if pixels.max() == 0 else "light"
    print(f"runs on {dark} images", file=sys.stderr, flush=True)
    return run(self, names, pixels, options)

own_onnx.Graph._run = said
main()
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize(("condition", "image"), [("always", "light"), ("dark", "dark")])
def test_signal_ends_a_graph_that_runs_for_ever(
    tmp_path: Path, name: str, condition: str, image: str
) -> None:
    """Be it when it is tried on known digits, or later."""
    (tmp_path / "images").mkdir()
    Image.new("L", (28, 28)).save(tmp_path / "images" / "black.png")
    saved(tmp_path, looping(condition), "loop.onnx")
    command = ["run", "images", "-m", "loop.onnx", "-o", "out.csv", "--preprocess", "exact"]
    with subprocess.Popen(
        [sys.executable, "-c", TALKATIVE, *command, "--no-model-check", "-j", "0"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        try:
            for line in process.stderr:
                if line == f"runs on {image} images\n":
                    break
            assert process.poll() is None
            process.send_signal(number := getattr(signal, name))
            _, stderr = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 128 + number, stderr
    (last,) = stderr.splitlines()
    assert last.startswith(f"batchdigit: stopped by {name}; ")
    assert not (tmp_path / "out.csv").exists()


def test_graph_that_may_loop_gives_rows_where_it_does_not(
    tmp_path: Path, sixty: Path, expected: np.ndarray
) -> None:
    table = predicted(saved(tmp_path, looping("dark")), sixty)
    np.testing.assert_allclose(probabilities(table), expected, atol=1e-5)


@pytest.mark.parametrize("batch", [8, "n"])
def test_graph_may_give_more_than_rows(
    tmp_path: Path, sixty: Path, expected: np.ndarray, batch: int | str
) -> None:
    """What has no row for each image, as a sum over all of them, is left alone."""
    after = [
        helper.make_node("ReduceSum", ["scores"], ["sum"], keepdims=0),
        helper.make_node("Identity", ["scores"], ["y"]),
    ]
    outputs = [value("sum", ()), value("y", [batch, 10])]
    path = saved(tmp_path, linear((batch, 1, 28, 28), *after, outputs=outputs))
    assert np.allclose(probabilities(predicted(path, sixty)), expected, atol=1e-4)


def test_constants_are_not_computed_before_a_graph_was_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That happens while it is opened, which no signal would end."""
    opened: list[Sequence[str]] = []
    session = OnnxBackend._session

    def recorded(self: OnnxBackend, data: bytes, without: Sequence[str] = ()) -> Any:
        opened.append(without)
        return session(self, data, without)

    monkeypatch.setattr(OnnxBackend, "_session", recorded)
    path = tmp_path / "model.onnx"
    path.write_bytes(linear().SerializeToString())
    OnnxBackend().load(read_model_file(path), Job(".", model=path))
    assert opened == [["ConstantFolding"], ()]
