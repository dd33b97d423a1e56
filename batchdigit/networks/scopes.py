"""Which names statements bind in the scope of their module, and which they use."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

ASSIGNED, FUNCTION, CLASS = "=", "def", "class"  # no dotted name can be any of them

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_SCOPES = (*_FUNCTIONS, ast.ClassDef, ast.Lambda, *_COMPREHENSIONS)


@dataclass(frozen=True)
class Bindings:
    """The names that statements bind.

    ``lines`` has the line where each is bound first. ``origins`` says how: by dotted names for what
    is imported (``torch.nn`` for ``nn``; one that starts with a dot is relative), or by ASSIGNED,
    FUNCTION, CLASS, several where a name is bound several times. ``times`` counts.
    """

    lines: dict[str, int] = field(default_factory=dict)
    origins: dict[str, set[str]] = field(default_factory=dict)
    times: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, statements: Iterable[ast.stmt]) -> Bindings:
        """The names that ``statements`` bind."""
        found = cls()
        for statement in statements:
            for name, origin, line in _bound(statement):
                found.lines.setdefault(name, line)
                found.origins.setdefault(name, set()).add(origin)
                found.times[name] = found.times.get(name, 0) + 1
        return found

    def only(self, name: str, origin: str) -> bool:
        """Whether ``name`` is bound, and in no other way than ``origin``."""
        return self.origins.get(name) == {origin}


def _bound(statement: ast.stmt) -> Iterator[tuple[str, str, int]]:
    """Each name, its origin and its line, in no special order."""
    # Without recursion: a sum of thousands of terms is a tree thousands of levels deep.
    nodes: list[ast.AST] = [statement]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from _imported(node)
        elif isinstance(node, _FUNCTIONS):
            yield node.name, FUNCTION, node.lineno
        elif isinstance(node, ast.ClassDef):
            yield node.name, CLASS, node.lineno
        elif isinstance(node, ast.Name):
            if isinstance(node.ctx, ast.Store):
                yield node.id, ASSIGNED, node.lineno
        elif isinstance(node, ast.MatchAs | ast.MatchStar) and node.name:
            yield node.name, ASSIGNED, node.lineno
        elif isinstance(node, ast.MatchMapping) and node.rest:
            yield node.rest, ASSIGNED, node.lineno
        if not isinstance(node, _SCOPES) and not _is_declaration(node):
            nodes.extend(ast.iter_child_nodes(node))


def _imported(node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, str, int]]:
    for alias in node.names:
        if isinstance(node, ast.ImportFrom):
            origin = f"{'.' * node.level}{node.module or ''}.{alias.name}"
            if alias.name != "*":
                yield alias.asname or alias.name, origin, alias.lineno
        elif alias.asname:
            yield alias.asname, alias.name, alias.lineno
        else:
            package = alias.name.partition(".")[0]
            yield package, package, alias.lineno


def _is_declaration(node: ast.AST) -> bool:
    """Whether it is ``name: type``, which binds nothing."""
    return isinstance(node, ast.AnnAssign) and node.value is None


def used(node: ast.AST) -> set[str]:
    """Every name that is read anywhere inside, be it one of the module's or not."""
    names = (part for part in ast.walk(node) if isinstance(part, ast.Name))
    return {name.id for name in names if isinstance(name.ctx, ast.Load)}


def imports_everything(node: ast.AST) -> bool:
    """Whether ``from x import *`` is somewhere inside."""
    return any(
        isinstance(part, ast.ImportFrom) and part.names[0].name == "*" for part in ast.walk(node)
    )


def dotted(node: ast.expr) -> list[str]:
    """``["torch", "nn"]`` of the expression ``torch.nn``; empty for any other."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return [node.id, *reversed(parts)] if isinstance(node, ast.Name) else []
