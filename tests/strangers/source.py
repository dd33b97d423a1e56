"""The definitions in a stranger's file or notebook, without anything else that it would do."""

import ast
import json
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

KEPT = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)


class Source:
    """A file whose classes and functions can be used, but whose program has not run.

    ``modules`` are the file itself, as ``__main__``, and the files beside it that it imports.
    """

    def __init__(self, path: Path) -> None:
        self.modules: dict[str, ModuleType] = {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._load(path, "__main__")

    def __getitem__(self, name: str) -> object:
        return vars(self.modules["__main__"])[name]

    @contextmanager
    def running(self) -> Iterator[None]:
        """Let the modules be found under their names, as in the author's own program."""
        before = {name: sys.modules.get(name) for name in self.modules}
        sys.modules.update(self.modules)
        try:
            yield
        finally:
            for name, module in before.items():
                if module is None:
                    del sys.modules[name]
                else:
                    sys.modules[name] = module

    def _load(self, path: Path, name: str) -> None:
        module = self.modules[name] = ModuleType(name)
        for node in ast.parse(code_of(path)).body:
            if isinstance(node, ast.ImportFrom) and node.module:
                beside = path.with_name(f"{node.module}.py")
                if beside.exists() and node.module not in self.modules:
                    self._load(beside, node.module)
            if isinstance(node, KEPT) or _is_constant(node):
                self._execute(node, module)

    def _execute(self, node: ast.stmt, module: ModuleType) -> None:
        """Run a statement, if what it needs is installed."""
        code = compile(ast.Module([node], []), module.__name__, "exec", dont_inherit=True)
        try:
            with self.running():
                exec(code, vars(module))  # noqa: S102
        except (ImportError, NameError):
            pass


def code_of(path: Path) -> str:
    """The Python of a file, or of a notebook without its commands to the shell and to IPython."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return text
    cells = ["".join(c["source"]) for c in json.loads(text)["cells"] if c["cell_type"] == "code"]
    lines = "\n".join(cells).splitlines()
    return "\n".join(
        line for line in lines if not line.startswith(("!", "%")) and not line.endswith("?")
    )


def _is_constant(node: ast.stmt) -> bool:
    """Whether this gives a name to a literal."""
    if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
        return False
    try:
        ast.literal_eval(node.value)
    except ValueError:
        return False
    return True
