"""Trying how images are given to a model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from batchdigit import CheckpointError, Job, SourceError, UsageError
from batchdigit.backends.declarations import Counted
from batchdigit.doctor.declaring import FITS, Tried, declared, try_declarations
from batchdigit.modelfiles.declaration import Declaration
from batchdigit.models.described import tomllib
from batchdigit.models.digits import packaged_digits
from batchdigit.models.spec import InputSpec
from tests.support import own_code
from tests.support.modelfiles import saved, trained_on
from tests.support.own_models import network, own, saved_weights

Prepare = Callable[[Tensor], Tensor]


def tried(source: Path | None = None, **options: Any) -> Tried:
    return try_declarations(Job(source or ".", **options), with_source=source is not None)


def linear(folder: Path, prepare: Prepare, **options: Any) -> Tried:
    """What fits a linear network that was trained on what ``prepare`` makes of pixels of 0 to 1."""
    weights = saved_weights(folder, own("Linear", prepare))
    return tried(model=weights, network=network("Linear"), **options)


def test_packaged_model_needs_no_declaration() -> None:
    found = tried()
    assert found.fits
    assert declared(found.best) == Declaration()
    assert found.model_toml() == 'weights = "CNN.pt"'
    assert found.images == "1000 known digits"


@pytest.mark.parametrize(
    ("prepare", "expected"),
    [
        (lambda pixels: pixels.mT, {"transpose": True}),
        (lambda pixels: 1 - pixels, {"expects": "dark-on-light"}),
    ],
    ids=["transposed", "dark"],
)
def test_what_changes_the_image_itself_is_found(
    tmp_path: Path, prepare: Prepare, expected: dict[str, object]
) -> None:
    found = linear(tmp_path, prepare)
    given = declared(found.best).given()
    assert expected.items() <= given.items()
    assert not {"transpose", "expects"} & given.keys() - expected.keys()
    assert found.best.right >= 0.9 * found.best.of
    assert found.as_json()["best"]["input"] == given


@pytest.mark.parametrize(("mean", "std"), [(0.1307, 0.3081), (0.5, 0.5)])
def test_numbers_of_a_training_are_found(tmp_path: Path, mean: float, std: float) -> None:
    found = tried(model=saved(tmp_path / "CNN.pt", trained_on(mean, std)))
    assert declared(found.best).given() == {"mean": (mean,), "std": (std,)}
    assert tomllib.loads(found.model_toml()) == {
        "weights": "CNN.pt",
        "input": {"mean": [mean], "std": [std]},
    }


ODD_NAMES = ["😀.pt", 'a"b\\c.pt', "tab\t\x7f\x1b\n.pt", "é\u2028.pt", "\udce9.pt"]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_are_toml_all_the_same(name: str) -> None:
    counted = Counted(InputSpec(), right=1, of=1, confidence=1.0, likelihood=1.0)
    found = Tried(Path(name), None, "x", 1, "logits", counted, (counted,), ("😀", "\x7f"), None)
    text = found.model_toml()
    weights = {} if name == "\udce9.pt" else {"weights": name}
    assert tomllib.loads(text.encode().decode()) == weights | {"labels": ["😀", "\x7f"]}


def test_best_is_never_worse_than_what_is_declared(tmp_path: Path) -> None:
    found = linear(tmp_path, lambda pixels: (pixels - 0.3) / 0.7, mean=0.3, std=0.7)
    at_first = next(one for one in found.counted if one.spec.mean == (0.3,))
    assert found.best.right >= 0.99 * at_first.right


class Coloured(nn.Module):
    """Takes nothing but RGB images of 32x32 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3 * 32 * 32, 10)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1:] != (3, 32, 32):
            raise ValueError(f"not {tuple(x.shape)}")
        return self.fc(x.flatten(1))  # type: ignore[no-any-return]


def test_size_and_channels_that_a_network_takes_are_found(tmp_path: Path) -> None:
    torch.manual_seed(0)
    weights = saved_weights(tmp_path, Coloured())
    found = tried(model=weights, network=f"{__file__}:Coloured")
    assert {(one.spec.size, one.spec.channels) for one in found.counted} == {((32, 32), 3)}
    declaration = declared(found.best).given()
    assert (declaration["size"], declaration["channels"]) == ((32, 32), 3)


def test_model_that_fits_nothing_has_no_best_but_all_that_was_tried(tmp_path: Path) -> None:
    own_code.script(tmp_path)
    torch.manual_seed(0)
    weights = saved_weights(tmp_path, own("Linear").__class__(), "untrained.pt")
    found = tried(model=weights, network=network("Linear"))
    assert not found.fits
    assert found.best.share < FITS
    data = found.as_json()
    assert (data["best"], data["model_toml"]) == (None, None)
    assert len(data["tried"]) == len(found.counted) > 30


def sorted_digits(folder: Path, names: list[str], count: int = 60) -> Path:
    for number, pixels in enumerate(packaged_digits()[:count, 0]):
        if names[number % 10]:
            (folder / names[number % 10]).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / names[number % 10] / f"{number}.png")
    return folder


def test_labels_that_are_the_digits_in_another_order_are_understood(tmp_path: Path) -> None:
    module = own("Linear")
    backwards = {name: value.flip(0) for name, value in module.state_dict().items()}
    torch.save(backwards, tmp_path / "own.pt")
    options: dict[str, Any] = {"model": tmp_path / "own.pt", "network": network("Linear")}
    labels = tuple("9876543210")
    assert not tried(**options).fits
    assert tried(**options, labels=labels).best.share > 0.9
    folder = sorted_digits(tmp_path / "sorted", list("0123456789"))
    assert tried(folder, **options, labels=labels).best.share > 0.9
    assert "labels" in tomllib.loads(tried(**options, labels=labels).model_toml())


def test_some_of_the_classes_are_enough(tmp_path: Path) -> None:
    folder = sorted_digits(tmp_path / "sorted", ["", "1", "2", "", "", "5", "", "", "", ""])
    for name in ("more", "7"):  # no class, and one without images
        (folder / name).mkdir()
    weights = saved_weights(tmp_path)
    found = tried(folder, model=weights, network=network("Linear"))
    assert (found.images, found.best.of) == (f"18 images in {folder}", 18)


def test_images_are_prepared_as_a_run_prepares_them(tmp_path: Path) -> None:
    """Here they are larger, and dark on light."""
    folder = tmp_path / "sorted"
    for number, pixels in enumerate(packaged_digits()[:40, 0]):
        (folder / str(number % 10)).mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(255 - pixels).resize((90, 90))
        image.save(folder / str(number % 10) / f"{number}.png")
    found = tried(folder)
    assert declared(found.best) == Declaration()
    assert found.best.share > 0.9


@pytest.mark.parametrize("exact", [True, False])
def test_preprocessing_is_told_where_it_is_not_the_usual(tmp_path: Path, *, exact: bool) -> None:
    found = linear(tmp_path, lambda pixels: pixels, preprocess="exact" if exact else None)
    assert tomllib.loads(found.model_toml()).get("fit") == ("exact" if exact else None)


def test_preprocessing_of_labels_that_are_no_digits_is_usual(tmp_path: Path) -> None:
    labels = ("zero", *"abcdefghi")
    assert linear(tmp_path, lambda pixels: pixels, labels=labels).preprocess is None


@pytest.mark.parametrize("make", ["missing", "file", "empty"])
def test_source_without_such_folders_is_an_error_with_its_remedy(tmp_path: Path, make: str) -> None:
    source = tmp_path / "source"
    if make == "file":
        source.write_text("words")
    elif make == "empty":
        source.mkdir()
    with pytest.raises(SourceError, match="source") as caught:
        tried(source)
    assert "name " in caught.value.remedy


def test_classes_that_nobody_names_are_an_error(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "model": own_code.letters(tmp_path),
        "network": f"{tmp_path / 'net.py'}:Letters",
    }
    with pytest.raises(UsageError, match="26 classes, and none is known to be a digit"):
        tried(**options)


def test_model_that_takes_nothing_is_an_error(tmp_path: Path) -> None:
    weights = saved_weights(tmp_path)
    with pytest.raises(CheckpointError, match="out of order"):
        tried(model=weights, network=network("Raises"))
