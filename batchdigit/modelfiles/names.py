"""What the names in a pickle stand for: data, what runs things, or nobody knows.

Nothing that a pickle names is ever imported or called here. These lists decide what a person is
told: nothing about data, a word about what nobody knows, and a refusal where a name runs commands
or code, because no training program writes such a file.
"""

from __future__ import annotations

import builtins

CONTAINERS = frozenset(
    {
        *(f"builtins.{name}" for name in ("dict", "frozenset", "list", "set", "tuple")),
        *(f"collections.{name}" for name in ("Counter", "OrderedDict", "defaultdict", "deque")),
    }
)
"""Classes that hold whatever they are called with, and neither change it nor call it."""

PLAIN_DATA = frozenset(
    {
        *CONTAINERS,
        # How pickles write bytes, and objects of protocols 0 and 1.
        "_codecs.encode",
        "copyreg._reconstructor",
        *(
            f"builtins.{name}"
            for name in (
                *("bool", "bytearray", "bytes", "complex", "float", "int", "object", "range"),
                *("slice", "str", "Ellipsis", "NotImplemented"),
                # What compares and adds up, as what an early stopping takes the best by.
                *("abs", "all", "any", "divmod", "len", "max", "min", "pow", "round", "sorted"),
                "sum",
            )
        ),
        *(
            f"builtins.{name}"
            for name, value in vars(builtins).items()
            if isinstance(value, type) and issubclass(value, BaseException)
        ),
        *(f"datetime.{name}" for name in ("date", "datetime", "time", "timedelta", "timezone")),
        *(
            f"{module}.{name}"
            for module in ("pathlib", "pathlib._local")  # the latter by Python 3.13
            for name in (
                *("Path", "PosixPath", "WindowsPath"),
                *("PurePath", "PurePosixPath", "PureWindowsPath"),
            )
        ),
        *("argparse.Namespace", "types.SimpleNamespace"),
        *("decimal.Decimal", "fractions.Fraction", "uuid.UUID", "uuid.SafeUUID"),
        *(
            f"numpy.{core}.{name}"
            for core in ("core", "_core")  # the latter by numpy 2
            for name in ("multiarray.scalar", "multiarray._reconstruct", "numeric._frombuffer")
        ),
        *("numpy.ndarray", "numpy.dtype", "numpy.str_", "numpy.bytes_", "numpy.bool_"),
        *(f"numpy.float{bits}" for bits in (16, 32, 64)),
        *(f"numpy.{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
        *(
            f"numpy.random._pickle.__{kind}_ctor"
            for kind in ("bit_generator", "generator", "randomstate")
        ),
        *(
            f"numpy.random.{module}"
            for module in (
                *("_mt19937.MT19937", "_pcg64.PCG64", "_pcg64.PCG64DXSM", "_philox.Philox"),
                *("_sfc64.SFC64", "bit_generator.SeedSequence"),
                *("bit_generator.__pyx_unpickle_SeedSequence",),
            )
        ),
        *("torch._utils._rebuild_tensor_v3", "torch._utils._rebuild_qtensor"),
        *("torch.Size", "torch.device", "torch.Generator", "torch._C.Generator"),
        *(
            f"torch.{name}"
            for name in (
                *("float16", "float32", "float64", "bfloat16", "complex64", "complex128", "bool"),
                *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
            )
        ),
    }
)
"""Classes and functions by which data is pickled, so that nobody need be told of them.

What some of them make is of a class that they are given, or they call it: numpy's and copyreg's
functions. So they are known, but only ``CONTAINERS`` may be given weights.
"""

_DATA_CLASSES = frozenset(
    {
        "lightning.fabric.utilities.data.AttributeDict",
        "lightning_fabric.utilities.data.AttributeDict",
        "lightning.pytorch.utilities.parsing.AttributeDict",
        "pytorch_lightning.utilities.parsing.AttributeDict",
    }
)
_DATA_MODULES = (  # optimizers, schedulers and losses as they are, and settings
    "torch.optim.",
    "torch.nn.modules.",
    "torch.amp.grad_scaler.",
    "torch.cuda.amp.grad_scaler.",
    "omegaconf.",
    "typing.",
)

_RUNNERS = frozenset(  # wherever they stand in a name: posixpath.os.system
    {
        *("builtins", "__builtins__", "ctypes", "importlib", "nt", "os", "posix", "subprocess"),
        *("posixsubprocess", "sys"),
    }
)
_RUNNING_MODULES = frozenset(  # modules of Python's, and some others, that run or reach things
    {
        *("asyncio", "atexit", "bdb", "cProfile", "cffi", "cloudpickle", "code", "codeop"),
        *("commands", "dill", "distutils", "doctest", "ensurepip", "fcntl", "ftplib", "gc"),
        *("http", "httpx", "idlelib", "imp", "inspect", "joblib", "lib2to3", "linecache"),
        *("marshal", "mmap", "multiprocessing", "paramiko", "pdb", "pickle", "pip", "pkgutil"),
        *("pkg_resources", "platform", "popen2", "profile", "pty", "pydoc", "requests", "runpy"),
        *("setuptools", "shelve", "shutil", "signal", "site", "smtplib", "socket"),
        *("socketserver", "sqlite3", "ssl", "tempfile", "test", "timeit", "trace", "unittest"),
        *("urllib", "urllib3", "venv", "webbrowser", "xmlrpc", "zipapp", "zipimport"),
    }
)
_RUNNING_NAMES = (  # a name, or what is in it
    *("codecs.open", "io.FileIO", "io.open", "io.open_code"),
    *("operator.attrgetter", "operator.call", "operator.methodcaller"),
    *("types.CodeType", "types.FunctionType", "types.LambdaType", "types.ModuleType"),
    *("numpy.ctypeslib", "numpy.distutils", "numpy.f2py", "numpy.load", "numpy.testing"),
    *("torch._inductor", "torch.classes", "torch.distributed.rpc", "torch.fx", "torch.hub"),
    *("torch.jit", "torch.load", "torch.ops", "torch.package", "torch.serialization"),
    *("torch.testing", "torch.utils.bottleneck", "torch.utils.collect_env"),
    *("torch.utils.cpp_extension", "torch.utils.model_zoo"),
)

GETATTR = "builtins.getattr"
"""How a method, or a class within a class, is pickled; what it is asked for decides."""


def is_data(name: str) -> bool:
    """Whether a class or function (``module.name``) is known to hold only data."""
    known = name in PLAIN_DATA or name in _DATA_CLASSES or name.startswith(_DATA_MODULES)
    return known and not runs_things(name)


def runs_things(name: str) -> bool:
    """Whether a class or function runs commands or code, loads more of it, or reaches outside."""
    if name in PLAIN_DATA:
        return False
    parts = [part.lstrip("_") for part in name.split(".")]
    plain = ".".join(parts)
    return (
        not _RUNNERS.isdisjoint({*parts, *name.split(".")})
        or parts[0] in _RUNNING_MODULES
        or any(plain == runner or plain.startswith(f"{runner}.") for runner in _RUNNING_NAMES)
    )
