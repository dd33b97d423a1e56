"""Models trained on other numbers are found out by digits whose labels are known."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from batchdigit import Job
from batchdigit.backends import known_digits
from batchdigit.backends.choice import open_backend
from batchdigit.backends.known_digits import KnownDigits, check_model, complaint
from batchdigit.errors import DeviceError
from batchdigit.job import PACKAGED_WEIGHTS
from batchdigit.modelfiles.file import read_model_file
from batchdigit.models.spec import MNIST
from tests.support import oracle
from tests.support.modelfiles import saved, trained_on

BACKENDS = ["onnxruntime", "torch"]
BYTE = 1 / 255
LETTERS = tuple("abcdefghij")
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
KINDS = {
    "normalised": ((0.1307, 0.3081), "--mean 0.1307 --std 0.3081"),
    "halved": ((0.5, 0.5), "--mean 0.5 --std 0.5"),
    "bytes": ((0.0, BYTE), "--mean 0 --std 0.0039216"),
    "inverted": ((1.0, -1.0), "--mean 1 --std -1"),
    "inverted and normalised": ((0.8693, -0.3081), "--mean 0.8693 --std -0.3081"),
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "batchdigit" / "tuning.json"


def checked(
    path: Path, *, remember: bool = False, **options: Any
) -> tuple[KnownDigits | None, str]:
    """What is known of a model file, and the complaint about it, in one line."""
    job = Job(["x"], model=path, device="cpu", **options)
    file = read_model_file(path)
    backend = open_backend(job, file)
    model = backend.load(file, job)
    known = check_model(job, backend, model, remember=remember)
    return known, "; ".join(complaint(job, model, known) or ())


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
    assert known.of == 300
    assert f"% with {flags}; " in text
    assert f" {known.right / 3:.1f}% of 300 known digits right with pixels from 0 to 1, " in text
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
    known, text = checked(PACKAGED_WEIGHTS, mean=1, std=-1)
    assert known is not None
    assert text.startswith("the packaged model reads ")
    assert text.endswith("% without; leave --mean and --std off")


def test_a_model_that_reads_well_is_looked_at_briefly(tmp_path: Path) -> None:
    path = saved(tmp_path / "CNN.pt", trained_on(0, 1))
    known, text = checked(path)
    assert known is not None
    assert known.of == 300
    assert known.best is None
    assert text == ""


def test_a_model_of_something_else_is_said_to_read_no_digits(tmp_path: Path) -> None:
    path = saved(tmp_path / "CNN.pt", trained_on(0, 1, turned=3))
    known, text = checked(path)
    assert known is not None
    assert known.right < 15
    assert "reads only" in text
    assert "--no-model-check" in text


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
    assert "--mean 1 --std -1" in checked(path, preprocess="fit")[1]
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


@pytest.mark.parametrize("value", [1, [1], [1, 0, 0], [1, 2], ["a", "b", 0], None, {}])
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
    job = Job(["x"], model=path, backend="onnxruntime")
    backend = open_backend(job, read_model_file(path))
    model = backend.load(read_model_file(path), job)
    whole = type(backend.predictor(model, 1)).predict

    def overflow(self: Any, batches: Any) -> Any:
        if self._spec.std[0] < 0.01:
            raise DeviceError("the network's output is not finite")
        return whole(self, batches)

    monkeypatch.setattr(type(backend.predictor(model, 1)), "predict", overflow)
    known = check_model(job, backend, model, remember=False)
    assert known is not None
    assert known.best is not None
    assert (known.best.mean, known.best.std) == (0.5, 0.5)


def test_the_usual_kinds_include_what_a_plain_model_takes() -> None:
    assert (MNIST.mean[0], MNIST.std[0]) == known_digits.USUAL[0]
