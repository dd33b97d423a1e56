"""The public surface, and what it costs to import it."""

import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import batchdigit
from batchdigit import errors
from tests.support.samples import REPOSITORY

HEAVY = ("torch", "torchvision", "pandas", "pyarrow", "numpy", "PIL", "tqdm", "rich")


def imported_by(code: str, modules: tuple[str, ...] = HEAVY) -> set[str]:
    """Which of these modules a fresh interpreter has loaded after ``code``."""
    after = f"\nimport sys, json; print(json.dumps([m for m in {modules} if m in sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", code + after], capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_all_is_what_is_exported() -> None:
    assert len(batchdigit.__all__) == len(set(batchdigit.__all__))
    for name in batchdigit.__all__:
        assert getattr(batchdigit, name) is not None
    source = (REPOSITORY / "batchdigit" / "__init__.py").read_text()
    typed = set(re.findall(r"^    from batchdigit\.\S+ import (\w+) as \1$", source, re.MULTILINE))
    assert typed | {"__version__"} == set(batchdigit.__all__)
    assert {name for name in dir(batchdigit) if not re.fullmatch("__.*__", name)} | {
        "__version__"
    } == set(batchdigit.__all__)


def test_every_exported_thing_is_documented() -> None:
    for name in batchdigit.__all__:
        value = getattr(batchdigit, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert inspect.getdoc(value), name


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        batchdigit.nonsense  # type: ignore[attr-defined]  # noqa: B018


def test_every_error_has_an_exit_code_and_stands_in_the_tree() -> None:
    for name, value in vars(errors).items():
        if inspect.isclass(value) and issubclass(value, BaseException):
            assert name in (errors.__doc__ or "")
    assert set(errors.EXIT_CODE_MEANINGS) == set(errors.ExitCode)


@pytest.mark.parametrize(
    "code",
    [
        "import batchdigit",
        "from batchdigit import Job, BatchdigitError, escape_filename",
        "import batchdigit.cli.app",
    ],
)
def test_import_is_cheap(code: str) -> None:
    assert imported_by(code) == set()


@pytest.mark.parametrize(("backend", "other"), [("torch", "onnxruntime"), ("onnxruntime", "torch")])
def test_a_run_imports_its_backend_and_nothing_that_it_can_do_without(
    tmp_path: Path, backend: str, other: str
) -> None:
    job = (
        f"batchdigit.Job((Path({str(REPOSITORY / 'sample_images')!r}),), "
        f"Path({str(tmp_path / 'out.csv')!r}), backend={backend!r}, device='cpu')"
    )
    code = f"import batchdigit; from pathlib import Path; batchdigit.run({job})"
    unwanted = {"torchvision", "torch._dynamo", "pandas", "pyarrow", "onnx", "sympy", other}
    assert imported_by(code, (*unwanted, backend)) == {backend}
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 101
