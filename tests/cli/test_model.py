"""``batchdigit model``: exit codes, and where its output goes."""

import csv
import json
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import batchdigit
from batchdigit.errors import BatchdigitError
from batchdigit.job import PACKAGED_WEIGHTS
from batchdigit.models.digits import packaged_digits
from batchdigit.system import regular
from tests.strangers import trained
from tests.strangers.catalogue import STRANGERS
from tests.support import own_code
from tests.support.modelfiles import saved, trained_on
from tests.support.odd_networks import Linear
from tests.support.own_models import own, saved_weights
from tests.support.programs import app
from tests.support.samples import SAMPLES

runner = CliRunner()
GOOD = batchdigit.CNN().state_dict()


def test_inspection_of_a_good_file_ends_with_0() -> None:
    done = runner.invoke(app, ["model", "inspect", str(PACKAGED_WEIGHTS)])
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{PACKAGED_WEIGHTS}\n")
    as_json = runner.invoke(app, ["model", "inspect", str(PACKAGED_WEIGHTS), "--json"])
    assert json.loads(as_json.stdout)["classes"] == 10


@pytest.mark.parametrize("content", [None, b"", b"hello"], ids=["missing", "empty", "text"])
def test_inspection_of_a_file_that_a_run_would_refuse_ends_with_65(
    tmp_path: Path, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "CNN.pt").write_bytes(content)
    done = runner.invoke(app, ["model", "inspect", str(tmp_path / "CNN.pt")])
    assert done.exit_code == 65
    assert "CNN.pt" in done.stdout + done.stderr


def test_conversion_writes_a_file_and_says_so(tmp_path: Path) -> None:
    target = tmp_path / "CNN.safetensors"
    done = runner.invoke(app, ["model", "convert", str(PACKAGED_WEIGHTS), str(target)])
    assert (done.exit_code, done.stdout) == (0, "")
    assert "checked: " in done.stderr
    assert target.stat().st_size > 1_000_000


class Config:
    """The settings of a training, of a class that nobody else knows."""


def test_inspection_lists_what_is_beside_the_weights_and_how_to_choose(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    averaged = {name: tensor + 1 for name, tensor in GOOD.items()}
    torch.save({"model": GOOD, "ema": {"model": averaged}, "config": Config()}, path)
    refused = runner.invoke(app, ["model", "inspect", str(path)])
    assert refused.exit_code == 65
    assert re.search("keys +model, ema.model\n", refused.stdout)
    assert "holds several models, under model, ema.model" in refused.stdout
    assert "REFUSED" not in refused.stdout
    taken = runner.invoke(app, ["model", "inspect", str(path), "--key", "ema"])
    assert taken.exit_code == 0
    assert re.search(rf"{__name__}.Config +unknown, not called\n", taken.stdout)
    wrong = runner.invoke(app, ["model", "inspect", str(path), "--key", "best", "--json"])
    assert wrong.exit_code == 65
    assert json.loads(wrong.stdout)["remedy"] == (
        "choose from model, ema.model, or leave the key out"
    )


@pytest.mark.parametrize("ending", ["pt", "safetensors", "onnx"])
def test_conversion_takes_the_model_that_the_key_leads_to(tmp_path: Path, ending: str) -> None:
    path, target = tmp_path / "last.pt", tmp_path / f"ema.{ending}"
    averaged = GOOD | {"fc.4.bias": GOOD["fc.4.bias"] + 1}
    torch.save({"model": GOOD, "ema": averaged}, path)
    done = runner.invoke(app, ["model", "convert", str(path), str(target), "--key", "ema"])
    assert done.exit_code == 0, done.stderr
    if ending == "onnx":
        refused = runner.invoke(app, ["model", "inspect", str(target), "--key", "ema"])
        assert "is an ONNX file, which holds one model; leave the key out" in refused.stdout
    else:
        state = batchdigit.load_checkpoint(target).state
        assert torch.equal(state["fc.4.bias"], averaged["fc.4.bias"])


@pytest.mark.parametrize(
    ("name", "code"), [("CNN.xyz", 2), ("there.safetensors", 73), ("no/CNN.pt", 73)]
)
def test_target_that_cannot_be_written_is_one_line(tmp_path: Path, name: str, code: int) -> None:
    (tmp_path / "there.safetensors").write_text("old")
    done = runner.invoke(app, ["model", "convert", str(PACKAGED_WEIGHTS), str(tmp_path / name)])
    assert (done.exit_code, done.stdout) == (code, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("batchdigit: ")
    assert (tmp_path / "there.safetensors").read_text() == "old"


@pytest.mark.parametrize("arguments", [["inspect"], ["convert", "a.pt"], ["inspect", "a", "--no"]])
def test_wrong_usage_ends_with_2(arguments: list[str]) -> None:
    assert runner.invoke(app, ["model", *arguments]).exit_code == 2


def test_inspection_says_how_many_known_digits_are_read_right(tmp_path: Path) -> None:
    path = saved(tmp_path / "CNN.pt", trained_on(0.5, 0.5))
    done = runner.invoke(app, ["model", "inspect", str(path)])
    assert done.exit_code == 0
    assert " of 1000 read right\n" in done.stdout
    assert "% with --mean 0.5 --std 0.5; " in done.stderr
    declared = runner.invoke(
        app, ["model", "inspect", str(path), "--json", "--mean", "0.5", "--std", "0.5"]
    )
    assert declared.stderr == ""
    assert json.loads(declared.stdout)["known_digits"]["of"] == 1000
    unchecked = runner.invoke(app, ["model", "inspect", str(path), "--no-model-check"])
    assert (unchecked.exit_code, unchecked.stderr) == (0, "")
    assert "read right" not in unchecked.stdout


def test_inspection_reads_the_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or what is said of it could be of two files."""
    path = saved(tmp_path / "CNN.pt", trained_on(0.5, 0.5))
    read: list[object] = []

    def read_regular(*arguments: Any, **options: Any) -> Any:
        read.append(arguments)
        return regular.read_regular(*arguments, **options)

    monkeypatch.setattr("batchdigit.modelfiles.file.read_regular", read_regular)
    done = runner.invoke(app, ["model", "inspect", str(path)])
    assert " of 1000 read right\n" in done.stdout
    assert len(read) == 1


def test_inspection_without_any_backend_says_that_no_digits_were_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_backend(*_arguments: object) -> None:
        raise BatchdigitError("cannot load PyTorch", "pip install torch")

    monkeypatch.setattr("batchdigit.backends.known_digits.open_backend", no_backend)
    path = saved(tmp_path / "CNN.pt", trained_on(0.5, 0.5))
    done = runner.invoke(app, ["model", "inspect", str(path)])
    assert done.exit_code == 0
    assert "no known digits were read: cannot load PyTorch" in done.stderr


def checked(*arguments: str | Path, code: int = 0) -> Any:
    done = runner.invoke(app, ["model", "check", *map(str, arguments)])
    assert done.exit_code == code, done.output
    return done


def one_line_of(done: Any) -> str:
    """What is wrong, where there is nothing else to say."""
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("batchdigit: ")
    assert "; " in line
    return line


def sorted_into(folder: Path, names: Sequence[str]) -> Path:
    """A hundred known digits in subfolders, those of each class in one with its name."""
    for number, pixels in enumerate(packaged_digits()[:100, 0]):
        (folder / names[number % 10]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / names[number % 10] / f"{number}.png")
    return folder


HALF = ["--mean", "0.5", "--std", "0.25"]


@pytest.fixture
def half(tmp_path: Path) -> list[str]:
    """A user's own network, trained on Normalize(0.5, 0.25), as ``model check`` takes it."""
    own_code.script(tmp_path)
    module = own("Linear", lambda pixels: (pixels - 0.5) / 0.25)
    return [str(saved_weights(tmp_path, module)), "--network", f"{tmp_path / 'net.py'}:Net"]


def test_check_says_what_was_tried_and_what_fits(half: list[str]) -> None:
    lines = checked(*half).stdout.splitlines()
    assert lines[0].startswith(f"{half[0]} by {half[2]} on 1000 known digits; ")
    assert lines[0].endswith("its output was taken for logits")
    (best,) = (line for line in lines if line.startswith("fits best: "))
    data = json.loads(checked(*half, "--json").stdout)
    assert best.partition(",")[0] == f"fits best: {' '.join(data['best']['flags'])}"
    is_usual = data["best"] != data["tried"][0]
    assert best.endswith(", the most usual of those that hardly differ") == is_usual
    assert data["best"]["right"] >= 0.95 * data["best"]["of"]
    assert (data["model"], data["network"]) == (half[0], half[2])
    assert data["scores"] == "logits"
    assert {"flags", "input", "right", "of", "confidence"} == set(data["tried"][0])
    assert len(data["tried"]) > 12  # which are shown
    shown = [line for line in lines if re.match(r" +\d+\.\d%", line)]
    assert len(shown) == 12
    assert f"  and {len(data['tried']) - 12} more that read fewer" in lines


def test_what_check_prints_is_the_declaration_once_it_is_pasted(
    half: list[str], tmp_path: Path
) -> None:
    before = checked(*half)
    text = textwrap.dedent(before.stdout.split("or as model.toml beside the model:\n")[1])
    assert text.rstrip("\n") == json.loads(checked(*half, "--json").stdout)["model_toml"]
    (tmp_path / "model.toml").write_text(text)
    inspected = runner.invoke(app, ["model", "inspect", *half, "--json"])
    assert (inspected.exit_code, inspected.stderr) == (0, "")  # nothing to warn of
    known = json.loads(inspected.stdout)["known_digits"]
    assert known["right"] >= 0.95 * known["of"]
    flags = json.loads(checked(*half, "--json").stdout)["best"]["flags"]
    (tmp_path / "model.toml").unlink()
    inspected = runner.invoke(app, ["model", "inspect", *half, "--json", *flags])
    assert json.loads(inspected.stdout)["known_digits"] == known


def test_check_finds_what_the_author_declared(half: list[str]) -> None:
    """Among what is declared already, too."""
    data = json.loads(checked(*half, *HALF, "--json").stdout)
    assert data["best"]["flags"] == HALF


def test_check_applies_nothing(half: list[str], tmp_path: Path) -> None:
    before = sorted(path.name for path in tmp_path.iterdir())
    checked(*half)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_check_reads_a_folder_whose_subfolders_are_called_as_the_digits(
    half: list[str], tmp_path: Path
) -> None:
    folder = sorted_into(tmp_path / "sorted", "0123456789")
    data = json.loads(checked(*half, folder, "--json").stdout)
    assert data["images"] == f"100 images in {folder}"
    assert data["best"]["of"] == 100
    assert data["best"]["right"] >= 90


def test_check_reads_a_folder_whose_subfolders_are_called_as_the_labels(
    half: list[str], tmp_path: Path
) -> None:
    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    (tmp_path / "labels.txt").write_text("\n".join(names))
    folder = sorted_into(tmp_path / "sorted", names)
    labels = ["--labels", str(tmp_path / "labels.txt")]
    data = json.loads(checked(*half, folder, *labels, "--json").stdout)
    assert data["best"]["right"] >= 90
    assert f"labels = {json.dumps(names)}" in data["model_toml"]
    line = one_line_of(checked(*half, folder, code=66))
    assert "no subfolder that is called as a class of the model is; name them 0, 1, " in line
    assert "--labels" in line


@pytest.mark.parametrize("make", [None, "file", "empty", "no images"])
def test_check_of_what_is_no_folder_of_classes_ends_with_66(
    half: list[str], tmp_path: Path, make: str | None
) -> None:
    source = tmp_path / "source"
    if make == "file":
        source.write_text("words")
    elif make is not None:
        source.mkdir()
    if make == "no images":
        (source / "0").mkdir()
        (source / "0" / "readme.txt").write_text("words")
    assert "source" in one_line_of(checked(*half, source, code=66))


def test_check_of_classes_that_nobody_names_is_wrong_usage(tmp_path: Path) -> None:
    weights = own_code.letters(tmp_path)
    network = ["--network", f"{tmp_path / 'net.py'}:Letters"]
    line = one_line_of(checked(weights, *network, code=2))
    assert "the model has 26 classes, and none is known to be a digit" in line
    assert "give a SOURCE with a subfolder of images for each class, or --labels" in line


def test_check_of_letters_looks_into_the_folders_of_the_letters(tmp_path: Path) -> None:
    (letters,) = (one for one in STRANGERS if one.name == "letters")
    weights = trained.saved(letters, trained.STATE_DICT, tmp_path)
    images, truth = letters.target()
    for number in range(0, len(images), 5):
        folder = tmp_path / "sorted" / letters.names[truth[number]]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[number]).save(folder / f"{number}.png")
    (tmp_path / "labels.txt").write_text("\n".join(letters.names))
    options = ["--network", letters.network, "--labels", str(tmp_path / "labels.txt")]
    data = json.loads(checked(weights, tmp_path / "sorted", *options, "--json").stdout)
    assert data["best"]["right"] >= 0.95 * data["best"]["of"]
    assert not {"size", "transpose", "expects"} & set(data["best"]["input"])


def test_check_of_what_reads_no_digits_says_so_and_ends_with_0(tmp_path: Path) -> None:
    own_code.script(tmp_path)
    torch.manual_seed(0)
    weights = saved_weights(tmp_path, Linear(), "untrained.pt")
    options = ["--network", f"{tmp_path / 'net.py'}:Net"]
    done = checked(weights, *options)
    assert done.stdout.splitlines()[-1].startswith("nothing that was tried fits: ")
    assert "model.toml" not in done.stdout
    data = json.loads(checked(weights, *options, "--json").stdout)
    assert (data["best"], data["model_toml"]) == (None, None)
    assert data["tried"]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("none.pt", []),
        ("text.onnx", []),
        ("net.pt", ["--network", "net.py:Raises"]),
        ("net.pt", ["--network", "net.py:None_"]),
        ("net.pt", []),
        ("net.pt", ["--network", "net.py:Letters"]),
    ],
)
def test_check_of_a_model_that_cannot_run_ends_with_65(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, options: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    own_code.script(tmp_path)
    (tmp_path / "text.onnx").write_text("words")
    one_line_of(checked(name, *options, code=65))


def test_inspection_of_a_users_network_compares_the_weights_with_its_class(
    half: list[str], tmp_path: Path
) -> None:
    done = runner.invoke(app, ["model", "inspect", *half, *HALF])
    assert (done.exit_code, done.stderr) == (0, "")
    assert re.search(r"\n  known digits +9\d\d of 1000 read right\n", done.stdout)
    assert re.search(r"\n  usable +yes\n", done.stdout)
    other = [half[0], "--network", f"{tmp_path / 'net.py'}:Letters", "--json"]
    done = runner.invoke(app, ["model", "inspect", *other])
    assert done.exit_code == 65
    found = json.loads(done.stdout)
    assert not found["usable"]
    assert "fc.weight" in found["problem"]


def test_inspection_of_a_network_that_gives_no_scores_ends_with_65(
    half: list[str], tmp_path: Path
) -> None:
    raising = [half[0], "--network", f"{tmp_path / 'net.py'}:Raises"]
    done = runner.invoke(app, ["model", "inspect", *raising, "--json"])
    assert done.exit_code == 65
    found = json.loads(done.stdout)
    assert (found["usable"], found["known_digits"]) == (False, None)
    assert "ValueError: out of order" in found["problem"]
    done = runner.invoke(app, ["model", "inspect", *half, "--channels", "3"])
    assert done.exit_code == 65
    assert "it does with --channels 1" in done.stdout


@pytest.fixture
def graph(half: list[str], tmp_path: Path) -> Path:
    """The same network as ONNX, into which what is declared of it has gone."""
    path = tmp_path / "half.onnx"
    done = runner.invoke(app, ["model", "convert", half[0], str(path), *half[1:], *HALF])
    assert done.exit_code == 0, done.output
    return path


def test_inspection_of_an_onnx_file_lists_inputs_outputs_and_operators(graph: Path) -> None:
    done = runner.invoke(app, ["model", "inspect", str(graph)])
    assert (done.exit_code, done.stderr) == (0, "")
    assert re.search(r"\n  input 0 +\w+ uint8\[\w+, 1, 28, 28\]\n", done.stdout)
    assert re.search(r"\n  output 0 +\w+ float32\[\w+, 10\]\n", done.stdout)
    assert re.search(r"\n  operators +.*1 Gemm", done.stdout)
    found = json.loads(runner.invoke(app, ["model", "inspect", str(graph), "--json"]).stdout)
    (taken,), (given,) = found["inputs"], found["outputs"]
    assert "1, 28, 28" in taken
    assert "10]" in given
    assert found["operators"]["Gemm"] == 1
    assert found["classes"] == 10


def test_converted_network_needs_neither_code_nor_declaration(
    half: list[str], graph: Path, tmp_path: Path
) -> None:
    reports = []
    for name, model in {"own": [half[0], *half[1:], *HALF], "onnx": [str(graph)]}.items():
        out = tmp_path / f"{name}.csv"
        command = ["run", str(SAMPLES), "--out", str(out), "--workers", "0", "--model", *model]
        done = runner.invoke(app, command)
        assert done.exit_code == 0, done.output
        assert "known digits" not in done.stderr
        with out.open(newline="") as file:
            reports.append([row["prediction"] for row in csv.DictReader(file)])
    assert reports[0] == reports[1]
    best = json.loads(checked(graph, "--json").stdout)["best"]
    assert best["input"] in ({}, {"range": "0-255"})  # it takes pixels as they are


def test_conversion_to_a_state_dict_says_what_must_still_be_declared(
    half: list[str], tmp_path: Path
) -> None:
    target = tmp_path / "other.pt"
    done = runner.invoke(app, ["model", "convert", half[0], str(target), *half[1:], *HALF])
    assert (done.exit_code, done.stdout) == (0, "")
    assert f"a state dict cannot say what it takes; declare it: {' '.join(HALF)}" in done.stderr


@pytest.mark.parametrize("name", ["Raises", "Letters", "Nett"])
def test_conversion_of_a_network_that_is_refused_leaves_no_file(
    half: list[str], tmp_path: Path, name: str
) -> None:
    target = tmp_path / "out.onnx"
    options = ["--network", f"{tmp_path / 'net.py'}:{name}"]
    done = runner.invoke(app, ["model", "convert", half[0], str(target), *options])
    assert done.exit_code == 65
    one_line_of(done)
    assert not target.exists()
