"""What lies in the working folder does not run, however a process is started."""

import os
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

import pytest

from batchdigit.system.working_folder import (
    OURS,
    importing_elsewhere,
    python,
    starting_elsewhere,
    unchanged_library_path,
)
from tests.support.platforms import needs_linux
from tests.support.samples import SAMPLES

# Modules that Python, multiprocessing and the program import early.
PLANTED = (
    *("multiprocessing", "typer", "numpy", "socket", "selectors", "pickle", "runpy", "pkgutil"),
    *("struct", "threading", "torch", "cv2", "PIL", "batchdigit", "sitecustomize", "usercustomize"),
)


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A folder of digits, and of modules that leave a mark when they run."""
    folder = tmp_path / "hostile"
    folder.mkdir()
    for name in PLANTED:
        code = (
            f"import os; os.close(os.open({str(tmp_path / 'ran')!r}, os.O_CREAT | os.O_WRONLY))\n"
        )
        (folder / f"{name}.py").write_text(code + f"raise SystemExit('{name} ran')\n")
    for path in sorted(SAMPLES.glob("*.png"))[:20]:
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def ran(folder: Path) -> bool:
    return (folder.parent / "ran").exists()


def users_program(code: str, folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """A user's program, which lies elsewhere and runs in a folder that it does not trust."""
    script = folder.parent / "program.py"
    script.write_text(code)
    return subprocess.run(
        [sys.executable, *flags, script], cwd=folder, capture_output=True, text=True, check=False
    )


CARELESS = """
import multiprocessing
if __name__ == "__main__":
    process = multiprocessing.get_context({method!r}).Process(target=print)
    process.start()
    process.join()
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_attack_works_on_a_careless_program(hostile: Path, method: str) -> None:
    users_program(CARELESS.format(method=method), hostile)
    assert ran(hostile)


PREDICT = """
import threading, time
import batchdigit
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
table = batchdigit.predict(".", workers=2, start_method={method!r}, backend={backend!r})
print(len(table), table["error"].isna().all())
"""


@pytest.mark.parametrize("flags", [(), ("-E",)], ids=["", "-E"])
@pytest.mark.parametrize("backend", ["torch", "onnxruntime"])
@pytest.mark.parametrize("method", ["spawn", None])
def test_worker_processes_run_nothing_of_it(
    hostile: Path, method: str | None, backend: str, flags: tuple[str, ...]
) -> None:
    done = users_program(PREDICT.format(method=method, backend=backend), hostile, *flags)
    assert done.stdout == "20 True\n", done.stderr
    assert not ran(hostile)


COMMANDS = {
    "run": ["run", ".", "--out", "{out}/preds.csv", "--workers", "2"],
    "run torch": ["run", ".", "--out", "{out}/preds.csv", "--workers", "2", "--backend", "torch"],
    "bench": [
        *("bench", ".", "--seconds", "5", "--backends", "onnxruntime", "--batch-sizes", "8"),
        *("--workers", "0,1"),
    ],
    "doctor": ["doctor"],
    "model inspect": ["model", "inspect", "{model}"],
    "model convert": ["model", "convert", "{model}", "{out}/CNN.onnx"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_run_nothing_of_it(hostile: Path, tmp_path: Path, name: str) -> None:
    values = {"out": tmp_path, "model": OURS / "weights" / "CNN.pt"}
    arguments = [argument.format(**values) for argument in COMMANDS[name]]
    script = Path(sys.executable).parent / "batchdigit"
    done = subprocess.run(
        [script, *arguments], cwd=hostile, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not ran(hostile)


def test_training_runs_nothing_of_it(hostile: Path) -> None:
    code = """
import torch
from batchdigit.training import digits
if __name__ == "__main__":
    digits.choose_start_method = lambda _asked: "spawn"
    images = torch.randint(0, 256, (600, 1, 28, 28), dtype=torch.uint8)
    print(len(digits.variants_of(digits.Digits(images, torch.zeros(600, dtype=torch.int64)), 0)))
"""
    done = users_program(code, hostile)
    assert done.stdout == "600\n", done.stderr
    assert not ran(hostile)


def test_module_of_this_installation_is_run(hostile: Path) -> None:
    with starting_elsewhere():
        done = subprocess.run(
            python("batchdigit", ["--version"]),
            cwd=hostile,
            capture_output=True,
            text=True,
            check=True,
        )
    assert done.stdout.startswith("batchdigit ")
    assert not ran(hostile)


@pytest.mark.parametrize(
    ("path", "seen"),
    [(None, None), ("", None), ("/a::/b:", "/a:/b"), (":lib", None), ("/a", "/a"), (".", None)],
)
def test_children_look_for_libraries_in_folders_that_are_named(
    monkeypatch: pytest.MonkeyPatch, path: str | None, seen: str | None
) -> None:
    if path is None:
        monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    else:
        monkeypatch.setenv("LD_LIBRARY_PATH", path)
    with starting_elsewhere():
        assert os.environ.get("LD_LIBRARY_PATH") == seen
    assert os.environ.get("LD_LIBRARY_PATH") == path


@pytest.mark.parametrize("before", [None, "/a"])
def test_library_path_stays_as_it_was(monkeypatch: pytest.MonkeyPatch, before: str | None) -> None:
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    if before is not None:
        monkeypatch.setenv("LD_LIBRARY_PATH", before)
    with unchanged_library_path():
        os.environ["LD_LIBRARY_PATH"] = "/b:"  # as cv2 does
    assert os.environ.get("LD_LIBRARY_PATH") == before


IMPORT = """
from pathlib import Path
from batchdigit.system.imports import loading
{careless}with loading("PyTorch", "torch"):
    import torch
print("/libcuda.so.1" in Path("/proc/self/maps").read_text())
"""


@needs_linux("a loader that honours RPATH")
def test_library_in_the_working_folder_is_not_loaded(tmp_path: Path) -> None:
    """One of the libraries of PyTorch's build for GPUs looks there first for their driver."""
    folder = tmp_path / "hostile"
    folder.mkdir()
    library = find_spec("_struct")
    assert library is not None
    assert library.origin is not None
    (folder / "libcuda.so.1").write_bytes(Path(library.origin).read_bytes())
    assert users_program(IMPORT.format(careless=""), folder).stdout == "False\n"
    if users_program(IMPORT.format(careless="import torch\n"), folder).stdout == "False\n":
        pytest.skip("this build of PyTorch does not look there")


def test_imports_happen_in_a_folder_of_ours_while_nobody_else_is_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    with importing_elsewhere():
        assert Path.cwd() == OURS
    assert Path.cwd() == tmp_path
    with pytest.raises(ZeroDivisionError), importing_elsewhere():
        _ = 1 / 0
    assert Path.cwd() == tmp_path
    with monkeypatch.context() as patch:
        patch.syspath_prepend("")
        with importing_elsewhere():
            assert Path.cwd() == tmp_path
    monkeypatch.setattr(threading, "active_count", lambda: 2)
    with importing_elsewhere():
        assert Path.cwd() == tmp_path


def test_matplotlibrc_of_the_working_folder_is_not_read(hostile: Path) -> None:
    (hostile / "matplotlibrc").write_bytes(b"\xff\xfe")  # no text, which ends its reading
    code = """
from batchdigit.bench.views.plot import check_plot_path
from pathlib import Path
{careless}check_plot_path(Path("plot.svg"))
print("fine")
"""
    assert users_program(code.format(careless=""), hostile).stdout == "fine\n"
    assert users_program(code.format(careless="import matplotlib\n"), hostile).stdout == ""


def test_onnx_runtime_tells_nobody_that_it_is_used(tmp_path: Path) -> None:
    home = tmp_path / "home"
    folder = tmp_path / "folder"
    folder.mkdir()
    code = """
import os
os.environ["HOME"] = {home!r}
{careless}
import batchdigit
print(len(batchdigit.predict({images!r}, backend="onnxruntime", workers=0)))
"""
    values = {"home": str(home), "images": str(SAMPLES)}
    done = users_program(code.format(careless="", **values), folder)
    assert (done.stdout, done.stderr) == (f"{len(list(SAMPLES.glob('*.png')))}\n", "")
    assert not home.exists()
    users_program(code.format(careless="import onnxruntime", **values), folder)
    if not home.exists():
        pytest.skip("this version of ONNX Runtime writes nothing")
