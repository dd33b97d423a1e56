"""What stands beside a model says how images are given to it, and runs nothing."""

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batchdigit.errors import CheckpointError
from batchdigit.modelfiles.declaration import Declaration
from batchdigit.models.described import (
    MAX_BYTES,
    MAX_DOTS,
    MAX_TOML_BYTES,
    METADATA,
    Described,
    describe,
    from_metadata,
    read_model_toml,
)
from batchdigit.models.spec import InputSpec

EVERYTHING = """
weights = "nets/CNN.pt"
labels = ["zero", "one"]
fit = "exact"

[input]
size = [32, 28]
channels = 3
range = "0-255"
mean = [0.5, 0.4, 0.3]
std = [0.25, 0.25, 1]
expects = "dark-on-light"
layout = "nhwc"
transpose = true
place = "pad"
scores = "probabilities"
"""
DECLARED = Declaration(
    size=(32, 28),
    channels=3,
    range="0-255",
    mean=(0.5, 0.4, 0.3),
    std=(0.25, 0.25, 1.0),
    expects="dark-on-light",
    layout="nhwc",
    transpose=True,
    place="pad",
    scores="probabilities",
)


def written(folder: Path, content: str | bytes, name: str = "model.toml") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def refusal(path: Path) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        describe(path)
    assert caught.value.remedy
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700
    return caught.value


def test_everything_that_may_be_said(tmp_path: Path) -> None:
    path = written(tmp_path, EVERYTHING)
    assert read_model_toml(path) == Described(
        weights=tmp_path / "nets" / "CNN.pt",
        declaration=DECLARED,
        labels=("zero", "one"),
        fit="exact",
        by=(str(path),),
    )


def test_nothing_need_be_said(tmp_path: Path) -> None:
    assert describe(tmp_path / "CNN.pt") == Described()
    path = written(tmp_path, "\ufeff# nothing\n")
    assert read_model_toml(path) == Described(by=(str(path),))


def test_file_beside_a_model_speaks_of_it(tmp_path: Path) -> None:
    written(tmp_path, "[input]\nsize = 32\n")
    assert describe(tmp_path / "CNN.pt").declaration.size == (32, 32)
    written(tmp_path, 'weights = "CNN.pt"\n[input]\nsize = 32\n')
    assert describe(tmp_path / "CNN.pt").declaration.size == (32, 32)
    (tmp_path / "link.pt").symlink_to("CNN.pt")
    assert describe(tmp_path / "link.pt").declaration.size == (32, 32)


def test_file_that_names_other_weights_says_nothing_of_a_model(tmp_path: Path) -> None:
    written(tmp_path, 'weights = "other.pt"\nlabels = ["a"]\n[input]\nsize = 32\n')
    assert describe(tmp_path / "CNN.pt") == Described()


def test_weights_are_looked_for_beside_the_file_that_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    (folder / "weights").mkdir(parents=True)
    path = written(folder, 'weights = "weights/CNN.pt"')
    written(folder / "weights", '{"size": 32, "do_normalize": false}', "preprocessor_config.json")
    written(folder, '{"size": 64, "do_normalize": false}', "preprocessor_config.json")
    monkeypatch.chdir(tmp_path)
    for given in (path, path.relative_to(tmp_path)):
        found = describe(given)
        assert found.weights is not None
        assert found.weights.resolve() == folder / "weights" / "CNN.pt"
        assert found.declaration.size == (32, 32)
    for elsewhere in (str(tmp_path / "CNN.pt"), "../CNN.pt", "weights/../../CNN.pt"):
        written(folder, f'weights = "{elsewhere}"')
        with pytest.raises(CheckpointError, match="in this folder or below"):
            describe(path)


def test_model_given_by_its_description_has_weights(tmp_path: Path) -> None:
    error = refusal(written(tmp_path, "[input]\nsize = 32", "MINE.TOML"))
    assert "names no weights" in error.problem
    assert error.remedy == 'add weights = "CNN.pt"'
    assert "cannot read" in refusal(tmp_path / "missing.toml").problem


@pytest.mark.parametrize("text", ['labels = "names.txt"', 'labels = "lists/names.json"'])
def test_labels_may_stand_in_a_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "lists").mkdir()
    written(tmp_path, "null\neins\n", "names.txt")
    written(tmp_path, '{"1": "eins", "0": "null"}', "lists/names.json")
    written(tmp_path, text)
    assert describe(tmp_path / "CNN.pt").labels == ("null", "eins")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('labels = "missing.txt"', "cannot read the labels"),
        ('labels = ""', "no name of a file"),
        ('labels = "a\\u0000b"', "no name of a file"),
        ('labels = "../names.txt"', "in this folder or below"),
        ('labels = "/etc/passwd"', "in this folder or below"),
        ("labels = 3", "labels are not a list of names"),
        ("labels = [1, 2]", "labels are not a list of names"),
        ('labels = ["a", "a"]', "'a' is given twice"),
        ('labels = ["=1+1"]', "for a formula"),
        ("labels = {a = 1}", "labels are not a list of names"),
    ],
)
def test_labels_that_no_model_has_are_refused(tmp_path: Path, text: str, said: str) -> None:
    path = written(tmp_path, text)
    error = refusal(tmp_path / "CNN.pt")
    assert error.problem.startswith(f"{path}: ")
    assert said in error.problem


@pytest.mark.parametrize(
    "text",
    [
        'network = "net.py:Net"',
        'network = "net.py:Net"\nweigths = 3',
        "network = {file = 'net.py'}",
        "[network]\nclass = 'Net'",
    ],
)
def test_only_a_person_says_which_code_runs(tmp_path: Path, text: str) -> None:
    written(tmp_path, text)
    error = refusal(tmp_path / "CNN.pt")
    assert "names a network, which is code" in error.problem
    assert "--network FILE.py:CLASS" in error.remedy


@pytest.mark.parametrize(
    ("text", "said", "remedy"),
    [
        ('weigths = "CNN.pt"', "weigths is unknown", "write weights"),
        ('label = "names.txt"', "label is unknown", "write labels"),
        ("[inputs]\nsize = 3", "inputs is unknown", "write input"),
        ("qqqqq = 3", "qqqqq is unknown", "it may hold weights, input, labels, fit"),
        ("[input]\nsizes = 3", "input.sizes is unknown", "write size"),
        ("[input]\nstandard = 3", "input.standard is unknown", "it may hold size, channels, "),
        ("[input]\nnetwork = 3", "input.network is unknown", "it may hold size"),
        (f'[input]\n"{"x" * 50_000}" = 3', "… is unknown", "it may hold"),
        ('"a\\n\\u001b[31mb" = 3', "a [31mb is unknown", "it may hold"),
    ],
)
def test_unknown_name_is_refused_with_the_nearest(
    tmp_path: Path, text: str, said: str, remedy: str
) -> None:
    path = written(tmp_path, text)
    error = refusal(tmp_path / "CNN.pt")
    assert error.problem.startswith(f"{path}: ")
    assert said in error.problem
    assert error.remedy.startswith(remedy)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("input = 3", "input is no table"),
        ("input = [[1]]", "input is no table"),
        ("[input]\nsize = 28.0", "input.size 28.0 is no size"),
        ("[input]\nsize = 0", "input.size 0 is no size"),
        (f"[input]\nsize = 0x{'f' * 5000}", "input.size int of many digits is no size"),
        ("[input]\nmean = [0.5]", "input.mean and input.std go together"),
        ("[input]\nmean = nan\nstd = 1", "input.mean nan is no mean"),
        ("[input]\nmean = 1\nstd = inf", "input.std inf is no standard deviation"),
        ("[input]\nmean = [1, 2]\nstd = 1", "input.mean has 2 numbers"),
        ("[input]\nmean = {r = 1}\nstd = 1", "is not a number for each channel"),
        ("[input]\nlayout = 'hwc'", "input.layout 'hwc' is unknown"),
        ("[input]\nexpects = 1979-05-27", "input.expects datetime.date"),
        ("[input]\ntranspose = 'yes'", "input.transpose 'yes' is not true or false"),
        ("fit = 'always'", "fit 'always' is unknown"),
        ("fit = true", "fit True is unknown"),
        ("fit = ['auto']", "fit ['auto'] is unknown"),
        (f"fit = 0x{'f' * 5000}", "fit int of many digits is unknown"),
        ("weights = 3", "weights is no name of a file"),
        ("weights = ''", "weights is no name of a file"),
        ('weights = "a\\u0000b"', "weights is no name of a file"),
        ("weights = ['CNN.pt']", "weights is no name of a file"),
    ],
)
def test_value_of_another_kind_is_refused_with_its_name(
    tmp_path: Path, text: str, said: str
) -> None:
    path = written(tmp_path, text)
    error = refusal(tmp_path / "CNN.pt")
    assert error.problem.startswith(f"{path}: ")
    assert said in error.problem


@pytest.mark.parametrize(
    "content",
    [
        b"weights",
        b"weights = 'CNN.pt'\nweights = 'CNN.pt'",
        b'labels = ["\xff"]',
        b"a = 1\0",
        b"x = " + b"[" * 50_000,
        b"x = " + b"9" * 5_000,
        "size = 32".encode("utf-16"),
    ],
    ids=range(7),
)
def test_what_is_no_toml_is_refused(tmp_path: Path, content: bytes) -> None:
    path = written(tmp_path, content)
    assert refusal(tmp_path / "CNN.pt").problem.startswith(f"{path} is not TOML: ")


DOTS = ".".join("a" * (MAX_DOTS + 2))


@pytest.mark.parametrize(
    "text",
    [
        f"{DOTS} = 1",
        f"[{DOTS}]",
        f"[[{DOTS}]]",
        f"x = {{{DOTS} = 1}}",
        f'x = ["""\n""", {{{DOTS} = 1}}, ""]',
        f"x = ['''\n''', {{{DOTS} = 1}}, '']",
        f'x = ["""a""""", {{{DOTS} = 1}}, ""]',
        DOTS.replace("a", "'a'") + " = 1",
        f"x = 1\r\n{DOTS} = 1",
    ],
)
def test_names_of_many_parts_are_refused(tmp_path: Path, text: str) -> None:
    path = written(tmp_path, text)
    error = refusal(tmp_path / "CNN.pt")
    assert error.problem == f"{path} has more than 20 dots in a line, beside those in quotes"


def test_dots_in_quotes_and_comments_are_no_names(tmp_path: Path) -> None:
    dots = "." * 50
    text = f'# {dots}\nlabels = ["\\"{dots}", \'{dots}a\', """\n{dots}"""]  # {dots}\n'
    assert read_model_toml(written(tmp_path, text)).labels[:2] == (f'"{dots}', f"{dots}a")


@pytest.mark.parametrize(
    "text", ['"\\', '"""\\', ".".join("a" * 21) + "=1\n", "x=[", '"', "\\", "{a="]
)
def test_it_is_decided_in_little_time(tmp_path: Path, text: str) -> None:
    written(tmp_path, text * (MAX_TOML_BYTES // len(text)))
    start = time.process_time()
    refusal(tmp_path / "CNN.pt")
    assert time.process_time() - start < 2


@pytest.mark.parametrize("name", ["model.toml", "preprocessor_config.json"])
def test_what_is_no_file_of_usual_size_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    limit = MAX_TOML_BYTES if name == "model.toml" else MAX_BYTES
    path.write_bytes(b" " * (limit + 1))
    assert refusal(tmp_path / "CNN.pt").problem == f"{path} is larger than {limit >> 10} KiB"
    path.unlink()
    os.mkfifo(path)
    assert f"cannot read {path}" in refusal(tmp_path / "CNN.pt").problem
    path.unlink()
    path.mkdir()
    assert f"cannot read {path}" in refusal(tmp_path / "CNN.pt").problem
    path.rmdir()
    path.symlink_to("nowhere")
    assert f"cannot read {path}" in refusal(tmp_path / "CNN.pt").problem


def metadata(content: object) -> Described:
    return from_metadata(Path("CNN.onnx"), {METADATA: content, "format": "pt"})  # type: ignore[dict-item]


def test_metadata_says_the_same_as_json() -> None:
    found = metadata(
        json.dumps({"labels": ["zero", "one"], "fit": "exact", "input": DECLARED.given()})
    )
    assert (found.labels, found.fit, found.declaration) == (("zero", "one"), "exact", DECLARED)
    (by,) = found.by
    assert "CNN.onnx" in by
    assert found.weights is None
    assert from_metadata(Path("CNN.onnx"), {"format": "pt"}) == Described()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ('{"fit": "auto", "fit": "exact"}', "stands twice"),
        ("[" * 100_000, "is not JSON"),
        ("9" * 5_000, "is not JSON"),
        (5, "is not JSON"),
        (None, ""),
        ({"fit": "auto"}, "is not JSON"),
        ("[1]", "is no JSON object"),
        ('{"labels": "names.txt"}', "labels are not a list of names"),
        ('{"network": "net.py:Net"}', "network is unknown"),
        ('{"input": {"mean": NaN, "std": 1}}', "is no mean"),
        ('{"input": {"mean": 1e999, "std": 1}}', "is no mean"),
        ('{"input": null}', "input is no table"),
    ],
    ids=range(14),
)
def test_metadata_that_says_nothing_sensible_is_refused(content: object, said: str) -> None:
    if not said:
        assert metadata(content) == Described()
        return
    with pytest.raises(CheckpointError) as caught:
        metadata(content)
    assert "the metadata batchdigit.model of the model CNN.onnx" in caught.value.problem
    assert said in caught.value.problem


def test_metadata_names_no_file_with_weights() -> None:
    """Somebody who gives a file means that file."""
    with pytest.raises(CheckpointError, match="weights is unknown"):
        metadata('{"weights": "other.pt"}')


VIT = {
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.5, 0.4, 0.3],
    "image_processor_type": "ViTImageProcessor",
    "image_std": [0.5, 0.25, 0.2],
    "resample": 2,
    "rescale_factor": 0.00392156862745098,
    "size": {"height": 224, "width": 200},
}


def processed(folder: Path, **changed: Any) -> Declaration:
    settings = {name: value for name, value in (VIT | changed).items() if value is not ...}
    path = written(folder, json.dumps(settings), "preprocessor_config.json")
    found = describe(folder / "model.safetensors")
    assert found.by == (str(path),)
    return found.declaration


def by_hand(settings: dict[str, Any], pixels: np.ndarray) -> np.ndarray:
    """What Hugging Face's processors do to uint8[3, H, W] after resizing."""
    numbers = pixels.astype(np.float64)
    if settings["do_rescale"]:
        numbers = numbers * settings["rescale_factor"]
    if settings["do_normalize"]:
        mean, std = (
            np.array(settings[name])[:, None, None] for name in ("image_mean", "image_std")
        )
        numbers = (numbers - mean) / std
    return numbers


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"do_rescale": False},
        {"do_normalize": False},
        {"do_rescale": False, "do_normalize": False},
        {"rescale_factor": 1 / 127.5},
        {"image_mean": [0.5] * 3, "image_std": [0.5] * 3},
    ],
)
def test_processor_gives_the_numbers_that_hugging_faces_would(
    tmp_path: Path, changed: dict[str, Any]
) -> None:
    declared = processed(tmp_path, **changed)
    assert declared.size == (224, 200)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 224, 200), dtype=np.uint8)
    spec = InputSpec.declared(declared.over(Declaration(channels=3)))
    found = spec.prepare(pixels[None].astype(np.float64))[0]
    np.testing.assert_allclose(found, by_hand(VIT | changed, pixels), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("changed", "size"),
    [
        ({"size": 32}, (32, 32)),
        ({"size": [32, 28]}, (32, 28)),
        ({"size": {"shortest_edge": 32}}, (32, 32)),
        ({"do_center_crop": True, "crop_size": {"height": 224, "width": 200}}, (224, 200)),
        ({"do_center_crop": True, "crop_size": 24, "size": {"shortest_edge": 24}}, (24, 24)),
        ({"do_center_crop": True, "crop_size": [24, 24], "size": 24}, (24, 24)),
        ({"do_center_crop": True, "crop_size": 24, "do_resize": False}, (24, 24)),
        ({"do_center_crop": False, "crop_size": 24, "size": 32}, (32, 32)),
        ({"do_resize": False}, None),
        ({"size": ...}, None),
    ],
)
def test_processor_says_which_size_its_images_get(
    tmp_path: Path, changed: dict[str, Any], size: tuple[int, int] | None
) -> None:
    assert processed(tmp_path, **changed).size == size


def test_processor_has_a_mean_for_each_channel(tmp_path: Path) -> None:
    assert processed(tmp_path).channels == 3
    assert processed(tmp_path, image_mean=[0.1307], image_std=[0.3081]).channels == 1
    assert processed(tmp_path, image_mean=0.1307, image_std=0.3081).mean == (0.1307,)
    assert processed(tmp_path, do_normalize=False).channels is None
    assert processed(tmp_path, do_normalize=..., image_mean=..., image_std=...).mean == (0.0,)
    assert processed(tmp_path, do_normalize=...).mean == pytest.approx((0.5, 0.4, 0.3))


@pytest.mark.parametrize(
    "changed",
    [
        {"rescale_factor": 0},
        {"rescale_factor": None},
        {"rescale_factor": "a"},
        {"image_mean": ...},
        {"image_std": ...},
        {"image_std": [0, 0, 0]},
        {"image_mean": [0.5, 0.5]},
        {"image_mean": None},
        {"image_mean": [10**400] * 3},
        {"image_mean": {"r": 1}},
        {"size": {"longest_edge": 32}},
        {"size": "large"},
        {"size": -1},
    ],
)
def test_processor_of_odd_settings_is_refused(tmp_path: Path, changed: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match="preprocessor_config.json.*move it away"):
        processed(tmp_path, **changed)


@pytest.mark.parametrize(
    "changed",
    [
        {"do_flip_channel_order": True},
        {"rescale_offset": True},
        {"rescale_offset": -1},
        {"do_center_crop": True, "crop_size": 224, "size": {"shortest_edge": 256}},
        {"do_center_crop": True, "crop_size": {"height": 24, "width": 20}},
    ],
)
def test_processor_that_does_what_is_not_done_here_is_refused(
    tmp_path: Path, changed: dict[str, Any]
) -> None:
    with pytest.raises(CheckpointError, match=r"move it away, and declare .* in model\.toml"):
        processed(tmp_path, **changed)


def test_processor_says_the_range_that_its_numbers_are_for(tmp_path: Path) -> None:
    assert processed(tmp_path).range == "0-1"
    kept = processed(tmp_path, do_flip_channel_order=False, rescale_offset=False)
    assert kept == processed(tmp_path)


@pytest.mark.parametrize("content", ["", "[]", "null", '{"a": 1, "a": 2}', "[" * 100_000, "{}x"])
def test_what_is_no_processor_is_refused(tmp_path: Path, content: str) -> None:
    path = written(tmp_path, content, "preprocessor_config.json")
    assert refusal(tmp_path / "CNN.pt").problem.startswith(f"{path} is not JSON of a processor")


def test_description_comes_before_a_processor(tmp_path: Path) -> None:
    path = written(tmp_path, "[input]\nsize = 32\n")
    other = written(tmp_path, json.dumps(VIT), "preprocessor_config.json")
    found = describe(tmp_path / "CNN.pt")
    assert (found.declaration.size, found.declaration.channels) == ((32, 32), 3)
    assert found.by == (str(path), str(other))


def test_what_is_said_first_counts() -> None:
    one = Described(labels=("a",), declaration=Declaration(channels=3), by=("one",))
    other = Described(weights=Path("x"), labels=("b",), fit="fit", by=("other",))
    assert one.over(other) == Described(
        weights=Path("x"),
        labels=("a",),
        fit="fit",
        declaration=Declaration(channels=3),
        by=("one", "other"),
    )


def test_metadata_comes_before_a_processor_and_after_a_description(tmp_path: Path) -> None:
    written(tmp_path, '{"size": 64, "do_normalize": false}', "preprocessor_config.json")
    said = from_metadata(tmp_path / "CNN.pt", {METADATA: '{"input": {"size": 32}}'})
    assert describe(tmp_path / "CNN.pt", said).declaration.size == (32, 32)
    assert describe(tmp_path / "CNN.pt").declaration.size == (64, 64)
    written(tmp_path, "[input]\nsize = 40\n")
    assert describe(tmp_path / "CNN.pt", said).declaration.size == (40, 40)
