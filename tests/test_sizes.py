"""The package keeps its limits, and the check notices when it does not."""

from pathlib import Path

import pytest

from tests.support.samples import REPOSITORY
from tests.support.sizes import breaches

COMMAND = """
import typer

def run({parameters}, out: Annotated[str, typer.Option("--out")] = "-"):
    \"\"\"Label images.\"\"\"
{body}
"""


def parameters(count: int) -> str:
    return ", ".join(f"p{number}" for number in range(count))


def test_package_keeps_its_limits() -> None:
    found = breaches(REPOSITORY / "batchdigit")
    assert not found, "\n".join(found)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package that is just within every limit."""
    folder = tmp_path / "package"
    for number in range(16):
        (folder / f"package{number}").mkdir(parents=True)
    (folder / "__pycache__").mkdir()
    for number in range(10):
        (folder / f"module{number}.py").touch()
    (folder / "py.typed").touch()
    (folder / "long.py").write_text("x = 1\n" * 320)
    files = {
        "function": f"def f({parameters(6)}):\n" + "    pass\n" * 59,
        "keywords": f"def f({parameters(3)}, *, q, r, s, **more): pass\n",
        "method": f"class C:\n    def f(self, {parameters(6)}): pass\n",
        "maker": f"class C:\n    @classmethod\n    def f(cls, {parameters(6)}): pass\n",
        "static": f"class C:\n    @staticmethod\n    def f({parameters(6)}): pass\n",
        "command": COMMAND.format(parameters=parameters(20), body="    pass\n" * 70),
        "stars": "f(*arguments)\ng((1, 2), x=[3])\nh = [*(1, 2)]\n",
    }
    for name, code in files.items():
        (folder / "package0" / f"{name}.py").write_text(code)
    assert breaches(folder) == []
    return folder


@pytest.mark.parametrize(
    ("name", "code", "breach"),
    [
        ("module.py", "", "package: 12 modules, more than 11"),
        ("one/__init__.py", "", "package: 17 packages, more than 16"),
        ("package1/a.py", "x = 1\n" * 321, "package/package1/a.py: 321 lines, more than 320"),
        (
            "package1/a.py",
            "\ndef f():\n" + "    pass\n" * 60,
            "package/package1/a.py:2: f has 61 lines, more than 60",
        ),
        (
            "package1/a.py",
            "class C:\n    async def f(self):\n" + "        pass\n" * 60,
            "package/package1/a.py:2: f has 61 lines, more than 60",
        ),
        (
            "package1/a.py",
            f"def f({parameters(7)}): pass\n",
            "package/package1/a.py:1: f has 7 parameters, more than 6",
        ),
        (
            "package1/a.py",
            f"class C:\n    def f(self, {parameters(6)}, *, q): pass\n",
            "package/package1/a.py:2: f has 7 parameters, more than 6",
        ),
        (
            "package1/a.py",
            f"class C:\n    @staticmethod\n    def f({parameters(7)}): pass\n",
            "package/package1/a.py:3: f has 7 parameters, more than 6",
        ),
        (
            "package1/a.py",
            "Session(*(job, listing), x=1)\n",
            "package/package1/a.py:1: Session is called with a starred display",
        ),
        (
            "package1/a.py",
            "run.it('a', *[b, c])\n",
            "package/package1/a.py:1: run.it is called with a starred display",
        ),
    ],
)
def test_breach_of_a_limit_is_found(package: Path, name: str, code: str, breach: str) -> None:
    (package / name).parent.mkdir(exist_ok=True)
    (package / name).write_text(code)
    assert breaches(package) == [breach]
