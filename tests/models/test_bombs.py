"""Model files that would take any amount of memory or time. All are refused, soon and cheaply.

Each attack comes with a careless way of reading that it works on, so that the attack itself is
known to be one.
"""

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from batchdigit.models.network import cnn
from batchdigit.models.protobuf import bytes_field, number_field, text_field
from tests.support.limits import Spent, spend
from tests.support.modelfiles import archive, rebuild, reference
from tests.support.platforms import needs_linux

MAX_SECONDS = 5
MAX_BYTES = 500 << 20


def text(content: str) -> bytes:
    return b"X" + len(content).to_bytes(4, "little") + content.encode()


def put(place: int) -> bytes:
    return b"r" + place.to_bytes(4, "little")


def get(place: int) -> bytes:
    return b"j" + place.to_bytes(4, "little")


MODULE = b"cnets\nCNN\n)R"
"""The instructions for an object of a class called CNN; BUILD gives it a state."""


def state(parameters: bytes, modules: bytes) -> bytes:
    """The instructions that build a module's state, of instructions that build two dictionaries."""
    return b"(" + text("_parameters") + parameters + text("_modules") + modules + b"db"


def number_for_bytes() -> bytes:
    """Field 3 of the model, its producer's version, is a number instead of a text."""
    metadata = [*text_field(1, "classes"), *text_field(2, "10")]
    source = [*text_field(1, "source_sha256"), *text_field(2, "0")]
    return b"".join(
        [
            *number_field(1, 8),
            *text_field(2, "b"),
            *number_field(3, 60 << 30),
            *bytes_field(7, []),
            *bytes_field(14, metadata),
            *bytes_field(14, source),
        ]
    )


def long_name_for_many() -> bytes:
    """One submodule with a name of a megabyte, and many parameters."""
    tensor = rebuild(reference(1), 0, (1,), (1,))[2:-1]
    names = b"".join(text(str(number)) + get(9) for number in range(20_000))
    parameters = tensor + put(9) + b"0(" + names + b"d"
    inner = MODULE + state(parameters, b"}")
    modules = b"(" + text("x" * (1 << 20)) + inner + b"d"
    return archive(b"\x80\x02" + MODULE + state(b"}", modules) + b".", {"0": b"\0" * 4})


def nested_modules() -> bytes:
    """Modules that all hold each other, and one more, of a class that is not torch's."""
    count = 300
    modules = b"".join(MODULE + put(number) + b"0" for number in range(count))
    other = text("other") + b"cnets\nOther\n)R" + state(b"}", b"}")
    all_of_them = b"".join(text(str(number)) + get(number) for number in range(count)) + other
    everyone = b"(" + all_of_them + b"d" + put(count) + b"0"
    built = b"".join(get(n) + state(b"}", get(count)) + b"0" for n in range(count))
    return archive(b"\x80\x02" + modules + everyone + built + get(0) + b".")


def colliding_memo() -> bytes:
    """A hundred thousand numbers with the same hash."""
    places = (((1 << 61) - 1) * factor for factor in range(1, 100_000))
    return archive(b"\x80\x02}" + b"".join(b"p%d\n" % place for place in places) + b".")


def long_globals() -> bytes:
    """A name of three megabytes, looked up again and again."""
    name = text("x" * 3_000_000) + put(0) + b"0"
    return archive(b"\x80\x04" + name + b"(" + (get(0) + get(0) + b"\x93") * 50_000 + b"t.")


def dictionary_in_itself() -> bytes:
    """Many tensors in a dictionary that is its own model, net and state_dict."""
    tensor = rebuild(reference(1), 0, (1,), (1,))[2:-1] + put(1) + b"0"
    many = b"".join(text(str(number)) + b"h\x01" for number in range(250_000))
    own = b"".join(text(key) + get(0) for key in ("state_dict", "model_state_dict", "model", "net"))
    return archive(
        b"\x80\x02" + tensor + b"}" + put(0) + b"(" + many + own + b"u.", {"0": bytes(4)}
    )


def shared_state() -> bytes:
    """Many modules that share one large dictionary of things that are no tensors."""
    many = b"(" + b"".join(b"M" + struct.pack("<H", n) + b"N" for n in range(60_000)) + b"d"
    shared = many + put(0) + b"0"
    modules = b"".join(text(str(n)) + MODULE + state(get(0), b"}") for n in range(30_000))
    whole = MODULE + state(b"}", b"(" + modules + b"d")
    return archive(b"\x80\x02" + shared + whole + b".")


def long_references() -> bytes:
    """A reference of a hundred thousand items, used again and again."""
    reference = b"(" + text("storage") + b"N" * 100_000 + b"t" + put(0) + b"0"
    return archive(b"\x80\x02" + reference + b"(" + (get(0) + b"Q") * 100_000 + b"t.")


NAMES = [text(name) for name in cnn().state_shapes()]
ONE = rebuild(reference(1), 0, (1,), (1,))[2:-1] + put(1) + b"0"


def models_in_one_dictionary() -> bytes:
    """The network's names, each under thousands of prefixes."""
    names = (text(f"{n}.{name}") for n in range(2_700) for name in cnn().state_shapes())
    many = b"".join(name + b"h\x01" for name in names)
    return archive(b"\x80\x02" + ONE + b"}(" + many + b"u.", {"0": bytes(4)})


def modules_with_shared_parts() -> bytes:
    """Thousands of modules in a dictionary, which all have the same thousands of parts."""
    parts = b"".join(text(str(n)) + MODULE + state(b"}", b"}") for n in range(15_000))
    shared = b"(" + parts + b"d" + put(0) + b"0"
    many = b"".join(text(str(n)) + MODULE + state(b"}", get(0)) for n in range(15_000))
    return archive(b"\x80\x02" + shared + b"(" + many + b"d.")


def calls_with_shared_arguments() -> bytes:
    """Good weights, and a hundred thousand calls that get the same long list."""
    weights = b"(" + b"".join(name + b"h\x01" for name in NAMES) + b"d"
    long = b"(" + b"N" * 300_000 + b"l" + put(2) + b"0"
    calls = b"(" + (b"cnets\nf\n" + get(2) + b"\x85R") * 100_000 + b"t"
    content = b"(" + text("model") + weights + text("beside") + calls + b"d."
    return archive(b"\x80\x02" + ONE + long + content, {"0": bytes(4)})


CARELESS = """
import io, pickle, zipfile
from pathlib import Path
from batchdigit.models.protobuf import read_varint

KEYS = ("state_dict", "model_state_dict", "model", "net")

class Stub:
    state = {}
    def __init__(self, *args):
        self.args = args
    def __setstate__(self, state):
        self.state = state

class Unpickler(pickle._Unpickler):
    known = {}
    def find_class(self, module, name):
        return self.known.setdefault(f"{module}.{name}", Stub)
    def persistent_load(self, pid):
        kind, *rest = pid
        return kind

def unpickled():
    return Unpickler(io.BytesIO(zipfile.ZipFile(sys.argv[1]).read("archive/data.pkl"))).load()

def walk(module, depth=0):
    if depth < 5:
        yield module
        for inner in module.state.get("_modules", {}).values():
            yield from walk(inner, depth + 1)

def count(node, depth=0):
    here = sum(not isinstance(value, dict) for value in node.values())
    return here + (depth < 5 and sum(count(node[key], depth + 1) for key in KEYS if key in node))
"""

BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "number for bytes": (
        number_for_bytes,
        """
view, position, fields = memoryview(Path(sys.argv[1]).read_bytes()), 0, {}
while position < len(view):
    tag, position = read_varint(view, position)
    value, position = read_varint(view, position)
    if tag & 7 == 2:
        value, position = view[position:position + value], position + value
    fields[tag >> 3] = value
return len(bytes(fields[3]))
""",
    ),
    "long name for many": (
        long_name_for_many,
        """
return len([
    f"{name}.{tensor}"
    for name, module in unpickled().state["_modules"].items()
    for tensor in module.state["_parameters"]
])
""",
    ),
    "nested modules": (nested_modules, "return len({type(inner) for inner in walk(unpickled())})"),
    "colliding memo": (colliding_memo, "return unpickled()"),
    "long globals": (long_globals, "return len(unpickled())"),
    "dictionary in itself": (dictionary_in_itself, "return count(unpickled())"),
    "shared state": (
        shared_state,
        """
return sum(
    hasattr(tensor, "shape")
    for module in walk(unpickled())
    for tensor in module.state["_parameters"].values()
)
""",
    ),
    "long references": (long_references, "return len(unpickled())"),
    "models in one dictionary": (
        models_in_one_dictionary,
        """
names = list(unpickled())
return [
    prefix for prefix in {name.split(".")[0] + "." for name in names}
    if sum(name.startswith(prefix) for name in names) == 34
]
""",
    ),
    "modules with shared parts": (
        modules_with_shared_parts,
        "return sum(1 for module in unpickled().values() for _ in walk(module))",
    ),
    "calls with shared arguments": (
        calls_with_shared_arguments,
        """
calls = unpickled()["beside"]
return sum(argument is None for call in calls for argument in call.args[0])
""",
    ),
}
"""By name: what makes the file, and the body of a function that reads it carelessly."""

SETUP = """
from pathlib import Path
from batchdigit import CheckpointError
from batchdigit.modelfiles.file import ONNX, read_model_file
from batchdigit.models.inspection import inspect_model
from batchdigit.models.onnx_file import read_onnx_file
from batchdigit.models.weights import read_weights
"""
REFUSE = """
problem = inspect_model(sys.argv[1]).problem
file = read_model_file(Path(sys.argv[1]))
try:
    read_onnx_file(file) if file.format == ONNX else read_weights(file)
except CheckpointError as error:
    assert problem
    return error
"""


def written(name: str, folder: Path) -> Path:
    path = folder / "CNN.pt"
    path.write_bytes(BOMBS[name][0]())
    return path


@needs_linux("a limit of a process's memory")
@pytest.mark.parametrize("name", BOMBS)
def test_bomb_is_refused_soon_and_cheaply(tmp_path: Path, name: str) -> None:
    path = written(name, tmp_path)
    spent = spend(SETUP, REFUSE, path, memory=MAX_BYTES + path.stat().st_size, seconds=60)
    assert spent.outcome.startswith(f"the model {path} ")
    assert spent.seconds < MAX_SECONDS


@needs_linux("a limit of a process's memory")
@pytest.mark.slow
@pytest.mark.parametrize("name", BOMBS)
def test_bomb_works_on_a_careless_reader(tmp_path: Path, name: str) -> None:
    path, careless = written(name, tmp_path), BOMBS[name][1]
    spent = spend(CARELESS, careless, path, memory=MAX_BYTES, seconds=2 * MAX_SECONDS)
    assert spent == Spent("")
