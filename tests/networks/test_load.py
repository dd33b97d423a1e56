"""Networks load from scripts, notebooks and modules as people publish them; little of it runs."""

import copy
import hashlib
import importlib
import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from batchdigit.errors import CheckpointError, UsageError
from batchdigit.networks.load import OwnNetwork, load_network, network_arguments
from batchdigit.networks.naming import NetworkName
from tests.networks.conftest import Write

NET = """
import torch
import torch.nn as nn
class Net(nn.Module):
    def __init__(self, classes=10):
        super().__init__()
        self.fc = nn.Linear(4, classes)
    def forward(self, x):
        return self.fc(x)
"""


def load(text: str, arguments: Any = None) -> OwnNetwork:
    return load_network(NetworkName.parse(text), arguments)


def refusal(text: str, arguments: Any = None) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        load(text, arguments)
    assert caught.value.remedy
    return caught.value


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The addresses that anything connected to."""
    found: list[object] = []
    monkeypatch.setattr(socket.socket, "connect", lambda _socket, address: found.append(address))
    return found


TRAINS = """
import argparse, os, socket, sys
import matplotlib_is_missing.pyplot as plt
print("training")
parser = argparse.ArgumentParser()
parser.add_argument("--lr", required=True)
args = parser.parse_args()
with socket.socket() as s:
    s.connect(("127.0.0.1", 9))
os.makedirs("data", exist_ok=True)
model = Net()
for epoch in range(3):
    loss = model(torch.rand(1, 4)).sum()
    print(loss)
torch.save(model.state_dict(), "net.pt")
if not os.path.exists("log.txt"):
    open("log.txt", "w").close()
plt.show()
sys.exit(0)
"""


def test_script_that_trains_and_saves_only_gives_its_class(
    write: Write, folder: Path, connections: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "net.pt").write_bytes(b"the checkpoint")
    write("net.py", NET + TRAINS)
    network = load("net.py:Net")
    assert network.module(torch.ones(2, 4)).shape == (2, 10)
    assert (folder / "net.pt").read_bytes() == b"the checkpoint"
    assert sorted(path.name for path in folder.iterdir()) == ["net.pt", "net.py"]
    assert connections == []
    assert capsys.readouterr() == ("", "")


def test_the_script_would_do_all_that_if_it_were_imported(
    write: Write, folder: Path, connections: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the test before this one can fail."""
    monkeypatch.setattr(sys, "argv", ["net.py", "--lr", "1"])
    text = (
        (NET + TRAINS)
        .replace("import matplotlib_is_missing.pyplot as plt", "")
        .replace("plt.show()", "")
    )
    path = write("net.py", text)
    with pytest.raises(SystemExit):
        exec(compile(text, path, "exec"), {"__name__": "net"})  # noqa: S102
    assert {"net.pt", "log.txt", "data"} <= {path.name for path in folder.iterdir()}
    assert connections == [("127.0.0.1", 9)]


def test_notebook_with_magics_only_gives_its_class(
    write_notebook: Write, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_notebook(
        "nb.ipynb",
        "%matplotlib inline\n!pip install torch\nimport torch\nimport torch.nn as nn",
        "%%bash\nrm -rf .",
        "%%time\nHIDDEN = 3",
        "this is no Python",
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.fc = nn.Linear(4, HIDDEN)\n"
        "    def forward(self, x):\n"
        "        return self.fc(x) if x is not None else 1 / 0\n",
        "model = Net()\ntorch.save(model, 'net.pt')\nmodel",
    )
    network = load("nb.ipynb:Net")
    assert network.module.fc.weight.shape == (3, 4)
    assert [path.name for path in folder.iterdir()] == ["nb.ipynb"]
    assert capsys.readouterr() == ("", "")
    with pytest.raises(ZeroDivisionError) as caught:
        network.module(None)
    told = "nb.ipynb, cell 5, line 6, raises ZeroDivisionError: division by zero"
    assert network.explain(caught.value) == network.refusal(caught.value).problem == told


def test_notebook_without_the_class_says_which_cells_are_no_python(write_notebook: Write) -> None:
    write_notebook("nb.ipynb", "x = 1", "class Net(nn.Module:\n  pass")
    error = refusal("nb.ipynb:Net")
    assert "nb.ipynb defines no class or function Net" in error.problem
    assert "cell 2 (line 1: " in error.problem


CONSTANTS = """
import math, os
from collections import namedtuple
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

try:
    import a_package_that_is_missing as fast
except ImportError:
    fast = None
if torch.cuda.is_available():
    device = torch.device("cuda")
else:
    device = torch.device("cpu")
dtype = torch.float32
CLASSES: int = 10
SIZES, DEPTH = [4, 8], 2
SIZES += [CLASSES]
NAMES = {index: name for index, name in enumerate("abc")}
INDEX = {name: index for index, name in NAMES.items()}
SCALE = math.sqrt(2) if fast is None else np.array([1.0])
Norm = partial(nn.LayerNorm, eps=1e-3)
Shape = namedtuple("Shape", "height width")
SHAPE = Shape
ACTIVATION = nn.ReLU()
square = lambda x: x * x
FOLDER = Path("data") / os.path.join("a", "b")

@dataclass
class Config:
    hidden: int = 8
    sizes: list = field(default_factory=list)

CONFIG = Config(hidden=6)

class Net(nn.Module):
    def __init__(self, config=CONFIG):
        super().__init__()
        self.first = nn.Linear(SIZES[0], config.hidden)
        self.norm = Norm(config.hidden)
        self.last = nn.Linear(config.hidden, SIZES[-1])
        self.known = [device, dtype, NAMES, INDEX, SCALE, SHAPE, ACTIVATION, FOLDER, fast, DEPTH]
    def forward(self, x):
        return F.relu(self.last(square(self.norm(self.first(x)))) * SCALE)
"""


def test_constants_of_all_kinds_are_there(write: Write) -> None:
    write("net.py", CONSTANTS)
    module = load("net.py:Net").module
    assert module(torch.ones(2, 4)).shape == (2, 10)
    assert module.first.weight.shape == (6, 4)
    device, _, names, index, *_, path, fast, depth = module.known
    assert isinstance(device, torch.device)
    assert (names[0], index["c"], path, fast, depth) == ("a", 2, Path("data/a/b"), None, 2)


def test_network_that_moves_itself_to_a_device_comes_back(write: Write) -> None:
    write(
        "net.py",
        """
        import torch
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        class Net(torch.nn.Linear):
            def __init__(self):
                super().__init__(3, 4, device=device, dtype=torch.float64)
                self.to(device)
        """,
    )
    weight = load("net.py:Net").module.weight
    assert (weight.device.type, weight.dtype) == ("cpu", torch.float32)


def test_arguments_of_the_command_that_the_class_uses_are_told(write: Write) -> None:
    text = NET.replace("classes=10", "classes=10, hidden=None").replace(
        "super()", "self.hidden = hidden or args.hidden; super()"
    )
    write("net.py", text + "import argparse\nargs = argparse.ArgumentParser().parse_args()\n")
    error = refusal("net.py:Net")
    assert error.problem == (
        "`args`, which line 11 of net.py sets, was not run: only imports, definitions and "
        "constants of that file are"
    )
    assert error.remedy == "make it a constant, or give the class arguments"
    assert load("net.py:Net", {"hidden": 5}).module.hidden == 5


def test_arguments_of_the_command_that_forward_uses_are_told(write: Write) -> None:
    write("net.py", NET.replace("return self", "return args.scale * self") + "args = parse()\n")
    network = load("net.py:Net")
    with pytest.raises(NameError) as caught:
        network.module(torch.ones(2, 4))
    assert network.explain(caught.value) == (
        "`args`, which line 10 of net.py sets, was not run: only imports, definitions and "
        "constants of that file are"
    )
    assert network.refusal(caught.value).remedy.startswith("make it a constant")
    assert network.explain(ValueError("of somebody else's")) is None


def test_missing_package_that_the_class_does_not_use_is_not_missed(write: Write) -> None:
    write("net.py", "import missing\nfrom missing import plot\nfrom missing import *\n" + NET)
    assert load("net.py:Net").module.fc.out_features == 10


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("import missing\n" + NET.replace("super()", "missing.x; super()"), 1),
        ("\nfrom missing import Base\n" + NET.replace("nn.Module", "Base"), 2),
        ("from missing.nets import Net", 1),
        ("from missing.nets import *", 1),
        ("from missing import *\n" + NET.replace("super()", "Missing(); super()"), 1),
        (NET.replace("super()", "import missing; super()"), 6),
    ],
)
def test_missing_package_that_the_class_uses_is_named(write: Write, text: str, line: int) -> None:
    write("net.py", text)
    error = refusal("net.py:Net")
    assert error.problem == (
        f"net.py, line {line}, needs the package missing, which is not installed"
    )
    assert "pip install missing in the environment of batchdigit" in error.remedy


def test_sibling_that_trains_when_it_is_imported_only_gives_definitions(
    write: Write, folder: Path, connections: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "net.pt").write_bytes(b"the checkpoint")
    write("model.py", NET + TRAINS)
    write("nets.py", "from model import *\nfrom model import Net as Model\n")
    for name in ("Net", "Model"):
        assert load(f"nets.py:{name}").module.fc.out_features == 10
    assert (folder / "net.pt").read_bytes() == b"the checkpoint"
    assert sorted(path.name for path in folder.iterdir()) == ["model.py", "net.pt", "nets.py"]
    assert connections == []
    assert capsys.readouterr() == ("", "")


def test_sibling_is_found_whatever_the_working_folder_is(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("sub/model.py", NET + "raise SystemExit")
    write("sub/net.py", "from model import Net")
    assert load("sub/net.py:Net").module
    monkeypatch.chdir(tmp_path)
    os.symlink(Path("here", "sub", "net.py"), "link.py")
    assert load("link.py:Net").module  # as Python does for a script


def test_error_in_a_sibling_names_that(write: Write) -> None:
    write("sub/model.py", NET.replace("super()", "1 / 0; super()"))
    write("sub/net.py", "from model import Net")
    assert refusal("sub/net.py:Net").problem == (
        f"{os.path.join('sub', 'model.py')}, line 6, raises ZeroDivisionError: division by zero"
    )


def test_relative_import_loads_the_package(write: Write) -> None:
    write("own_nets/__init__.py", "raise SystemExit")
    write("own_nets/layers.py", NET)
    write("own_nets/net.py", "from .layers import Net\nfrom . import layers")
    assert load("own_nets/net.py:Net").module
    write("alone/net.py", "from .layers import Net")
    assert "attempted relative import" in refusal("alone/net.py:Net").problem


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ("def make(classes=3): return Net(classes)", "make"),
        ("make = lambda: Net(3)", "make"),
        ("from functools import partial\nSmall = partial(Net, 3)", "Small"),
        ("Alias = Net", "Alias"),
        ("class Outer:\n    class Inner(Net): pass", "Outer.Inner"),
        ("class Net(Net):\n    def __init__(self): super().__init__(3)", "Net"),
    ],
)
def test_whatever_makes_a_network_is_taken(write: Write, more: str, name: str) -> None:
    write("net.py", NET + more)
    assert isinstance(load(f"net.py:{name}").module, torch.nn.Module)


def test_last_of_two_classes_of_a_name_is_taken(write: Write) -> None:
    write("net.py", NET + NET.replace("classes=10", "classes=3"))
    assert load("net.py:Net").module.fc.out_features == 3


def test_name_that_is_not_there_gets_the_nearest_named(write: Write) -> None:
    write("net.py", NET + "\n".join(f"def helper{n}(): pass" for n in range(6)))
    error = refusal("net.py:Nett")
    assert error.problem.startswith("net.py defines no class or function Nett at its top level")
    assert "it has Net, helper" in error.problem
    assert error.problem.endswith(" and 2 more")
    assert error.remedy == "name one that is there, as net.py:Net"
    assert "but it has none" in (write("empty.py", "") and refusal("empty.py:Net")).problem


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("if __name__ == '__main__':\n  class Net: pass", "Net"),
        ("def f():\n  class Net: pass", "Net"),
        ("class Outer: pass", "Outer.Inner"),
        ("Net = load()", "Net"),
        ("for i in range(3): Net = i", "Net"),
    ],
)
def test_class_that_is_not_at_the_top_level_is_not_found(
    write: Write, text: str, name: str
) -> None:
    write("net.py", text)
    assert refusal(f"net.py:{name}").problem.startswith("net.py defines no class or function")


@pytest.mark.parametrize(
    ("more", "name", "problem", "remedy"),
    [
        ("model = Net()", "model", "model in net.py is no class or function", ": Net"),
        ("act = nn.ReLU()", "act", "act in net.py is an object of type ReLU, and no class", ""),
        ("WIDTH = 5", "WIDTH", "WIDTH in net.py is an object of type int, and no class", ""),
    ],
)
def test_what_is_no_class_is_refused(
    write: Write, more: str, name: str, problem: str, remedy: str
) -> None:
    write("net.py", NET + more)
    error = refusal(f"net.py:{name}")
    assert error.problem.startswith(problem)
    assert error.remedy.endswith(remedy)


def test_class_gets_its_arguments_and_says_which_it_takes(write: Write) -> None:
    write("net.py", NET.replace("classes=10", "hidden, classes=10"))
    assert load("net.py:Net", {"hidden": 1, "classes": 3}).module.fc.out_features == 3
    assert load("net.py:Net", [1, 3]).module.fc.out_features == 3
    error = refusal("net.py:Net")
    assert error.problem == "Net of net.py needs arguments: Net(hidden, classes=10)"
    assert error.remedy == """give --network-args '{"hidden": ...}'"""
    error = refusal("net.py:Net", {"hidden": 1, "klasses": 3})
    assert "klasses" in error.problem
    assert "Net(hidden, classes=10)" in error.problem


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("raise ValueError('bad')", "net.py, line 6, raises ValueError: bad"),
        ("nn.Linear('a', 2)", "net.py, line 6, raises TypeError"),
        ("import sys; sys.exit('bye')", "net.py, line 6, would end the program"),
        ("undefined", "net.py, line 6, raises NameError: name 'undefined' is not defined"),
    ],
)
def test_class_that_raises_is_told_with_its_line(write: Write, statement: str, told: str) -> None:
    write("net.py", NET.replace("super()", f"{statement}; super()"))
    assert refusal("net.py:Net").problem.startswith(told)


def test_class_that_is_no_module_is_refused(write: Write) -> None:
    write("net.py", "class Net: pass")
    assert "is no torch.nn.Module" in refusal("net.py:Net").problem


@pytest.mark.parametrize("text", ["x = 1\nclass Net(:", "# coding: klingon", "x = '\0'"])
def test_file_that_is_no_python_is_refused(write: Write, text: str) -> None:
    write("net.py", text)
    assert refusal("net.py:Net").problem.startswith("net.py")


@pytest.mark.usefixtures("folder")
def test_file_that_is_not_there_is_refused() -> None:
    assert refusal("net.py:Net").problem == "cannot read net.py: No such file or directory"


def test_copies_of_the_network_can_be_made(write: Write) -> None:
    write("net.py", "from __future__ import annotations\n" + NET)
    module = load("net.py:Net").module
    assert torch.equal(copy.deepcopy(module)(torch.ones(1, 4)), module(torch.ones(1, 4)))


def test_file_that_changed_is_loaded_anew_with_its_siblings(write: Write) -> None:
    write("net.py", "from model import Net")
    write("model.py", NET)
    assert load("net.py:Net").module.fc.out_features == 10
    write("model.py", NET.replace("=10", "=3"))
    assert load("net.py:Net").module.fc.out_features == 3
    write("net.py", NET.replace("=10", "=5"))
    assert load("net.py:Net").module.fc.out_features == 5


def test_sha256_is_that_of_the_file_alone(write: Write) -> None:
    path = write("net.py", NET)
    write("unused.py", "x = 1")
    first = load("net.py:Net").sha256
    assert first == hashlib.sha256(path.read_bytes()).hexdigest()
    write("unused.py", "x = 2")
    assert load("net.py:Net").sha256 == first


def test_sha256_changes_with_the_file_and_with_each_sibling(write: Write) -> None:
    write("net.py", "from model import Net")
    write("model.py", "import layers.block\n" + NET)
    write("layers/block.py", "x = 1")
    found = [load("net.py:Net").sha256]
    for name in ("net.py", "model.py", "layers/block.py"):
        path = Path(name)
        before = path.read_bytes()
        path.write_bytes(before + b"\n# changed\n")
        found.append(load("net.py:Net").sha256)
        path.write_bytes(before)
    assert len(set(found)) == 4
    assert load("net.py:Net").sha256 == found[0]


def test_what_the_class_prints_is_kept_from_standard_output(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write("net.py", NET.replace("super()", "print('building'); super()"))
    load("net.py:Net")
    assert capsys.readouterr() == ("", "building\n")


def test_installed_module_is_imported_whole() -> None:
    pytest.importorskip("torchvision")
    network = load("torchvision.models:resnet18", {"num_classes": 10})
    assert network.name == "torchvision.models:resnet18"
    assert network.module(torch.ones(1, 3, 32, 32)).shape == (1, 10)
    assert len(network.sha256) == 64
    assert network.sha256 != load("torchvision.models:alexnet").sha256
    error = refusal("torchvision.models:resnet_18")
    assert "it has resnet18" in error.problem
    error = refusal("torchvision.models:resnet18", {"clases": 10})
    assert "clases" in error.problem


def test_module_of_the_working_folder_is_imported_whole(
    write: Write, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sys.path[:] = [path for path in sys.path if path and Path(path) != folder]
    write("my_nets/__init__.py", "")
    write("my_nets/layers.py", NET)
    write("my_nets/net.py", "from .layers import Net\nopen('ran', 'w').close()\nprint('hello')")
    first = load("my_nets.net:Net")
    assert first.module.fc.out_features == 10
    assert (folder / "ran").exists()
    assert capsys.readouterr() == ("", "hello\n")
    for name in [name for name in sys.modules if name.startswith("my_nets")]:
        del sys.modules[name]
    write("my_nets/layers.py", NET + "# changed")
    assert load("my_nets.net:Net").sha256 != first.sha256


def test_only_the_named_module_of_the_working_folder_can_be_imported(write: Write) -> None:
    before = list(sys.path)
    write("my_nets/net.py", "from my_part import Net")
    write("my_part.py", NET)
    write("my_other.py", "raise SystemExit")
    assert load("my_nets.net:Net").module.fc.out_features == 10
    assert sys.path == before
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("my_other")
    for name in ("my_nets.net", "my_part"):
        del sys.modules[name]
        assert importlib.import_module(name).Net
    finders = list(sys.meta_path)
    refusal("my_absent:Net")
    refusal("my_other:Net")
    assert sys.meta_path == finders


def test_module_that_changed_after_it_was_imported_is_refused(write: Write) -> None:
    write("my_part.py", NET)
    write("my_net.py", "from my_part import Net")
    first = load("my_net:Net").sha256
    assert load("my_net:Net").sha256 == first
    for name in ("my_net", "my_part"):
        path = Path(f"{name}.py")
        before = path.read_bytes()
        path.write_bytes(before + b"# changed")
        error = refusal("my_net:Net")
        assert error.problem == f"{name} has changed since this process imported it"
        assert error.remedy == "restart Python"
        importlib.invalidate_caches()
        importlib.reload(sys.modules[name])
        assert load("my_net:Net").sha256 != first
        first = load("my_net:Net").sha256


@pytest.mark.parametrize("name", ["net.py:Net", "my_net:Net"])
def test_sha256_counts_what_forward_imports(write: Write, name: str) -> None:
    text = NET.replace("return", "import my_late; return")
    found = []
    for late in ("x = 1", "x = 2"):
        for module in ("my_net", "my_late"):
            write(f"{module}.py", text if module == "my_net" else late)
            sys.modules.pop(module, None)
        write("net.py", text)
        network = load(name)
        network.module(torch.ones(1, 4))
        found.append(network.sha256)
    assert found[0] != found[1]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("my_nowhere:Net", "there is no module my_nowhere, which --network my_nowhere:Net names"),
        ("json.nowhere:Net", "there is no module json.nowhere, which"),
        ("my_module:Nett", "my_module defines no class or function Nett at its top level, but it"),
        ("my_module:NET", "NET in my_module is an object of type Identity, and no class"),
        ("my_module:fail", "my_module.py, line 4, raises ZeroDivisionError: division by zero"),
        ("my_exit:Net", "my_exit.py, line 1, would end the program"),
        ("my_error:Net", "my_lines.py, line 2, raises ZeroDivisionError: division by zero"),
        ("my_missing:Net", "my_missing.py, line 1, needs the package nowhere, which is not"),
        ("my_syntax:Net", "my_syntax.py, line 1, is not Python"),
    ],
)
def test_module_that_has_no_such_network_is_refused(write: Write, text: str, problem: str) -> None:
    write("my_module.py", "from torch import nn\nNET = nn.Identity()\ndef fail():\n  1 / 0\n")
    write("my_exit.py", "raise SystemExit")
    write("my_error.py", "import my_lines")
    write("my_lines.py", "\n1 / 0")
    write("my_missing.py", "import nowhere")
    write("my_syntax.py", "class Net(:")
    assert refusal(text).problem.startswith(problem)


def test_module_is_imported_whole_even_if_a_file_has_imported_it_as_a_sibling(
    write: Write, folder: Path
) -> None:
    write("my_model.py", NET + "open('ran', 'w').close()")
    write("net.py", "from my_model import Net")
    load("net.py:Net")
    assert not (folder / "ran").exists()
    load("my_model:Net")
    assert (folder / "ran").exists()


def test_interruption_passes(write: Write) -> None:
    write("net.py", NET.replace("super()", "raise KeyboardInterrupt; super()"))
    with pytest.raises(KeyboardInterrupt):
        load("net.py:Net")


@pytest.mark.parametrize(
    ("text", "expected"), [('{"a": [1, null]}', {"a": [1, None]}), ("[1, 2]", [1, 2]), ("{}", {})]
)
def test_arguments_are_read_from_json(text: str, expected: object) -> None:
    assert network_arguments(text) == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is not JSON"),
        ("hidden=5", "is not JSON"),
        ("{'a': 1}", "is not JSON"),
        ('{"a": 1, "a": 2}', "a name stands there twice"),
        ("[" * 100_000, "is not JSON"),
        ("5", "is neither object nor array"),
        ("null", "is neither object nor array"),
        ('"a"', "is neither object nor array"),
    ],
)
def test_arguments_that_are_no_object_or_array_are_wrong_usage(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=f"--network-args .*{says}"):
        network_arguments(text)
