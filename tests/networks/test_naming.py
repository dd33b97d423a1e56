"""--network names a class in a file or a module, and says what is wrong with any other text."""

import subprocess
import sys

import pytest

from batchdigit.errors import UsageError
from batchdigit.networks.naming import NetworkName, told_apart
from tests.networks.conftest import Write


@pytest.mark.parametrize(
    ("text", "source", "class_name", "is_file"),
    [
        ("net.py:Net", "net.py", "Net", True),
        ("a/b c/net.PY:Net", "a/b c/net.PY", "Net", True),
        ("nb.ipynb:Outer.Inner", "nb.ipynb", "Outer.Inner", True),
        ("C:/nets/net.py:Net", "C:/nets/net.py", "Net", True),
        ("torchvision.models:resnet18", "torchvision.models", "resnet18", False),
        ("net:Net", "net", "Net", False),
    ],
)
def test_source_and_class_are_told_apart(
    text: str, source: str, class_name: str, is_file: bool
) -> None:
    name = NetworkName.parse(text)
    assert (name.source, name.class_name, name.is_file) == (source, class_name, is_file)
    assert str(name) == text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        (":", "does not name a class"),
        (":Net", "does not name a class"),
        ("Net", "does not name a class"),
        ("torchvision.models", "does not name a class"),
        ("net.py:1", "1 is no name of a class"),
        ("net.py:a b", "a b is no name of a class"),
        ("net.py:Net.", "Net. is no name of a class"),
        ("nets/net:Net", "nets/net is neither a .py or .ipynb file nor the name of a module"),
        ("net.txt.:Net", "neither a .py"),
        ("a\0.py:Net", "null character"),
        (5, "of type int"),
    ],
)
def test_anything_else_is_wrong_usage(text: object, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        NetworkName.parse(text)


@pytest.mark.parametrize("text", ["net.py", "net.py:"])
def test_file_without_a_class_gets_its_networks_named(write: Write, text: str) -> None:
    write(
        "net.py",
        """
        class Block(nn.Module): pass
        class Data(Dataset): pass
        class Net(pl.LightningModule):
            def __init__(self): self.block = Block()
        class Wide(Net): pass
        """,
    )
    with pytest.raises(UsageError) as caught:
        NetworkName.parse(text)
    # Wide derives from Net, which makes Block: what nobody uses is what is most likely meant.
    assert caught.value.remedy == "net.py defines Wide, Block, Net; write net.py:Wide"


@pytest.mark.parametrize("content", ["x = 1", "class Net(:", None])
def test_file_without_networks_gets_the_form_named(write: Write, content: str | None) -> None:
    if content is not None:
        write("net.py", content)
    with pytest.raises(UsageError) as caught:
        NetworkName.parse("net.py")
    assert caught.value.remedy == "write net.py:CLASS"


def test_networks_are_told_apart_by_code_class_and_arguments_but_not_by_place() -> None:
    of = told_apart("net.py:Net", None, "ab12")
    assert of == told_apart("elsewhere/other.py:Net", None, "ab12")
    others = [
        told_apart("net.py:Wide", None, "ab12"),
        told_apart("net.py:Net", [1], "ab12"),
        told_apart("net.py:Net", {"a": 1}, "ab12"),
        told_apart("net.py:Net", None, "cd34"),
        told_apart("compiled:Net", None, ""),
        told_apart("other:Net", None, ""),
    ]
    assert len({str(one) for one in [of, *others]}) == 1 + len(others)
    ordered, other_order = (
        told_apart("a:B", one, "") for one in ({"a": 1, "b": 2}, {"b": 2, "a": 1})
    )
    assert ordered == other_order


@pytest.mark.parametrize("module", ["naming", "load"])
def test_import_takes_no_torch(module: str) -> None:
    code = f"import sys, batchdigit.networks.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
