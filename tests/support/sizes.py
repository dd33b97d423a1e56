"""The limits that keep the package readable: how much is in a folder, a file, a function."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

MAX_MODULES = 11
MAX_PACKAGES = 16
MAX_LINES_OF_A_MODULE = 320
MAX_LINES_OF_A_FUNCTION = 60
MAX_PARAMETERS = 6

Function = ast.FunctionDef | ast.AsyncFunctionDef


def breaches(package: Path) -> list[str]:
    """What exceeds a limit in the package in this folder, one line for each."""
    found = list(_breaches_of_listing(package))
    for path in sorted(package.rglob("*.py")):
        code = path.read_text(encoding="utf-8")
        name = path.relative_to(package.parent)
        found += [f"{name}{breach}" for breach in _breaches_of_module(code)]
    return found


def _breaches_of_listing(package: Path) -> Iterator[str]:
    modules = len(list(package.glob("*.py")))
    packages = sum(path.is_dir() and path.name != "__pycache__" for path in package.iterdir())
    for kind, count, limit in (
        ("modules", modules, MAX_MODULES),
        ("packages", packages, MAX_PACKAGES),
    ):
        if count > limit:
            yield f"{package.name}: {count} {kind}, more than {limit}"


def _breaches_of_module(code: str) -> Iterator[str]:
    lines = len(code.splitlines())
    if lines > MAX_LINES_OF_A_MODULE:
        yield f": {lines} lines, more than {MAX_LINES_OF_A_MODULE}"
    tree = ast.parse(code)
    methods = {
        part for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for part in node.body
    }
    for node in ast.walk(tree):
        if isinstance(node, Function) and not is_command(node):
            for breach in _breaches_of_function(node, is_method=node in methods):
                yield f":{node.lineno}: {node.name} {breach}"
        elif isinstance(node, ast.Call) and any(map(_is_starred_display, node.args)):
            yield f":{node.lineno}: {ast.unparse(node.func)} is called with a starred display"


def _breaches_of_function(function: Function, *, is_method: bool) -> Iterator[str]:
    lines = (function.end_lineno or 0) - function.lineno + 1
    if lines > MAX_LINES_OF_A_FUNCTION:
        yield f"has {lines} lines, more than {MAX_LINES_OF_A_FUNCTION}"
    static = any(ast.unparse(mark) == "staticmethod" for mark in function.decorator_list)
    parameters = len(_parameters(function)) - (is_method and not static)
    if parameters > MAX_PARAMETERS:
        yield f"has {parameters} parameters, more than {MAX_PARAMETERS}"


def is_command(function: Function) -> bool:
    """Whether it is a typer command, which has a parameter for each option.

    An option is annotated in place, or by a name from ``cli/run_options.py``.
    """
    return any(
        re.search(r"typer\.(Option|Argument)\(|\boption\.", ast.unparse(parameter.annotation))
        for parameter in _parameters(function)
        if parameter.annotation is not None
    )


def _parameters(function: Function) -> list[ast.arg]:
    return [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]


def _is_starred_display(argument: ast.expr) -> bool:
    """Whether it is ``*(a, b)`` or ``*[a, b]``, which passes arguments without their names."""
    return isinstance(argument, ast.Starred) and isinstance(argument.value, ast.Tuple | ast.List)
