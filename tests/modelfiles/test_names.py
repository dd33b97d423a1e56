"""What the names in a pickle stand for."""

import argparse
import collections
import datetime
import decimal
import pathlib
import pickle
import random
import types
import uuid
from typing import Any

import numpy as np
import pytest
import torch

from batchdigit.modelfiles.names import PLAIN_DATA, is_data, runs_things
from batchdigit.modelfiles.pickled import read_pickle
from batchdigit.modelfiles.tensors import TENSOR_DATA

OPTIMIZER = torch.optim.AdamW([torch.zeros(1, requires_grad=True)])
DATA: list[Any] = [
    argparse.Namespace(lr=0.1),
    types.SimpleNamespace(lr=0.1),
    pathlib.Path("data"),
    pathlib.PurePosixPath("data"),
    datetime.datetime.now(datetime.timezone.utc),
    datetime.date(2026, 1, 31),
    datetime.timedelta(seconds=1),
    collections.defaultdict(list, a=[1]),
    collections.deque([1]),
    collections.Counter("ab"),
    decimal.Decimal("0.1"),
    {1, 2},
    frozenset({1}),
    b"bytes",
    bytearray(b"bytes"),
    1j,
    range(3),
    slice(1),
    np.float64(0.9),
    np.float32(0.9),
    np.int64(3),
    np.bool_(True),
    np.str_("text"),
    np.eye(3),
    np.dtype("float32"),
    np.random.get_state(),
    np.random.default_rng(1),
    np.random.RandomState(1),
    np.random.SeedSequence(1),
    random.getstate(),
    torch.float16,
    torch.device("cpu"),
    torch.Size([1, 2]),
    torch.nn.CrossEntropyLoss(),
    torch.amp.GradScaler("cpu"),
    torch.optim.lr_scheduler.StepLR(OPTIMIZER, 1).state_dict(),
    {"best": max, "worst": min, "stopped by": KeyboardInterrupt(), "left out": ...},
]


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("data", DATA, ids=lambda data: type(data).__name__)
def test_what_training_programs_save_is_data(data: Any, protocol: int) -> None:
    names = read_pickle(pickle.dumps(data, protocol)).globals
    assert [name for name in names if not (is_data(name) or name in TENSOR_DATA)] == []


def test_uuid_is_data() -> None:
    names = read_pickle(pickle.dumps(uuid.uuid4(), 2)).globals
    assert [name for name in names if not is_data(name)] in ([], ["builtins.getattr"])


@pytest.mark.parametrize(
    "name",
    [
        *("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"),  # numpy 1 and 2
        "lightning.fabric.utilities.data.AttributeDict",
        "omegaconf.dictconfig.DictConfig",
        "pathlib._local.PosixPath",  # by Python 3.13
    ],
)
def test_what_other_versions_and_packages_save_is_data(name: str) -> None:
    assert is_data(name)


@pytest.mark.parametrize(
    "name",
    [
        *("os.system", "posix.system", "nt.system", "subprocess.Popen", "sys.exit"),
        *(f"builtins.{name}" for name in ("eval", "exec", "compile", "__import__", "getattr")),
        *("builtins.map", "builtins.type", "builtins.print", "builtins.globals"),
        *("builtins.open", "builtins.breakpoint", "io.open", "_io.open", "_io.FileIO"),
        *("posixpath.os.system", "argparse._os.system", "torch.optim.adam.sys.modules"),
        *("torch.nn.modules.module.os.system", "omegaconf.basecontainer.sys.exit"),
        *("importlib.import_module", "runpy.run_path", "shutil.rmtree", "socket.socket"),
        *("ctypes.CDLL", "_ctypes.dlopen", "code.InteractiveConsole", "pty.spawn"),
        *("webbrowser.open", "pickle.loads", "_pickle.loads", "marshal.loads", "dill.loads"),
        *("types.FunctionType", "types.CodeType", "operator.attrgetter", "_operator.methodcaller"),
        *("torch.load", "torch.hub.load", "torch.jit.load", "torch.serialization.load"),
        *("torch.fx.graph_module.reduce_graph_module", "torch.utils.cpp_extension.load"),
        *("numpy.testing._private.utils.runstring", "numpy.load", "cloudpickle.loads"),
        *("multiprocessing.util.spawnv_passfds", "_posixsubprocess.fork_exec", "timeit.timeit"),
    ],
)
def test_what_runs_commands_or_code_is_known(name: str) -> None:
    assert runs_things(name)
    assert not is_data(name)


@pytest.mark.parametrize(
    "name",
    [
        *("__main__.Config", "project.utils.AverageMeter", "functools.partial", "operator.lt"),
        *("timm.utils.model_ema.ModelEmaV2", "logging.getLogger", "sklearn.metrics._x.Y"),
        *("oslo.Config", "positions.Table", "torch.loader.X", "systems.Net"),
    ],
)
def test_what_nobody_knows_is_neither(name: str) -> None:
    assert not runs_things(name)
    assert not is_data(name)


def test_plain_data_runs_nothing() -> None:
    assert not any(map(runs_things, PLAIN_DATA))
