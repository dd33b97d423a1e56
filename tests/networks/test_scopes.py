"""Which names statements bind and use."""

import ast
import sys

import pytest

from batchdigit.networks.scopes import (
    ASSIGNED,
    CLASS,
    FUNCTION,
    Bindings,
    dotted,
    imports_everything,
    used,
)


def bindings(text: str) -> Bindings:
    return Bindings.of(ast.parse(text).body)


@pytest.mark.parametrize(
    ("text", "origins"),
    [
        ("import torch", {"torch": {"torch"}}),
        ("import torch.nn", {"torch": {"torch"}}),
        ("import torch.nn as nn", {"nn": {"torch.nn"}}),
        ("from torch import nn, cuda as c", {"nn": {"torch.nn"}, "c": {"torch.cuda"}}),
        ("from .layers import Block", {"Block": {".layers.Block"}}),
        ("from . import layers", {"layers": {"..layers"}}),
        ("from torch import *", {}),
        ("x = y = 1", {"x": {ASSIGNED}, "y": {ASSIGNED}}),
        ("(a, [b, *c]), d.e, f[0] = g", {"a": {ASSIGNED}, "b": {ASSIGNED}, "c": {ASSIGNED}}),
        ("x: int = 1; y: int", {"x": {ASSIGNED}}),
        ("x += 1", {"x": {ASSIGNED}}),
        ("def f(a):\n b = 1", {"f": {FUNCTION}}),
        ("async def f(): pass", {"f": {FUNCTION}}),
        ("class C:\n x = 1", {"C": {CLASS}}),
        ("x = [i for i in y]; z = lambda a: a", {"x": {ASSIGNED}, "z": {ASSIGNED}}),
        ("print(n := 5)", {"n": {ASSIGNED}}),
        ("for i in x:\n with a as b: pass", {"i": {ASSIGNED}, "b": {ASSIGNED}}),
        ("try:\n import a as b\nexcept E as e:\n b = None", {"b": {"a", ASSIGNED}}),
        (
            "match x:\n case [a, *b]: pass\n case {'k': c, **d}: pass\n case C() as e: pass",
            {name: {ASSIGNED} for name in "abcde"},
        ),
    ],
)
def test_bound_names_have_their_origins(text: str, origins: dict[str, set[str]]) -> None:
    assert bindings(text).origins == origins


def test_first_line_and_number_of_bindings_are_known() -> None:
    found = bindings("\nx = 1\nif x:\n  x = 2\ny = 1")
    assert found.lines == {"x": 2, "y": 5}
    assert found.times == {"x": 2, "y": 1}
    assert found.only("x", ASSIGNED)
    assert not found.only("z", ASSIGNED)


def test_long_sums_need_no_deep_recursion() -> None:
    node: ast.expr = ast.Name("x", ast.Load())
    for _ in range(sys.getrecursionlimit() * 2):
        node = ast.BinOp(node, ast.Add(), ast.Name("y", ast.Load()))
    statement = ast.Assign([ast.Name("z", ast.Store(), lineno=1)], node)
    assert Bindings.of([statement]).lines == {"z": 1}
    assert used(statement) == {"x", "y"}


def test_names_used_are_those_that_are_read_anywhere_inside() -> None:
    (node,) = ast.parse("@a\nclass C(b):\n def f(self, x=c, y: d = 1):\n  z = e\n  return g.h").body
    assert used(node) == {"a", "b", "c", "d", "e", "g"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("from a import *", True),
        ("try:\n from a import *\nexcept: pass", True),
        ("from a import b", False),
        ("import a", False),
    ],
)
def test_star_imports_are_noticed(text: str, expected: bool) -> None:
    assert imports_everything(ast.parse(text).body[0]) is expected


@pytest.mark.parametrize(
    ("text", "parts"),
    [("a", ["a"]), ("a.b.c", ["a", "b", "c"]), ("a().b", []), ("a[0]", []), ("5", [])],
)
def test_dotted_names_are_taken_apart(text: str, parts: list[str]) -> None:
    assert dotted(ast.parse(text, mode="eval").body) == parts
