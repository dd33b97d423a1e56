"""What of a file only defines something, and which of that a class needs.

Of the statements at a file's top level these may run: imports, definitions, and assignments of
constants to plain names; also ``if`` and ``try`` with such statements inside, where the condition
is a constant. All others are left out: they train, load, print and save.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from batchdigit.networks.constants import Constants
from batchdigit.networks.scopes import ASSIGNED, Bindings, dotted, imports_everything, used
from batchdigit.networks.sourcefile import Part, SourceFile

# With these, code reaches names that do not stand in it as names.
_DYNAMIC = frozenset({"eval", "exec", "globals", "vars", "__name__"})
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_IMPORTS = (ast.Import, ast.ImportFrom)
_TYPE_ALIAS: tuple[type[ast.stmt], ...] = (
    () if sys.version_info < (3, 12) else (ast.TypeAlias,)  # type: ignore[attr-defined,unused-ignore]
)


@dataclass(frozen=True, eq=False)
class Kept:
    """A statement that may run, in the part of the file where it stands."""

    node: ast.stmt
    part: Part


@dataclass(frozen=True, eq=False)
class LeftOut:
    """A statement that may not run: the names that it would bind, with the lines.

    ``rebound`` are those that have, from here on, no more the value which a kept assignment gave
    them. What is assigned in a branch or a loop only is not among them: nobody knows whether a run
    comes there.
    """

    lines: dict[str, int]
    part: Part
    rebound: frozenset[str]


Step = Kept | LeftOut
_Node = TypeVar("_Node", bound=ast.AST)


@dataclass(frozen=True, eq=False)
class Definitions:
    """The steps of a file, in its order.

    ``classes`` are those of its top level. ``makers`` has, for a name that is assigned what a class
    or a function of the file returns, the name of that.
    """

    steps: Sequence[Step]
    classes: dict[str, ast.ClassDef]
    makers: dict[str, str]

    @classmethod
    def of(cls, source: SourceFile) -> Definitions:
        """What may run of ``source``, and what may not."""
        statements = list(source.statements())
        constants = Constants(node for _, node in statements)
        steps: list[Step] = []
        for part, node in statements:
            sieve = _Sieve(constants)
            kept = sieve.statement(node)
            steps += [Kept(one, part) for one in kept]
            left = Bindings.of(sieve.dropped).lines
            if left:
                sure = node in sieve.dropped and isinstance(
                    node, ast.Assign | ast.AnnAssign | ast.AugAssign | ast.With
                )
                steps.append(LeftOut(left, part, frozenset(left) if sure else frozenset()))
        bindings = Bindings.of(step.node for step in steps if isinstance(step, Kept))
        assigned = {name for name in bindings.origins if bindings.only(name, ASSIGNED)}
        for at, step in enumerate(steps):
            if isinstance(step, LeftOut):
                steps[at] = LeftOut(step.lines, step.part, step.rebound & assigned)
        top = [node for _, node in statements]
        classes = {node.name: node for node in top if isinstance(node, ast.ClassDef)}
        return cls(steps, classes, _makers(top))

    @property
    def bound(self) -> set[str]:
        """The names that the statements bind which may run."""
        return set(Bindings.of(step.node for step in self.steps if isinstance(step, Kept)).lines)

    @property
    def names(self) -> list[str]:
        """The names of classes and functions that are defined at the top level, in order."""
        nodes = (step.node for step in self.steps if isinstance(step, Kept))
        found = [node.name for node in nodes if isinstance(node, _DEFINITIONS)]
        return list(dict.fromkeys(found))

    def needed_for(self, name: str) -> list[Step]:
        """The steps that what is bound to ``name`` may need, and all that are left out."""
        binders: dict[str, list[int]] = {}
        taken: set[int] = set()
        for at, step in enumerate(self.steps):
            if isinstance(step, LeftOut) or imports_everything(step.node):
                taken.add(at)
            if isinstance(step, Kept):
                for bound in Bindings.of([step.node]).lines:
                    binders.setdefault(bound, []).append(at)
        wanted, seen = [name], {name}
        for at in taken:
            step = self.steps[at]
            if isinstance(step, Kept):
                wanted += used(step.node)
        while wanted:
            for at in binders.get(wanted.pop(), []):
                step = self.steps[at]
                if at in taken or not isinstance(step, Kept):
                    continue
                taken.add(at)
                names = used(step.node)
                if names & _DYNAMIC:
                    return list(self.steps)
                wanted += names - seen
                seen |= names
        return [step for at, step in enumerate(self.steps) if at in taken]

    def networks(self) -> list[str]:
        """The classes that derive from something called Module, those first that no other uses."""
        found: list[str] = []
        for name, node in self.classes.items():
            bases = [dotted(base)[-1:] for base in node.bases]
            if any(base and (base[0].endswith("Module") or base[0] in found) for base in bases):
                found.append(name)
        parts = {
            name
            for user in found
            for name in used(self.classes[user])
            if name in found and name != user
        }
        return sorted(found, key=lambda name: name in parts)


def _makers(statements: Iterable[ast.stmt]) -> dict[str, str]:
    top = list(statements)
    defined = {node.name for node in top if isinstance(node, _DEFINITIONS)}
    return {
        target.id: node.value.func.id
        for node in top
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Call)
        and isinstance(node.value.func, ast.Name)
        and node.value.func.id in defined
        for target in node.targets
        if isinstance(target, ast.Name)
    }


class _Sieve:
    """Keeps of a statement what only defines something, and collects what it drops."""

    def __init__(self, constants: Constants) -> None:
        self.constants = constants
        self.dropped: list[ast.stmt] = []

    def statement(self, node: ast.stmt) -> list[ast.stmt]:
        """What may run of a statement of the top level."""
        kept: list[ast.stmt] = []
        for one in self._body([node]):  # the names of an import one by one, so that one may fail
            if isinstance(one, ast.Import):
                kept += [_at(one, ast.Import([alias])) for alias in one.names]
            elif isinstance(one, ast.ImportFrom) and one.module != "__future__":
                kept += [
                    _at(one, ast.ImportFrom(one.module, [alias], one.level)) for alias in one.names
                ]
            else:
                kept.append(one)
        return kept

    def _body(self, nodes: Iterable[ast.stmt]) -> list[ast.stmt]:
        found: list[ast.stmt] = []
        for node in nodes:
            kept = self._kept(node)
            if kept is None:
                self.dropped.append(node)
            else:
                found += kept
        return found

    def _kept(self, node: ast.stmt) -> list[ast.stmt] | None:
        """What may run of ``node``, perhaps nothing; None if something was to be left out."""
        if isinstance(node, ast.If):
            return self._if(node)
        if isinstance(node, ast.Try):
            return self._try(node)
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            if node.value is None:
                return []
            # Without its annotation, which would run, too.
            node = _at(node, ast.Assign([node.target], node.value))
        if isinstance(node, ast.Assign):
            plain = all(map(_is_plain, node.targets)) and self.constants.holds(node.value)
        elif isinstance(node, ast.AugAssign):
            plain = isinstance(node.target, ast.Name) and self.constants.holds(node.value)
        elif isinstance(node, _DEFINITIONS):
            decorators = (ast.Name, ast.Attribute, ast.Call)
            plain = all(isinstance(one, decorators) for one in node.decorator_list)
        else:
            plain = isinstance(node, (*_IMPORTS, ast.Pass, *_TYPE_ALIAS))
        return [node] if plain else None

    def _if(self, node: ast.If) -> list[ast.stmt] | None:
        if _asks_for_main(node.test):  # the file is imported, not run
            self.dropped += node.body
            return self._body(node.orelse)
        if not self.constants.holds(node.test):
            return None
        body, orelse = self._body(node.body), self._body(node.orelse)
        if not body and not orelse:
            return None
        return [_at(node, ast.If(node.test, body or [_at(node, ast.Pass())], orelse))]

    def _try(self, node: ast.Try) -> list[ast.stmt] | None:
        handlers = []
        for handler in node.handlers:
            if handler.type is not None and not self.constants.holds(handler.type):
                return None
            body = self._body(handler.body)
            # If it did nothing but end or tell, its error is worth more than going on without.
            if not body or any(isinstance(part, ast.Raise) for part in handler.body):
                body.append(_at(handler, ast.Raise()))
            handlers.append(_at(handler, ast.ExceptHandler(handler.type, handler.name, body)))
        body, orelse, final = map(self._body, (node.body, node.orelse, node.finalbody))
        if not body:
            return None
        if not handlers and not final:
            return [*body, *orelse]
        return [_at(node, ast.Try(body, handlers, orelse if handlers else [], final))]


def _at(old: ast.AST, new: _Node) -> _Node:
    """``new``, in the place of ``old`` in its file."""
    return ast.copy_location(new, old)


def _is_plain(target: ast.expr) -> bool:
    if isinstance(target, ast.Tuple | ast.List):
        return all(map(_is_plain, target.elts))
    return isinstance(target, ast.Name)


def _asks_for_main(test: ast.expr) -> bool:
    """Whether it is ``__name__ == "__main__"``, either way round."""
    if not isinstance(test, ast.Compare) or len(test.ops) != 1:
        return False
    sides = (test.left, test.comparators[0])
    return (
        isinstance(test.ops[0], ast.Eq)
        and any(isinstance(side, ast.Name) and side.id == "__name__" for side in sides)
        and any(isinstance(side, ast.Constant) and side.value == "__main__" for side in sides)
    )
