"""Of a file, what only defines something may run, and of that what a class needs."""

import ast
import sys
import textwrap
from pathlib import Path

import pytest

from batchdigit.networks.definitions import Definitions, Kept, LeftOut, Step
from batchdigit.networks.sourcefile import Part, SourceFile


def definitions(text: str) -> Definitions:
    part = Part("net.py", "net.py", ast.parse(textwrap.dedent(text)))
    return Definitions.of(SourceFile("net.py", b"", (part,)))


def kept(steps: list[Step]) -> list[str]:
    return [ast.unparse(step.node) for step in steps if isinstance(step, Kept)]


def kept_of(text: str) -> list[str]:
    return kept(list(definitions(text).steps))


def left_out(text: str) -> set[str]:
    return {
        name for step in definitions(text).steps if isinstance(step, LeftOut) for name in step.lines
    }


@pytest.mark.parametrize(
    "statement",
    [
        "import torch",
        "from torch import nn as layers",
        "from .own import *",
        "def f(x=g()):\n    train()",
        "async def f():\n    pass",
        "@dataclass(frozen=True)\nclass C(nn.Module):\n    x = 1",
        "x = 1",
        "x, (y, z) = (1, (2, 3))",
        "x = y = [1]",
        "x += 1",
        "if torch.cuda.is_available():\n    x = 1\nelse:\n    x = 2",
        "try:\n    import a\nexcept ImportError:\n    a = None",
        "try:\n    import a\nexcept (ImportError, OSError) as e:\n    a = None\nelse:\n    b = 1",
    ],
)
def test_definition_is_kept_as_it_is(statement: str) -> None:
    assert kept_of(f"import torch\n{statement}")[1:] == [statement]


@pytest.mark.parametrize(
    "statement",
    [
        "train()",
        "print('x')",
        "'A docstring.'",
        "x = train()",
        "x.y = 1",
        "x['y'] = 1",
        "x: int = train()",
        "x: int",
        "x += train()",
        "del x",
        "assert x",
        "raise SystemExit",
        "with open('x') as f: pass",
        "for i in x: y = 1",
        "while True: x = 1",
        "if train(): x = 1",
        "if __name__ == '__main__': import a",
        "if '__main__' == __name__: x = 1",
        "if x: train()",
        "try: train()\nexcept E: pass",
        "try: import a\nexcept errors(): a = None",
        "@[d][0]\ndef f(): pass",
        "global x",
        "match x:\n case 1: y = 1",
    ],
)
def test_other_statement_is_left_out(statement: str) -> None:
    assert kept_of(statement) == []


@pytest.mark.parametrize(
    ("statement", "rest"),
    [
        ("import a, b.c as d", ["import a", "import b.c as d"]),
        ("from a import b, c", ["from a import b", "from a import c"]),
        ("from __future__ import a, b", ["from __future__ import a, b"]),
        ("x: f() = 1", ["x = 1"]),
        ("if x:\n train()\nelse:\n y = 1", ["if x:\n    pass\nelse:\n    y = 1"]),
        ("if __name__ == '__main__':\n train()\nelse:\n y = 1", ["y = 1"]),
        ("if __name__ != '__main__':\n y = 1", ["if __name__ != '__main__':\n    y = 1"]),
        (
            "if x:\n print(1)\n if y:\n  z = 1\n  train()",
            ["if x:\n    if y:\n        z = 1"],
        ),
        (
            "try:\n import a\n print(a)\nexcept ImportError:\n print('no a')\n a = None",
            ["try:\n    import a\nexcept ImportError:\n    a = None"],
        ),
        (
            "try:\n import a\nexcept ImportError:\n sys.exit('install a')",
            ["try:\n    import a\nexcept ImportError:\n    raise"],
        ),
        (
            "try:\n import a\nexcept ImportError:\n raise ImportError('install a')",
            ["try:\n    import a\nexcept ImportError:\n    raise"],
        ),
        ("try:\n import a\nfinally:\n print(1)", ["import a"]),
    ],
)
def test_rest_of_a_statement_is_kept(statement: str, rest: list[str]) -> None:
    assert kept_of(statement) == rest


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the statement is of Python 3.12")
def test_type_statement_is_kept() -> None:
    assert kept_of("type X = int") == ["type X = int"]


def test_names_of_what_is_left_out_are_known_with_their_lines() -> None:
    found = definitions("x = 1\n\nargs, rest = parse()\nif __name__ == '__main__':\n    net = N()")
    (first, second) = (step for step in found.steps if isinstance(step, LeftOut))
    assert first.lines == {"args": 3, "rest": 3}
    assert second.lines == {"net": 5}


def test_names_of_what_is_left_out_of_a_branch_are_known() -> None:
    assert left_out("if x:\n  y = train()\nelse:\n  y = 1") == {"y"}
    assert left_out("try:\n  import a\n  b = a.load()\nexcept E:\n  b = 1") == {"b"}


@pytest.mark.parametrize(
    ("text", "rebound"),
    [
        ("x = 1\nx = train()", {"x"}),
        ("x = 1\nx += train()", {"x"}),
        ("x = 1\nwith open('a') as x: pass", {"x"}),
        ("x = 1\nif train(): x = 2", set()),
        ("x = 1\nfor x in y: pass", set()),
        ("class x: pass\nx = train(x)", set()),
        ("import x\nx = train(x)", set()),
    ],
)
def test_constants_that_are_certainly_set_anew_are_known(text: str, rebound: set[str]) -> None:
    steps = definitions(text).steps
    assert {name for s in steps if isinstance(s, LeftOut) for name in s.rebound} == rebound


NETWORK = """
    import torch.nn as nn
    import matplotlib
    import torch
    from layers import *
    HIDDEN = SIZE * 2
    SIZE = 3
    UNUSED = 5
    def init(m): nn.init.zeros_(m)
    def train(): Net().fit(UNUSED)
    class Block(nn.Module): pass
    class Net(Base):
        block: Block
        def __init__(self, hidden=HIDDEN): self.apply(init)
    Base = nn.Module
"""


def test_class_needs_what_it_uses_and_what_that_uses_in_the_order_of_the_file() -> None:
    found = [line.partition("\n")[0] for line in kept(definitions(NETWORK).needed_for("Net"))]
    assert found == [
        "import torch.nn as nn",
        "from layers import *",
        "HIDDEN = SIZE * 2",
        "SIZE = 3",
        "def init(m):",
        "class Block(nn.Module):",
        "class Net(Base):",
        "Base = nn.Module",
    ]


def test_every_binding_of_a_name_is_needed() -> None:
    text = "class Net: pass\nx = 1\nclass Net(Net): x\nx += 1\n"
    assert len(kept(definitions(text).needed_for("Net"))) == 4


def test_import_is_needed_where_the_class_comes_from_another_file() -> None:
    text = "from model import Net, Other\nimport matplotlib"
    assert kept(definitions(text).needed_for("Net")) == ["from model import Net"]


def test_imports_of_submodules_are_needed_with_their_package() -> None:
    text = "import torch\nimport torch.nn.functional\nclass Net(torch.nn.Module): pass"
    assert len(kept(definitions(text).needed_for("Net"))) == 3


@pytest.mark.parametrize("use", ["globals()[name]", "eval(name)", "sys.modules[__name__]"])
def test_everything_is_needed_by_code_that_looks_names_up(use: str) -> None:
    text = f"import sys\nclass A: pass\nX = 1\ndef make(name): return {use}"
    assert len(kept(definitions(text).needed_for("make"))) == 4


def test_class_inside_a_function_or_behind_the_main_guard_is_not_there() -> None:
    text = "def f():\n  class Net: pass\nif __name__ == '__main__':\n  class Other: pass"
    found = definitions(text)
    assert found.names == ["f"]
    assert kept(found.needed_for("Net")) == kept(found.needed_for("Other")) == []


def test_networks_are_the_classes_that_derive_from_a_module() -> None:
    found = definitions(
        """
        class Block(nn.Module): pass
        class Net(Module):
            def __init__(self): Block()
        class Data(Dataset): pass
        class Lit(pl.LightningModule): pass
        class Wide(Block, Data): pass
        """
    )
    assert found.networks() == ["Net", "Lit", "Wide", "Block"]


def test_makers_of_instances_are_known() -> None:
    text = "class Net: pass\ndef f(): pass\nmodel = Net(5)\nother = f()\nnone = g()\nx.y = Net()"
    assert definitions(text).makers == {"model": "Net", "other": "f"}


def test_of_this_package_no_definition_is_left_out() -> None:
    """Its modules do nothing at import, so that hardly anything of them is left out."""
    folder = Path(__file__).parents[2] / "batchdigit" / "networks"
    for path in folder.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        top = {node.name for node in ast.parse(text).body if hasattr(node, "name")}
        assert top <= set(definitions(text).names)
