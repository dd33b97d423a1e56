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
_PLAIN_DECORATORS = frozenset({"builtins.classmethod", "builtins.staticmethod"})
_DATA_OF_CLASSES = frozenset({"__slots__", "__match_args__", "__doc__"})
_CALL_BACK = frozenset({"builtins.max", "builtins.min", "builtins.sorted", "dataclasses.field"})


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
                if not self._is_harmless(node.func) or self._hides_callback(node):
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

    def _hides_callback(self, call: ast.Call) -> bool:
        """Whether what ``call`` calls back may be in an argument that is unpacked."""
        origins = self.origins(call.func)
        if "collections.defaultdict" in origins:
            return any(isinstance(one, ast.Starred) for one in call.args[:1])
        unpacked = any(keyword.arg is None for keyword in call.keywords)
        return unpacked and not _CALL_BACK.isdisjoint(origins)

    def _called_back(self, call: ast.Call) -> list[ast.expr]:
        """What must be constant, too, because ``call`` calls it: the key to sort by."""
        values = [one.value for one in call.keywords if one.arg in ("key", "default_factory")]
        if "collections.defaultdict" in self.origins(call.func):
            values += call.args[:1]
        found: list[ast.expr] = []
        for value in values:
            if isinstance(value, ast.Lambda):
                found.append(value.body)
            elif not isinstance(value, ast.Constant):  # as if it were called here
                found.append(ast.Call(func=value, args=[], keywords=[]))
        return found

    def _is_record(self, node: ast.ClassDef) -> bool:
        """Whether making and using an instance of a class of this file runs none of its code.

        So no attribute is computed, and no operator is its own.
        """
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
        special = {name for name in Bindings.of(node.body).lines if name.startswith("__")}
        return special <= _DATA_OF_CLASSES and all(map(self._is_plain, node.body))

    def _is_plain(self, statement: ast.stmt) -> bool:
        """Whether a statement in a class defines data, or methods that nothing calls by itself."""
        if isinstance(statement, ast.AnnAssign | ast.Assign):
            return statement.value is None or self.holds(statement.value)
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            origins = (self.origins(decorator) for decorator in statement.decorator_list)
            return all(found and found <= _PLAIN_DECORATORS for found in origins)
        is_text = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        return is_text or isinstance(statement, ast.Pass)


def _is_pure(origin: str) -> bool:
    return origin in _PURE or _PURE_IN_FAMILY.fullmatch(origin) is not None
