"""Which expressions are constants: computing them does nothing but give a value.

A call is one only if what is called is known to be harmless. Names of functions are followed
through the file's own imports, so that nobody's own ``partial`` passes for that of functools.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable

from batchdigit.networks.scopes import ASSIGNED, Bindings, dotted

_PURE = frozenset(
    f"{module}.{name}"
    for module, names in {
        "builtins": "abs bool bytes complex dict divmod enumerate float frozenset int len list max "
        "min pow range reversed round set slice sorted str sum tuple zip",
        "argparse": "Namespace",
        "collections": "Counter OrderedDict defaultdict deque namedtuple",
        "copy": "copy deepcopy",
        "dataclasses": "field",
        "functools": "partial",
        "numpy": "arange array asarray ceil dtype floor full linspace log log2 ones prod sqrt "
        "zeros float32 float64 int32 int64 uint8",
        "operator": "attrgetter itemgetter",
        "os": "cpu_count getenv",
        "os.environ": "get",
        "os.path": "abspath basename dirname exists isdir isfile join realpath splitext",
        "pathlib": "Path PurePath",
        "torch": "Size arange as_tensor device eye full linspace ones tensor zeros",
        "torch.backends.mps": "is_available is_built",
        "torch.cuda": "device_count is_available",
        "types": "MappingProxyType SimpleNamespace",
        "typing": "NamedTuple NewType ParamSpec TypeVar TypeVarTuple cast",
        "typing_extensions": "ParamSpec TypeVar TypeVarTuple",
    }.items()
    for name in names.split()
)
_PURE_IN_FAMILY = re.compile(r"math\.\w+|torch\.nn\.[A-Z]\w*")
_ARGUMENTS = "sys.argv"  # those of this program, not of the user's script

# They read what a constant holds: numbers, text, containers.
_METHODS_OF_DATA = frozenset({
    "copy", "count", "format", "get", "index", "items", "join", "keys", "lower", "replace", "split",
    "strip", "upper", "values",
})  # fmt: skip
_HARMLESS = (
    ast.Constant, ast.Name, ast.Attribute, ast.Call, ast.keyword, ast.Starred, ast.Subscript,
    ast.Slice, ast.List, ast.Tuple, ast.Set, ast.Dict, ast.JoinedStr, ast.FormattedValue,
    ast.UnaryOp, ast.BinOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.ListComp, ast.SetComp,
    ast.DictComp, ast.GeneratorExp, ast.comprehension, ast.operator, ast.unaryop, ast.boolop,
    ast.cmpop, ast.expr_context,
)  # fmt: skip
_RECORDS = frozenset({"builtins.object", "typing.NamedTuple"})
_MAKERS = frozenset({"__init__", "__new__", "__post_init__"})


class Constants:
    """Tells the constant expressions of one file, whose top level is ``statements``."""

    def __init__(self, statements: Iterable[ast.stmt]) -> None:
        top = list(statements)
        self.bindings = Bindings.of(top)
        self._records: set[str] = set()
        for node in top:  # in order, so that a record may hold another
            if isinstance(node, ast.ClassDef) and self._is_record(node):
                self._records.add(node.name)

    def holds(self, expression: ast.expr) -> bool:
        """Whether ``expression`` is a constant, if the names in it are."""
        nodes: list[ast.AST] = [expression]
        while nodes:
            node = nodes.pop()
            if isinstance(node, ast.Lambda):  # it does not run here
                nodes.extend(filter(None, [*node.args.defaults, *node.args.kw_defaults]))
                continue
            if not isinstance(node, _HARMLESS):
                return False
            if isinstance(node, ast.comprehension) and node.is_async:
                return False
            if isinstance(node, ast.Name | ast.Attribute) and _ARGUMENTS in self.origins(node):
                return False
            if isinstance(node, ast.Call):
                if not self._is_harmless(node.func):
                    return False
                nodes.extend(self._called_back(node))
            nodes.extend(ast.iter_child_nodes(node))
        return True

    def origins(self, expression: ast.expr) -> set[str]:
        """Where the value of a name or an attribute may come from: ``torch.nn.Linear``.

        What the file itself binds comes from no module (``def``); empty for any other expression.
        """
        root, *attributes = dotted(expression) or [""]
        if not root:
            return set()
        known = self.bindings.origins.get(root, {f"builtins.{root}"})
        return {".".join([origin, *attributes]) for origin in known}

    def _is_harmless(self, function: ast.expr) -> bool:
        origins = self.origins(function)
        if origins and all(map(_is_pure, origins)):
            return True
        if isinstance(function, ast.Name):
            return function.id in self._records
        return (
            isinstance(function, ast.Attribute)
            and function.attr in _METHODS_OF_DATA
            and self._is_data(function.value)
        )

    def _is_data(self, expression: ast.expr) -> bool:
        """Whether it is a literal, or what this file assigns to a name, or a part of that."""
        if isinstance(expression, ast.Constant | ast.JoinedStr | ast.Dict | ast.List | ast.Tuple):
            return True
        while isinstance(expression, ast.Attribute | ast.Subscript):
            expression = expression.value
        return isinstance(expression, ast.Name) and self.bindings.only(expression.id, ASSIGNED)

    def _called_back(self, call: ast.Call) -> list[ast.expr]:
        """What must be constant, too, because ``call`` calls it: the key to sort by."""
        found: list[ast.expr] = []
        for keyword in call.keywords:
            if keyword.arg in ("key", "default_factory"):
                value = keyword.value
                if isinstance(value, ast.Lambda):
                    found.append(value.body)
                else:  # as if it were called here
                    found.append(ast.Call(func=value, args=[], keywords=[]))
        return found

    def _is_record(self, node: ast.ClassDef) -> bool:
        """Whether making an instance of a class of this file sets attributes and nothing else."""
        if self.bindings.times[node.name] > 1 or node.keywords:
            return False
        for decorator in node.decorator_list:
            maker = decorator.func if isinstance(decorator, ast.Call) else decorator
            if self.origins(maker) != {"dataclasses.dataclass"}:
                return False
        for base in node.bases:
            own = isinstance(base, ast.Name) and base.id in self._records
            if not own and not (self.origins(base) and self.origins(base) <= _RECORDS):
                return False
        made = Bindings.of(node.body)
        values = [part.value for part in node.body if isinstance(part, ast.AnnAssign)]
        return not _MAKERS & made.lines.keys() and all(
            self.holds(value) for value in values if value is not None
        )


def _is_pure(origin: str) -> bool:
    return origin in _PURE or _PURE_IN_FAMILY.fullmatch(origin) is not None
