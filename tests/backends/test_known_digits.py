"""Models trained on other numbers are found out by digits whose labels are known."""

import io
import json
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from batchdigit import Job
from batchdigit.backends import known_digits
from batchdigit.backends.known_digits import (
    ENOUGH,
    Declared,
    KnownDigits,
    check_model,
    check_model_file,
    complaint,
)
from batchdigit.backends.opening import open_model, open_model_file
from batchdigit.errors import DeviceError
from batchdigit.job import PACKAGED_WEIGHTS
from batchdigit.modelfiles.declaration import Declaration
from tests.support import oracle
from tests.support.modelfiles import saved, trained_on
from tests.support.own_models import FILE, as_it_is, network, own, saved_weights

BACKENDS = ["onnxruntime", "torch"]
BYTE = 1 / 255
LETTERS = tuple("abcdefghij")
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
KINDS = {
    "normalised": ((0.1307, 0.3081), "--mean 0.1307 --std 0.3081"),
    "halved": ((0.5, 0.5), "--mean 0.5 --std 0.5"),
    "bytes": ((0.0, BYTE), "--range 0-255"),
    "inverted": ((1.0, -1.0), "--expects dark-on-light"),
    "inverted and normalised": (
        (0.8693, -0.3081),
        "--mean 0.1307 --std 0.3081 --expects dark-on-light",
    ),
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "batchdigit" / "tuning.json"


def checked(path: Any, *, remember: bool = False, **options: Any) -> tuple[KnownDigits | None, str]:
    """What is known of a model, and the complaint about it, in one line."""
    opened = open_model(Job(["x"], model=path, device="cpu", **options))
    known = check_model(opened, remember=remember)
    return known, "; ".join(complaint(opened, known) or ())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_numbers_that_a_model_was_trained_on_are_found_out(
    tmp_path: Path, kind: str, backend: str
) -> None:
    (mean, std), flags = KINDS[kind]
    path = saved(tmp_path / "CNN.pt", trained_on(mean, std))
    known, text = checked(path, backend=backend)
    assert known is not None
    assert known.right < 0.95 * known.of
    assert known.of == ENOUGH
    assert f"% with {flags}; " in text
    share = f"{100 * known.right / ENOUGH:.1f}% of {ENOUGH} known digits right"
    assert f" {share} with pixels from 0 to 1, " in text
    declared, nothing = checked(path, backend=backend, mean=mean, std=std)
    assert declared is not None
    assert declared.right >= 0.98 * declared.of
    assert nothing == ""


def test_no_digit_is_read_by_the_packaged_model_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_digits, "packaged_digits", None)
    assert checked(PACKAGED_WEIGHTS) == (None, "")
    link = tmp_path / "link.pt"
    link.symlink_to(PACKAGED_WEIGHTS)
    assert checked(link) == (None, "")


def test_a_false_declaration_is_warned_of() -> None:
    known, text = checked(PACKAGED_WEIGHTS, mean=0.5, std=0.5)
    assert known is not None
    assert text.startswith("the packaged model reads ")
    assert text.endswith("% without; leave --mean 0.5 --std 0.5 off")


def test_a_model_that_reads_well_is_looked_at_briefly(tmp_path: Path) -> None:
    path = saved(tmp_path / "CNN.pt", trained_on(0, 1))
    known, text = checked(path)
    assert known is not None
    assert known.of == ENOUGH
    assert known.best is None
    assert text == ""


def test_a_model_of_something_else_is_said_to_read_no_digits(tmp_path: Path) -> None:
    path = saved(tmp_path / "CNN.pt", trained_on(0, 1, turned=3))
    known, text = checked(path)
    assert known is not None
    assert known.right < 0.05 * known.of
    assert "reads only" in text
    assert "hardly more if its input is declared otherwise" in text
    assert text.endswith("if it reads other things than digits, add --labels")


@pytest.mark.parametrize(
    "options", [{"labels": LETTERS}, {"model_check": False}], ids=["labels", "off"]
)
def test_the_check_can_be_left_out(tmp_path: Path, options: dict[str, Any]) -> None:
    path = saved(tmp_path / "CNN.pt", trained_on(0.5, 0.5))
    assert checked(path, **options) == (None, "")


def test_a_model_of_eleven_classes_is_not_judged(tmp_path: Path) -> None:
    state = trained_on(0.5, 0.5)
    for name in ("fc.4.weight", "fc.4.bias"):
        state[name] = torch.cat([state[name], state[name][:1]])
    assert checked(saved(tmp_path / "CNN.pt", state)) == (None, "")


@pytest.mark.parametrize(
    ("labels", "turned"),
    [(WORDS, 0), (tuple("9012345678"), 1), ((*WORDS[1:], WORDS[0]), -1)],
)
def test_labels_say_which_digit_a_class_is(
    tmp_path: Path, labels: Sequence[str], turned: int
) -> None:
    path = saved(tmp_path / "CNN.pt", trained_on(0, 1, turned=turned))
    known, text = checked(path, labels=tuple(labels))
    assert known is not None
    assert text == ""


def test_labels_in_another_order_are_suspected_first(tmp_path: Path) -> None:
    path = saved(tmp_path / "CNN.pt", trained_on(0, 1))
    _, text = checked(path, labels=tuple("9876543210"))
    assert "reads only" in text
    assert "check that the labels are in the order of its classes" in text


def test_polarity_is_left_to_whoever_reads_images_exactly(tmp_path: Path) -> None:
    """The model of dark strokes is right there, if the images are dark on light."""
    path = saved(tmp_path / "CNN.pt", trained_on(1, -1))
    known, text = checked(path, preprocess="exact")
    assert known is not None
    assert (known.dark, text) == (True, "")
    assert "--expects dark-on-light" in checked(path, preprocess="fit")[1]
    path = saved(tmp_path / "CNN.pt", trained_on(0.8693, -0.3081))
    text = checked(path, preprocess="exact")[1]
    assert "known digits, dark on a light ground, right" in text
    assert "--mean 0.1307 --std 0.3081" in text


def test_what_was_found_is_remembered_for_each_file_and_declaration(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path / "CNN.pt", trained_on(0.5, 0.5))
    first = checked(path, remember=True)
    assert len(json.loads(cache.read_text())) == 1
    right = checked(path, remember=True, mean=0.5, std=0.5)
    assert len(json.loads(cache.read_text())) == 2
    monkeypatch.setattr(known_digits, "packaged_digits", None)  # no digit can be read any more
    assert checked(path) == first
    assert checked(path, mean=0.5, std=0.5) == right


GOOD = {"right": 1, "of": 2, "dark": False, "confidence": 0.5, "best": None}


@pytest.mark.parametrize(
    "value",
    [
        *(1, [1], [1, 0, 0], None, {}, "text", GOOD | {"of": 0}, GOOD | {"right": 0.5}),
        *(GOOD | {"confidence": 1}, GOOD | {"best": 1}, GOOD | {"best": [{}, 1]}),
        *(GOOD | {"best": [{"mean": 0.5}, 1, 0.5]}, GOOD | {"best": [{"means": 1}, 1, 0.5]}),
    ],
)
def test_a_damaged_memory_is_not_believed(tmp_path: Path, cache: Path, value: object) -> None:
    path = saved(tmp_path / "CNN.pt", trained_on(0.5, 0.5))
    found = checked(path, remember=True)
    known = json.loads(cache.read_text())
    cache.write_text(json.dumps(dict.fromkeys(known, value)))
    assert checked(path) == found


def test_nothing_is_remembered_unasked(tmp_path: Path, cache: Path) -> None:
    checked(saved(tmp_path / "CNN.pt", trained_on(0.5, 0.5)))
    assert not cache.parent.exists()


class WithAttributes(oracle.CNN):
    """A whole model with numbers of its own beside its layers."""

    def __init__(self, mean: object, std: object, state: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.load_state_dict(state)
        self.mean, self.std = mean, std


@pytest.mark.parametrize("wrap", [float, lambda number: [number], lambda number: (number,)])
def test_numbers_that_a_whole_model_carries_are_tried(tmp_path: Path, wrap: Any) -> None:
    model = WithAttributes(wrap(0.9), wrap(0.07), trained_on(0.9, 0.07))
    path = saved(tmp_path / "CNN.pt", model)
    known, text = checked(path, class_name="WithAttributes")
    assert known is not None
    assert "% with --mean 0.9 --std 0.07; " in text
    _, text = checked(path, class_name="WithAttributes", labels=LETTERS)
    assert "carries a mean and a std, which nothing applies" in text
    assert "--mean 0.9 --std 0.07" in text
    for declared in ({"mean": 0.9, "std": 0.07}, {"mean": 0, "std": 1}):
        assert checked(path, class_name="WithAttributes", labels=LETTERS, **declared)[1] == ""


@pytest.mark.parametrize(
    ("mean", "std"),
    [(0.5, None), ("0.5", "0.5"), (0.5, 0), (float("nan"), 1.0), ([0.1, 0.2], [1.0, 1.0]),
     pytest.param(10**5000, 1, id="huge"), (True, True)],
)  # fmt: skip
def test_attributes_that_are_no_numbers_say_nothing(
    tmp_path: Path, mean: object, std: object
) -> None:
    model = WithAttributes(mean, std, trained_on(0, 1))
    path = saved(tmp_path / "CNN.pt", model)
    assert checked(path, class_name="WithAttributes", labels=LETTERS) == (None, "")


def test_numbers_too_large_for_a_precision_are_read_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in fp16, where the pixels of another kind of input may overflow."""
    path = saved(tmp_path / "CNN.pt", trained_on(0.5, 0.5))
    opened = open_model(Job(["x"], model=path, backend="onnxruntime"))
    kind = type(opened.backend.predictor(opened.model, 1))
    whole = kind.predict

    def overflow(self: Any, batches: Any) -> Any:
        if self._spec.range == "0-255":
            raise DeviceError("the network's output is not finite")
        return whole(self, batches)

    monkeypatch.setattr(kind, "predict", overflow)
    known = check_model(opened, remember=False)
    assert known is not None
    assert known.best is not None
    assert known.best.options == "--mean 0.5 --std 0.5"


# Networks of the user's own


def negative(pixels: torch.Tensor) -> torch.Tensor:
    return 1 - pixels


def as_bytes(pixels: torch.Tensor) -> torch.Tensor:
    return pixels * 255


def turned(pixels: torch.Tensor) -> torch.Tensor:
    return pixels.mT


TRAINED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "plain": (as_it_is, {}, ""),
    "inverted": (negative, {"expects": "dark-on-light"}, "--expects dark-on-light"),
    "bytes": (as_bytes, {"range": "0-255"}, "--range 0-255"),
    "transposed": (turned, {"transpose": True}, "--transpose"),
}
WRONG = {"plain": {"mean": 0.5, "std": 0.5}}


@pytest.mark.parametrize("kind", TRAINED)
def test_own_network_is_warned_of_only_if_it_is_wrongly_declared(kind: str) -> None:
    prepare, declared, flags = TRAINED[kind]
    module = own("Linear", prepare=prepare)
    known, nothing = checked(module, **declared)
    assert known is not None
    assert known.is_fine
    assert nothing == ""
    known, text = checked(module, **WRONG.get(kind, {}))
    assert known is not None
    assert not known.is_fine
    if flags:
        assert f"% with {flags}; give these options instead" in text
    else:
        assert text.endswith("% without; leave --mean 0.5 --std 0.5 off")


def test_confidence_that_collapses_is_warned_of_though_labels_are_right() -> None:
    """Without a bias, a linear network gives smaller numbers the same label, less surely."""
    module = own("Linear", prepare=as_it_is)
    with torch.no_grad():
        module.fc.bias.zero_()
        module.fc.weight /= 255
    known, text = checked(module)
    assert known is not None
    assert known.best is not None
    assert known.right == known.best.right >= 0.95 * known.of
    assert known.confidence < 0.2
    assert re.search(r"digits \(mean confidence 0\.1\d\) right with pixels from 0 to 1, but ", text)
    assert "% (1.00) with --range 0-255; give these options" in text
    assert checked(module, range="0-255")[1] == ""


def test_own_network_in_onnx_is_checked_alike(tmp_path: Path) -> None:
    model = onnx_of(own("Linear", prepare=negative))
    path = tmp_path / "own.onnx"
    path.write_bytes(model)
    assert "% with --expects dark-on-light; give these options" in checked(path)[1]
    assert checked(path, expects="dark-on-light")[1] == ""


def onnx_of(module: torch.nn.Module) -> bytes:
    """The network as its author would export it."""
    stream: Any = io.BytesIO()
    example = torch.zeros(2, 1, 28, 28)
    names: Any = {"input_names": ["x"], "dynamic_axes": {"x": {0: "n"}}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (example,), stream, dynamo=False, **names)
    return bytes(stream.getvalue())


def test_memory_is_of_the_code_the_weights_and_the_declaration(tmp_path: Path, cache: Path) -> None:
    path, copy = saved_weights(tmp_path), tmp_path / "mine.py"
    other = saved_weights(tmp_path, own("Linear", prepare=negative), name="other.pt")
    copy.write_text(f"{FILE.read_text()}\n# changed\n")
    models: list[tuple[Any, dict[str, Any]]] = [
        (path, {"network": network("Linear")}),
        (other, {"network": network("Linear")}),
        (path, {"network": network("Softmax")}),
        (path, {"network": network("Softmax"), "scores": "logits"}),
        (path, {"network": network("Linear"), "mean": 0.1, "std": 1.0}),
        (path, {"network": f"{copy}:Linear"}),
        (own("Linear"), {}),
        (own("Softmax"), {}),
    ]
    for number, (model, options) in enumerate(models, start=1):
        for _ in range(2):
            checked(model, remember=True, **options)
            assert len(json.loads(cache.read_text())) == number


def test_check_of_a_file_also_gives_the_model_and_remembers_nothing(
    tmp_path: Path, cache: Path
) -> None:
    path = saved_weights(tmp_path, own("Linear", prepare=negative))
    job = Job(["x"], model=path, network=network("Linear"), device="cpu")
    job, file = open_model_file(job)
    opened, known = check_model_file(job, file)
    assert opened.model.classes == 10
    assert known is not None
    assert known.best is not None
    assert known.best.options == "--expects dark-on-light"
    assert not cache.exists()


@pytest.mark.parametrize(
    ("right", "confidence", "best", "fine"),
    [
        (1000, 0.9, None, True),
        (950, 0.9, None, True),
        (949, 0.9, None, False),
        (960, 0.9, Declared(Declaration(range="0-255"), 969, 0.9), True),
        (960, 0.9, Declared(Declaration(range="0-255"), 970, 0.9), False),
        (960, 0.5, Declared(Declaration(range="0-255"), 960, 0.7), False),
        (960, 0.5, Declared(Declaration(range="0-255"), 959, 0.7), True),
        (100, 0.5, Declared(Declaration(range="0-255"), 400, 0.7), False),
    ],
)
def test_what_is_fine_is_right_and_not_clearly_better_otherwise(
    right: int, confidence: float, best: Declared | None, fine: bool
) -> None:
    known = KnownDigits(right, 1000, best=best, confidence=confidence)
    assert known.is_fine is fine
    assert known.is_much_better is (best is not None and not fine and best.right >= 500)
    assert (known.as_json()["better"] is not None) is known.is_much_better
