"""Model files that attack whoever loads them carelessly. None may have an effect here."""

import argparse
import builtins
import functools
import importlib
import os
import pickle
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from batchdigit import CNN, CheckpointError, inspect_model, load_checkpoint
from batchdigit.modelfiles.file import read_model_file
from batchdigit.models.inspection import inspect_file
from batchdigit.models.wanted import Wanted
from tests.support.modelfiles import (
    archive,
    old_format,
    rebuild,
    reference,
    refusal,
    saved,
    wanted_by,
)
from tests.support.samples import Program

GOOD = CNN().state_dict()

Pickler = Callable[[Path], bytes]


class Call:
    """Pickles as a call."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.reduced = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.reduced


def pickled(content: Callable[[Path], object], protocol: int = 2) -> Pickler:
    return lambda canary: pickle.dumps(content(canary), protocol)


def touch(canary: Path) -> Call:
    return Call(os.system, f"touch {canary}")


def unicode(text: str) -> bytes:
    return b"X" + len(text.encode()).to_bytes(4, "little") + text.encode()


def script(canary: Path) -> Path:
    path = canary.with_suffix(".py")
    path.write_text(f"import pathlib; pathlib.Path({os.fspath(canary)!r}).touch()")
    return path


def module(canary: Path) -> str:
    script(canary)
    return canary.stem


def second_file(canary: Path) -> Path:
    path = canary.with_suffix(".second")
    path.write_bytes(archive(pickle.dumps(touch(canary), 2)))
    return path


def by_build(canary: Path) -> bytes:
    """An object's first state gives it a ``__setstate__``, which gets the second state."""
    state = {"__setstate__": os.system}
    return (
        b"\x80\x02ctypes\nSimpleNamespace\n)R"
        + pickle.dumps(state, 2)[2:-1] + b"b" + unicode(f"touch {canary}") + b"b."
    )  # fmt: skip


def by_newobj(canary: Path) -> bytes:
    """``functools.partial(os.system, ...)`` by NEWOBJ, then called."""
    command = unicode(f"touch {canary}")
    return b"\x80\x02cfunctools\npartial\ncposix\nsystem\n" + command + b"\x86\x81)R."


def by_inst(canary: Path) -> bytes:
    return f"(S'touch {canary}'\niposix\nsystem\n.".encode()


def by_obj(canary: Path) -> bytes:
    return b"\x80\x02(cposix\nsystem\n" + unicode(f"touch {canary}") + b"o."


def by_stack_global(canary: Path) -> bytes:
    return (
        b"\x80\x04" + unicode("posixpath") + unicode("os.system") + b"\x93"
        + unicode(f"touch {canary}") + b"\x85R."
    )  # fmt: skip


def dropped(canary: Path) -> bytes:
    """The call's result is thrown away; what is left is an empty dictionary."""
    return b"\x80\x02cposix\nsystem\n" + unicode(f"touch {canary}") + b"\x85R0}."


def below_the_top(canary: Path) -> bytes:
    """Like ``dropped``, but without an instruction that torch does not know."""
    return b"\x80\x02cposix\nsystem\n" + unicode(f"touch {canary}") + b"\x85R}."


def by_getattr(canary: Path) -> bytes:
    """No dangerous name is in the file: it is put together on loading."""
    return (
        b"\x80\x02c__builtin__\ngetattr\nc__builtin__\n__import__\n" + unicode("os") + b"\x85R"
        + unicode("system") + b"\x86R" + unicode(f"touch {canary}") + b"\x85R."
    )  # fmt: skip


load_unsafely = functools.partial(torch.load, weights_only=False)

ATTACKS: dict[str, Pickler] = {
    "os.system": pickled(touch),
    "eval": pickled(lambda canary: Call(builtins.eval, f"open({os.fspath(canary)!r}, 'w')")),
    "exec": pickled(lambda canary: Call(builtins.exec, f"open({os.fspath(canary)!r}, 'w')")),
    "open": pickled(lambda canary: Call(builtins.open, os.fspath(canary), "w")),
    "popen": pickled(lambda canary: Call(subprocess.check_call, ["touch", os.fspath(canary)])),
    "torch.load": pickled(lambda canary: Call(load_unsafely, os.fspath(second_file(canary)))),
    "runpy": pickled(lambda canary: Call(runpy.run_path, os.fspath(script(canary)))),
    "importlib": pickled(lambda canary: Call(importlib.import_module, module(canary))),
    "nested": pickled(lambda canary: {"state_dict": [({"a": (1, touch(canary))},)]}),
    "among tensors' names": pickled(lambda canary: {"layer1.0.weight": touch(canary)}),
    "as a state": pickled(lambda canary: Call(dict, [["a", touch(canary)]])),
    "protocol 0": pickled(touch, protocol=0),
    "protocol 4": pickled(touch, protocol=4),
    "by BUILD": by_build,
    "by NEWOBJ": by_newobj,
    "by INST": by_inst,
    "by OBJ": by_obj,
    "by STACK_GLOBAL": by_stack_global,
    "dropped": dropped,
    "below the top": below_the_top,
    "by getattr": by_getattr,
}
PLACES = ("content", "magic", "version", "system", "keys")

Kind = tuple[str, str]
KINDS: list[Kind] = [
    *(("archive", name) for name in ATTACKS),
    *(("content", name) for name in ATTACKS),
    *((place, "os.system") for place in PLACES[1:]),
]
EMPTY = pickle.dumps({}, 2)


def write_attack(folder: Path, kind: Kind) -> tuple[Path, Path]:
    """A model file, and the file that its attack creates where it succeeds."""
    where, name = kind
    stem = f"{where}_{name}".replace(" ", "_").replace(".", "_").replace("'", "")
    path, canary = folder / f"{stem}.pt", folder / f"canary_{stem}"
    attack = ATTACKS[name](canary)
    if where == "archive":
        path.write_bytes(archive(attack))
    elif where == "content":
        path.write_bytes(old_format(attack))
    else:
        path.write_bytes(old_format(EMPTY, **{where: attack}))
    return path, canary


CARELESS = """
import glob, os, sys, warnings
import torch
warnings.simplefilter("ignore")
sys.path.insert(0, "")
for path in glob.glob("*.pt"):
    try:
        torch.load(path, weights_only=False)
    except Exception:
        pass
"""


@pytest.fixture(scope="module")
def hit(tmp_path_factory: pytest.TempPathFactory) -> set[Kind]:
    """The attacks that do what they are meant to do when a file is loaded carelessly."""
    folder = tmp_path_factory.mktemp("careless")
    canaries = {kind: write_attack(folder, kind)[1] for kind in KINDS}
    assert not any(canary.exists() for canary in canaries.values())
    subprocess.run([sys.executable, "-c", CARELESS], cwd=folder, check=True, capture_output=True)
    return {kind for kind, canary in canaries.items() if canary.exists()}


@pytest.mark.parametrize("kind", KINDS, ids=" ".join)
@pytest.mark.parametrize("forced", ["0", "1"])
def test_attack_is_refused_and_does_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hit: set[Kind], kind: Kind, forced: str
) -> None:
    assert kind in hit, "the attack itself does not work"
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", forced)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    path, canary = write_attack(tmp_path, kind)
    for class_name in (None, "system"):
        with pytest.raises(CheckpointError) as refused:
            load_checkpoint(path, class_name)
        message = str(refused.value)
        assert os.fspath(path) in message
        assert refused.value.remedy
        assert "weights_only" not in message
        inspection = inspect_model(path, class_name)
        assert not inspection.usable
    assert not canary.exists()


@pytest.mark.parametrize("name", ATTACKS)
def test_inspection_marks_what_an_attack_would_call(tmp_path: Path, name: str) -> None:
    path, _ = write_attack(tmp_path, ("archive", name))
    inspection = inspect_model(path)
    assert "" in inspection.globals.values()
    assert "would call " in inspection.problem


def weights_and(beside: bytes) -> bytes:
    """An archive of good weights under ``model``, and what the instructions ``beside`` push.

    They find the state dict in place 1 of the memo, the weight of the last layer in place 2.
    """
    weights = b"}q\x01("
    records = {}
    for number, (name, tensor) in enumerate(GOOD.items()):
        kind = b"LongStorage" if tensor.dtype == torch.int64 else b"FloatStorage"
        storage = reference(max(tensor.numel(), 1), str(number), kind)
        sizes = (0, tuple(tensor.shape), tuple(tensor.stride()))
        weights += unicode(name) + rebuild(storage, *sizes)[2:-1]
        weights += b"q\x02" if name == "fc.4.weight" else b""
        records[str(number)] = tensor.numpy().tobytes()
    pickled = b"\x80\x02}(" + unicode("model") + weights + b"u" + unicode("beside")
    return archive(pickled + b"(" + beside + b"tu.", records)


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_beside_good_weights_is_refused_as_one_alone(tmp_path: Path, name: str) -> None:
    path, canary = tmp_path / "CNN.pt", tmp_path / f"canary_{name}".replace(" ", "_")
    attack = ATTACKS[name](canary)
    start = 2 if attack.startswith(b"\x80") else 0
    start += 9 if attack[start : start + 1] == b"\x95" else 0
    # What the attack remembers must not take the place of what is remembered here.
    memo = re.sub(rb"\x94|q[\x00-\xff]", b"", attack[start:-1]) if start else attack[:-1]
    path.write_bytes(weights_and(memo))
    with pytest.raises(CheckpointError, match="would call "):
        load_checkpoint(path)
    assert "" in inspect_model(path).globals.values()
    assert not canary.exists()


class Zeroing:
    """Makes zeros of a tensor, however it gets one."""

    def __new__(cls, *weights: torch.Tensor) -> "Zeroing":
        for weight in weights:
            weight.zero_()
        return super().__new__(cls)

    def __setstate__(self, weight: torch.Tensor) -> None:
        weight.zero_()

    @staticmethod
    def append(weight: torch.Tensor) -> None:
        weight.zero_()


ZEROING = f"c{__name__}\nZeroing\n".encode()
ZEROS = b"ctorch.nn.init\nzeros_\n"
TAKES_STATE = b"}" + unicode("__setstate__") + ZEROS + b"s"  # a state

REFUSAL = "would (give the weights to|call) |changes what it has built"
LAST = list(GOOD).index("fc.4.weight")
STORAGE = reference(GOOD["fc.4.weight"].numel(), str(LAST), b"FloatStorage")

CHANGES = {
    "a call": b"ctorch.nn.init\nzeros_\nh\x02\x85R",
    "a call that is dropped": b"ctorch.nn.init\nzeros_\nh\x02\x85R0N",
    "a call with the dictionary": b"coperator\nsetitem\nh\x01" + unicode("fc.4.weight") + b"N\x87R",
    "an item of an object that has it": (
        b"ccollections\nUserDict\n)\x81}" + unicode("data") + b"h\x01sb"
        + unicode("fc.4.weight") + b"Ns"
    ),
    "a method of an object that has it": (
        b"c__builtin__\ngetattr\nccollections\nUserDict\n)\x81}" + unicode("data") + b"h\x01sb"
        + unicode("clear") + b"\x86R)R"
    ),
    "a class that Python 2 would have made": (
        b"ccopyreg\n_reconstructor\n" + ZEROING + ZEROING + b"h\x02\x87R"
    ),
    "a state": ZEROING + b")\x81h\x02b",
    "a second state, of known data": b"cargparse\nNamespace\n)\x81" + TAKES_STATE + b"bh\x02b",
    "a second state, of a dictionary": (
        b"ccollections\nOrderedDict\n)R" + TAKES_STATE + b"bh\x02b"
    ),
    "an attribute of known data that takes items": (
        b"ccollections\nCounter\n)\x81}" + unicode("append") + ZEROS + b"sbh\x02a"
    ),
    "an item of a class": ZEROING + b"h\x02a",
    "a state of what numpy makes": (
        b"cnumpy.random._pickle\n__bit_generator_ctor\n" + ZEROING + b"\x85Rh\x02b"
    ),
    "an item of a tensor": b"h\x02K\x00G" + bytes(8) + b"s",
    "an item of a tensor that shares its storage": (
        b"ctorch._utils\n_rebuild_tensor_v3\n("
        + STORAGE + b"K\x00K\x0a\x85K\x01\x85\x89}ctorch\nfloat32\ntRK\x00G" + bytes(8) + b"s"
    ),
    "a function of an optimizer": b"ctorch.optim._functional\nf\n]h\x02a\x85R",
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_what_could_change_the_weights_is_refused(tmp_path: Path, name: str) -> None:
    """A reader that carries it out has other weights than those that are in the file."""
    path = tmp_path / "CNN.pt"
    path.write_bytes(weights_and(CHANGES[name]))
    with pytest.raises(CheckpointError, match=REFUSAL):
        load_checkpoint(path)
    assert not inspect_model(path).usable


@pytest.mark.parametrize("name", list(CHANGES)[:-1])
def test_careless_reader_has_other_weights(tmp_path: Path, name: str) -> None:
    path = tmp_path / "CNN.pt"
    path.write_bytes(weights_and(CHANGES[name]))
    try:
        state = torch.load(path, weights_only=False)["model"]
    except (AttributeError, TypeError) as error:
        pytest.fail(f"the attack itself does not work: {error}")
    weight = state.get("fc.4.weight")
    assert weight is None or not torch.equal(weight, GOOD["fc.4.weight"])


def test_known_objects_may_have_the_weights_in_their_state(tmp_path: Path) -> None:
    """A training saves its optimizer whole, and its settings with the model."""
    model = CNN()
    beside = {
        "optimizer": torch.optim.Adam(model.parameters()),
        "settings": argparse.Namespace(weights=model.state_dict()),
        "whole": model,
    }
    path = saved(tmp_path / "CNN.pt", {"model": model.state_dict(), **beside})
    state = load_checkpoint(path).state
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())


def test_what_is_beside_the_weights_is_neither_called_nor_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    canary = tmp_path / "wicked"
    script(canary)
    path = tmp_path / "CNN.pt"
    path.write_bytes(weights_and(b"cwicked\nConfig\nK\x01\x85R"))
    checkpoint = load_checkpoint(path)
    assert all(torch.equal(checkpoint.state[name], GOOD[name]) for name in GOOD)
    assert not canary.exists()
    (record,) = caplog.records
    assert "also names wicked.Config" in record.getMessage()
    assert inspect_model(path).globals["wicked.Config"] == "unknown, not called"
    with pytest.raises(AttributeError):  # the control: imported, but without a Config
        torch.load(path, weights_only=False)
    assert canary.exists()


def test_program_refuses_an_attack_before_it_reads_an_image(
    tmp_path: Path, program: Program, digits: Path
) -> None:
    path, canary = write_attack(tmp_path, ("archive", "os.system"))
    out = tmp_path / "preds.csv"
    old = "filename,prediction,confidence,error,margin,needs_review\n"
    out.write_text(old)
    for image in digits.iterdir():
        image.unlink()
        os.mkfifo(image)  # whoever reads it waits forever
    done = program("run", digits, "--model", path, "--out", out)
    assert (done.returncode, done.stdout) == (65, "")
    assert len(done.stderr.splitlines()) == 1
    assert "posix.system" in done.stderr
    assert "save the weights alone" in done.stderr
    assert out.read_text() == old
    assert not canary.exists()


def test_module_that_a_file_names_is_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What looks like a CNN is only ever a stand-in."""
    monkeypatch.syspath_prepend(tmp_path)
    canary = tmp_path / "evil"
    script(canary)
    attack = b"\x80\x02cevil\nCNN\n)\x81}b."
    path = tmp_path / "CNN.pt"
    path.write_bytes(archive(attack))
    with pytest.raises(CheckpointError):
        load_checkpoint(path)
    assert not canary.exists()
    with pytest.raises(AttributeError):  # the control: imported, but without a CNN
        pickle.loads(attack)
    assert canary.exists()


class Net(torch.nn.Module):
    """A network of the user's own."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = torch.nn.Linear(3, 2)


WANTED = wanted_by(Net())


def own_refusal(path: Path, wanted: Wanted = WANTED) -> str:
    """The message with which a file is refused that is to hold an own network."""
    message = refusal(path, wanted=wanted)
    assert not inspect_file(read_model_file(path), wanted=wanted).usable
    return message


@pytest.mark.parametrize("kind", KINDS, ids=" ".join)
def test_attack_is_refused_with_an_own_network_too(
    tmp_path: Path, hit: set[Kind], kind: Kind
) -> None:
    assert kind in hit, "the attack itself does not work"
    path, canary = write_attack(tmp_path, kind)
    own_refusal(path)
    assert not canary.exists()


@pytest.mark.parametrize("where", ["in the model", "beside the model", "beside the weights"])
@pytest.mark.parametrize("protocol", [2, 4])
def test_attack_in_a_whole_model_of_the_users_own_class_is_refused(
    tmp_path: Path, where: str, protocol: int
) -> None:
    path, canary = tmp_path / "net.pt", tmp_path / "canary"
    model: Any = Net()
    content = {"model": model, "history": [1, 2]}
    if where == "in the model":
        model.settings = {"a": [touch(canary)]}
    else:
        content["history"] = {"a": [touch(canary)]}
    if where == "beside the weights":
        content["model"] = model.state_dict()
    saved(path, content, pickle_protocol=protocol)
    assert "would call posix.system" in own_refusal(path)
    assert not canary.exists()
    torch.load(path, weights_only=False)
    assert canary.exists(), "the attack itself does not work"


@pytest.mark.parametrize("where", ["in the model", "beside the model"])
def test_call_that_gets_the_weights_of_an_own_network_is_refused(
    tmp_path: Path, where: str
) -> None:
    model: Any = Net()
    model.fc.weight.data.fill_(1)
    call = Call(torch.nn.init.zeros_, model.fc.weight)
    if where == "in the model":
        model.settings = call
        content: object = model
    else:
        content = {"model": model, "more": call}
    path = saved(tmp_path / "net.pt", content)
    assert "would give the weights to torch.nn.init.zeros_" in own_refusal(path)
    again = torch.load(path, weights_only=False)
    changed = again["model"] if isinstance(again, dict) else again
    assert not changed.fc.weight.any(), "the attack itself does not work"


@pytest.mark.parametrize("name", CHANGES)
def test_what_could_change_the_weights_of_an_own_network_is_refused(
    tmp_path: Path, name: str
) -> None:
    path = tmp_path / "net.pt"
    path.write_bytes(weights_and(CHANGES[name]))
    assert re.search(REFUSAL, own_refusal(path, wanted_by(CNN())))
