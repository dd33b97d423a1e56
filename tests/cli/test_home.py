"""No command calls home, and none leaves anything in the user's home but our own cache."""

import subprocess
import sys
from pathlib import Path

import pytest

from batchdigit.job import PACKAGED_WEIGHTS
from tests.support.platforms import needs_linux
from tests.support.programs import users_environment
from tests.support.samples import SAMPLES

# Every Python that is started runs this first.
WATCH = """
import os, socket, sys

def note(text):
    with open({log!r}, "a") as log:
        log.write(text + "\\n")

def watch(event, arguments):
    if event == "socket.__new__" and arguments[1] != socket.AF_UNIX:
        note(f"socket {{arguments[1:]}}")
    if event in ("socket.connect", "socket.getaddrinfo") and arguments[0] is None:
        note(f"{{event}} {{arguments}}")
    if event == "import" and arguments[0] == "onnxruntime":
        note("onnxruntime " + os.environ.get("ORT_DISABLE_TELEMETRY", "not told"))

sys.addaudithook(watch)
"""
COMMANDS = {
    "run": ["run", "{images}", "--out", "preds.csv", "--backend", "onnxruntime", "--workers", "2"],
    "run torch": [
        *("run", "{images}", "--out", "preds.parquet", "--backend", "torch"),
        *("--metrics", "preds.prom", "--log-file", "preds.log"),
    ],
    "doctor": ["doctor"],
    "model convert": ["model", "convert", "{model}", "CNN.onnx"],
    "bench": [
        *("bench", "{images}", "--seconds", "5", "--backends", "onnxruntime"),
        *("--batch-sizes", "8", "--workers", "1", "--plot", "bench.html"),
    ],
}
PREDICT = """
import threading, time, batchdigit
threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
batchdigit.predict({images!r}, backend="onnxruntime", workers=1)
"""
USES_ONNX_RUNTIME = {"run", "doctor", "model convert", "bench", "predict"}


@needs_linux("HOME alone says where the home is")
@pytest.mark.parametrize("name", [*COMMANDS, "predict"])
def test_nothing_calls_home_or_is_left_there(tmp_path: Path, name: str) -> None:
    home, log, hook = tmp_path / "home", tmp_path / "log", tmp_path / "hook"
    home.mkdir()
    hook.mkdir()
    log.touch()
    (hook / "sitecustomize.py").write_text(WATCH.format(log=str(log)))
    values = {"images": str(SAMPLES), "model": str(PACKAGED_WEIGHTS)}
    if name == "predict":
        command = ["-c", PREDICT.format(**values)]
    else:
        command = ["-m", "batchdigit", *(word.format(**values) for word in COMMANDS[name])]
    environment = users_environment() | {"HOME": str(home), "PYTHONPATH": str(hook)}
    for variable in ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME", "MPLCONFIGDIR"):
        environment.pop(variable, None)
    done = subprocess.run(
        [sys.executable, *command],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    left = {path.relative_to(home).as_posix() for path in home.rglob("*")}
    assert {path for path in left if not path.startswith(".cache/batchdigit")} <= {".cache"}
    noted = set(log.read_text().splitlines())
    # The processes of bench run isolated before Python 3.11, so they don't read PYTHONPATH.
    watched = name != "bench" or sys.version_info >= (3, 11)
    assert noted == ({"onnxruntime 1"} if name in USES_ONNX_RUNTIME and watched else set())


@needs_linux("HOME alone says where the home is")
@pytest.mark.parametrize("backend", ["torch", "onnxruntime"])
def test_home_that_cannot_be_written_is_not_spoken_of(tmp_path: Path, backend: str) -> None:
    """A file in its place, because root may write to every folder."""
    (tmp_path / "home").touch()
    environment = users_environment() | {"HOME": str(tmp_path / "home")}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    command = ["run", str(SAMPLES), "--out", "preds.csv", "--quiet", "--backend", backend]
    done = subprocess.run(
        [sys.executable, "-m", "batchdigit", *command],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
