"""The user's file and its siblings become modules of which only definitions have run."""

import copy
import importlib
import inspect
import os
import py_compile
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import pytest

from batchdigit.networks.definitions import Definitions
from batchdigit.networks.explaining import AbsentNameError, UserCode
from batchdigit.networks.running import SiblingFinder, package_of, run_file, siblings
from batchdigit.networks.sourcefile import read_source
from tests.networks.conftest import Write

TRAINS = "open('trained', 'w')\nargs = train()\n"


def run(path: Path, code: UserCode | None = None) -> ModuleType:
    """Run all steps of a file, with its siblings."""
    code = code or UserCode()
    source = read_source(path, path.name)
    with siblings(path, path.name, code):
        return run_file(source, path, Definitions.of(source).steps, code)


def test_definitions_run_and_the_rest_does_not(write: Write, folder: Path) -> None:
    module = run(write("net.py", f"x = 1\n{TRAINS}class C: y = x\n"))
    assert module.C.y == 1
    assert not (folder / "trained").exists()


def test_module_is_registered_by_a_private_name(write: Write) -> None:
    module = run(write("my-net.v2.py", "class C: pass"))
    assert module.__name__ == "_batchdigit_network.my-net_v2"
    assert sys.modules[module.__name__] is module
    assert type(copy.deepcopy(module.C())) is module.C
    assert module.__file__ == str(Path("my-net.v2.py").absolute())


def test_dataclass_with_postponed_annotations_works(write: Write) -> None:
    text = (
        "from __future__ import annotations\nfrom dataclasses import dataclass, KW_ONLY\n"
        "@dataclass\nclass C:\n  x: int\n  _: KW_ONLY\n  y: Unknown = 5\n"
    )
    assert run(write("net.py", text)).C(1, y=2).y == 2


def test_last_binding_wins(write: Write) -> None:
    module = run(write("net.py", "x = 1\nx += 1\nclass C: pass\nclass C(C): old = x\n"))
    assert module.C.old == 2
    assert module.C.__bases__[0].__name__ == "C"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("x = train()", "`x`, which line 1 of net.py sets, was not run: only imports,"),
        ("x = 1\nx = train()", "`x`, which line 2 of net.py sets, was not run"),
        ("import nowhere as x", "net.py, line 1, needs the package nowhere"),
        ("y = train()\nx = y.z", "`y`, which line 1 of net.py sets, was not run"),
        ("x = 1\nx = 1 / 0", "net.py, line 2, raises ZeroDivisionError"),
        ("import sys\nif sys.platform == 'x':\n  x = 1", "`x`, which line 3 of net.py may set"),
        ("if True:\n  x = train()", "`x`, which line 2 of net.py sets, was not run"),
        ("try:\n  import nowhere as x\nexcept ImportError:\n  exit()", "net.py, line 2, needs"),
        ("def f():\n  return\n  nonlocal x\nx = f", "net.py, line 3, is not Python"),
    ],
)
def test_name_that_is_absent_has_its_reason(write: Write, text: str, why: str) -> None:
    module = run(write("net.py", text))
    with pytest.raises(AbsentNameError) as caught:
        module.x  # noqa: B018
    assert str(caught.value).startswith(why)
    assert caught.value.explanation.remedy


@pytest.mark.parametrize(
    "text",
    [
        "x = train()\nx = 5",
        "x = 5\nif train(): x = 6",
        "x = 5\nfor x in range(9): pass",
        "import nowhere as x\nx = 5",
        "try:\n  import nowhere as x\nexcept ImportError:\n  x = 5",
        "import nowhere\nx = 5",
        "from nowhere import *\nx = 5",
    ],
)
def test_name_that_is_bound_is_there_whatever_was_left_out(write: Write, text: str) -> None:
    assert run(write("net.py", text)).x == 5


def test_name_that_is_nowhere_is_no_attribute(write: Write) -> None:
    module = run(write("net.py", "x = 1"))
    assert not hasattr(module, "y")


def test_sibling_is_imported_without_what_it_does(write: Write, folder: Path) -> None:
    write("helper.py", f"import nowhere\n{TRAINS}class Block: pass\n")
    module = run(write("net.py", "import helper\nfrom helper import Block, args\n"))
    assert module.Block is module.helper.Block
    assert not (folder / "trained").exists()
    with pytest.raises(AbsentNameError, match="`args`, which line 3 of helper.py sets"):
        module.helper.args  # noqa: B018
    with pytest.raises(AbsentNameError, match="nowhere"):
        module.helper.nowhere  # noqa: B018
    with pytest.raises(AbsentNameError, match="`args`"):
        module.args  # noqa: B018


def test_star_import_of_a_sibling_brings_what_there_is(write: Write) -> None:
    write("helper.py", f"{TRAINS}x = 5\n")
    assert run(write("net.py", "from helper import *\ny = x + 1\n")).y == 6


@pytest.mark.parametrize("exported", ["['args', 'x']", "make_list()"])
def test_star_import_goes_by_what_is_there_of_what_is_exported(write: Write, exported: str) -> None:
    write("helper.py", f"{TRAINS}x = 5\n__all__ = {exported}\n")
    assert run(write("net.py", "from helper import *\ny = x + 1\n")).y == 6


def test_siblings_may_import_each_other_and_the_file(write: Write, folder: Path) -> None:
    write("one.py", f"{TRAINS}import two\nfrom net import WIDTH\ndef f(): return two.g() + WIDTH")
    write("two.py", f"{TRAINS}import one\ndef g(): return 1")
    module = run(write("net.py", f"WIDTH = 5\n{TRAINS}import one\n"))
    assert module.one.f() == 6
    assert not (folder / "trained").exists()


def test_siblings_use_and_leave_no_cache(write: Write) -> None:
    path = write("helper.py", "x = 1")
    before = path.stat()
    cached = Path(py_compile.compile(str(path)))
    path.write_text("x = 2", encoding="utf-8")  # same size, same time: a valid cache for Python
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    net = write("net.py", "import helper")
    assert run(net).helper.x == 2
    cached.unlink()
    run(net)
    assert list(cached.parent.iterdir()) == []


def test_packages_below_the_folder_are_siblings_too(write: Write, folder: Path) -> None:
    write("layers/__init__.py", f"{TRAINS}from .block import Block")
    write("layers/block.py", f"{TRAINS}class Block: pass")
    write("plain/part.py", f"{TRAINS}x = 5")
    module = run(
        write("net.py", "from layers import Block\nimport plain.part\nimport layers.block")
    )
    assert module.Block is module.layers.block.Block
    assert module.plain.part.x == 5
    assert not (folder / "trained").exists()


def test_relative_imports_work_in_a_package(write: Write, folder: Path) -> None:
    write("outer_nets/__init__.py", TRAINS)
    write("outer_nets/util.py", "y = 7")
    write("outer_nets/inner/__init__.py", TRAINS)
    write("outer_nets/inner/layers.py", f"{TRAINS}x = 5")
    text = "from .layers import x\nfrom ..util import y\nfrom outer_nets import util\nimport layers"
    module = run(write("outer_nets/inner/net.py", text))
    assert (module.x, module.y, module.util.y, module.layers.x) == (5, 7, 7, 5)
    assert module.__package__ == module.__spec__.parent == "outer_nets.inner"
    assert not (folder / "trained").exists()
    assert package_of(folder / "outer_nets" / "inner") == ("outer_nets.inner", folder)


def test_standard_library_is_not_shadowed_but_installed_packages_are(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("tabnanny", "mypy_extensions"):
        monkeypatch.delitem(sys.modules, name, raising=False)
        write(f"{name}.py", "x = 'own'")
    module = run(write("net.py", "import tabnanny, mypy_extensions"))
    assert hasattr(module.tabnanny, "process_tokens")
    assert module.mypy_extensions.x == "own"


def test_sibling_that_changed_is_loaded_anew(write: Write) -> None:
    net = write("net.py", "import helper\nx = helper.x")
    write("helper.py", "x = 1")
    assert run(net).x == 1
    write("helper.py", "x = 2")
    assert run(net).x == 2
    assert not [one for one in sys.meta_path if isinstance(one, SiblingFinder)]


def test_siblings_of_two_folders_do_not_mix(write: Write) -> None:
    for name in ("a", "b"):
        write(f"{name}/helper.py", f"x = {name!r}")
        path = write(f"{name}/net.py", "import helper\nx = helper.x")
        assert run(path).x == name


def test_folder_stays_importable_for_functions_that_import(write: Write, folder: Path) -> None:
    write("late.py", f"{TRAINS}x = 5")
    module = run(write("net.py", "def f():\n  import late\n  return late.x"))
    assert module.f() == 5
    assert not (folder / "trained").exists()


def test_siblings_give_way_to_the_callers_own_modules(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("helper.py", f"{TRAINS}x = 'sibling'")
    write("plain/part.py", "x = 'sibling'")
    own = ModuleType("helper")
    monkeypatch.setitem(sys.modules, "helper", own)
    net = write("net.py", "import helper, plain.part\ndef f():\n  import helper\n  return helper.x")
    for _ in range(2):
        module = run(net)
        assert module.helper.x == "sibling"
        assert sys.modules["helper"] is own
        assert module.f() == "sibling"
        assert sys.modules["helper"] is own
        assert "plain" not in sys.modules
        assert "plain.part" not in sys.modules


def test_only_the_users_code_finds_siblings_afterwards(write: Write) -> None:
    write("helper.py", "x = 1")
    write("late.py", "import helper\nx = helper.x")
    module = run(write("net.py", "import helper\ndef f():\n  import late\n  return late"))
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("helper")
    late = module.f()
    assert module.f() is late
    assert late.helper is module.helper
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("late")


def test_threads_import_siblings_at_the_same_time(write: Write) -> None:
    write("late.py", "import time\nx = 5\nclass C: time.sleep(0.05)")
    module = run(write("net.py", "def f(_):\n  import late\n  return late"))
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(module.f, range(32)))
    assert len(set(map(id, found))) == 1
    assert found[0].x == 5


def test_missing_package_of_a_late_import_is_told_as_the_files_own(write: Write) -> None:
    code = UserCode()
    module = run(write("net.py", "def f():\n  import nowhere"), code)
    code.shown[str(Path("net.py").absolute())] = "net.py"
    with pytest.raises(ModuleNotFoundError) as caught:
        module.f()
    known = code.explain(caught.value)
    assert known is not None
    assert known.remedy.startswith("if it is your own, put it beside the file")


def test_absent_name_is_no_attribute_either(write: Write) -> None:
    write("helper.py", "x = train()")
    module = run(write("net.py", "import helper\ndef f():\n  from helper import x"))
    assert not hasattr(module.helper, "x")
    with pytest.raises(AbsentNameError, match="`x`, which line 1 of helper.py sets"):
        module.f()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("x = 1\nx = (", "helper.py, line 2 is not Python"),
        (b"x = '\xe9'", "helper.py is not UTF-8"),
        ("import again", "helper.py, line 1, needs the package again"),
    ],
)
def test_trouble_in_a_sibling_is_told_where_it_is(
    write: Write, folder: Path, text: str | bytes, why: str
) -> None:
    (folder / "helper.py").write_bytes(text.encode() if isinstance(text, str) else text)
    module = run(write("net.py", "from helper import again"))
    with pytest.raises(AbsentNameError) as caught:
        module.again  # noqa: B018
    assert str(caught.value).startswith(why)


def test_digests_of_siblings_are_known(write: Write) -> None:
    write("helper.py", "import layers.block")
    write("layers/block.py", "x = 1")
    write("unused.py", "x = 1")
    code = UserCode()
    run(write("net.py", "import helper"), code)
    assert sorted(code.digests) == ["helper.py", "layers/block.py"]


def test_source_of_a_sibling_can_be_looked_at(write: Write) -> None:
    write("helper.py", "def f():\n    return 5\n")
    module = run(write("net.py", "import helper\ndef g():\n    return 6\n"))
    assert inspect.getsource(module.helper.f) == "def f():\n    return 5\n"
    assert inspect.getsource(module.g) == "def g():\n    return 6\n"
    assert module.helper.__loader__.get_source("helper").startswith("def f")
