"""An error of the user's code becomes one line, with his file and the line in it."""

import os
import sys

import pytest

from batchdigit.errors import CheckpointError
from batchdigit.networks.explaining import (
    AbsentNameError,
    Explanation,
    UserCode,
    described,
    install,
    is_installed_file,
    relative,
)

PLACE = os.path.join(os.sep, "home", "me", "net.py")
WHY = Explanation("`args` was not run", "make it a constant")


def raised(text: str, place: str = PLACE, name: str = "net") -> BaseException:
    """What ``text`` raises, run as the file ``place``."""
    try:
        exec(compile(text, place, "exec"), globals() | {"__name__": name})  # noqa: S102
    except BaseException as error:  # noqa: BLE001
        return error
    raise AssertionError(text)


def problem(text: str, code: UserCode | None = None) -> str:
    known = (code or UserCode(shown={PLACE: "net.py"})).explain(raised(text))
    assert known is not None
    assert known.remedy
    return known.problem


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\n1 / 0", "net.py, line 2, raises ZeroDivisionError: division by zero"),
        ("raise ValueError", "net.py, line 1, raises ValueError"),
        ("raise ValueError('a\\nb')", "net.py, line 1, raises ValueError: a b"),
        ("def f():\n  int('x')\nf()", "net.py, line 2, raises ValueError: invalid literal"),
        ("import json\njson.loads('')", "net.py, line 2, raises JSONDecodeError"),
        ("raise SystemExit(3)", "net.py, line 1, would end the program"),
        ("import nowhere", "net.py, line 1, needs the package nowhere, which is not installed"),
        ("import nowhere.at.all", "net.py, line 1, needs the package nowhere,"),
        ("import json.nowhere", "net.py, line 1, needs json.nowhere, which json does not have"),
        ("from json import nowhere", "net.py, line 1, raises ImportError: cannot import name"),
        ("nowhere", "net.py, line 1, raises NameError: name 'nowhere' is not defined"),
    ],
)
def test_error_is_told_with_its_line(text: str, expected: str) -> None:
    assert problem(text).startswith(expected)


def test_error_of_other_code_is_none_of_the_users() -> None:
    assert UserCode().explain(raised("1 / 0")) is None
    assert UserCode(shown={PLACE: "net.py"}).explain(raised("1 / 0", "other.py")) is None


def test_name_that_is_absent_is_told_with_the_reason() -> None:
    code = UserCode({PLACE: "net.py"}, absent={"net": {"args": WHY}})
    assert problem("args.hidden", code) == WHY.problem
    assert problem("def f():\n return args\nf()", code) == WHY.problem


def test_name_that_another_module_lacks_is_told_with_the_reason() -> None:
    code = UserCode({PLACE: "net.py"}, absent={"helper": {"args": WHY}})
    assert problem("args.hidden", code) == WHY.problem


def test_local_name_that_is_not_set_is_no_absent_one() -> None:
    code = UserCode({PLACE: "net.py"}, absent={"net": {"args": WHY}})
    text = "def f():\n  print(args)\n  args = 1\nf()"
    assert "UnboundLocalError" in problem(text, code)


def test_name_that_a_failed_star_import_may_have_had_is_told_with_the_reason() -> None:
    code = UserCode({PLACE: "net.py"}, absent={"net": {"*": WHY}})
    assert problem("Linear(3, 4)", code) == WHY.problem


def test_absence_is_told_through_what_is_raised_from_it() -> None:
    text = "try:\n  raise AbsentNameError(WHY)\nexcept Exception as e:\n  raise ValueError from e"
    assert problem(text) == WHY.problem
    assert str(AbsentNameError(WHY)) == WHY.problem


def test_error_of_this_program_stays_what_it_is() -> None:
    error = CheckpointError("helper.py is larger than 16 MiB", "name another")
    assert UserCode().explain(error) == Explanation(error.problem, error.remedy)


def test_error_of_syntax_has_the_line_of_the_file() -> None:
    error = raised(f"compile('x = 1\\nreturn', {PLACE!r}, 'exec')", "other.py")
    known = UserCode(shown={PLACE: "net.py"}).explain(error)
    assert known is not None
    assert known.problem == "net.py, line 2, is not Python: 'return' outside function"


def test_circle_of_causes_ends() -> None:
    assert "ValueError" in problem(
        "a, b = ValueError(), KeyError()\nb.__cause__ = a\nraise a from b"
    )


def test_files_in_the_users_folders_are_his_and_installed_ones_are_not() -> None:
    code = UserCode(folders=[os.path.dirname(PLACE)])
    assert f"{PLACE}, line 1" in str(code.explain(raised("1 / 0")))
    inside = os.path.join(os.path.dirname(PLACE), "site-packages", "torch.py")
    assert code.explain(raised("1 / 0", inside)) is None
    assert is_installed_file(inside)
    installed = UserCode(folders=[os.path.join(os.path.dirname(inside), "timm")])
    assert installed.explain(raised("1 / 0", os.path.join(*installed.folders, "a.py")))


def test_missing_package_is_installed_by_its_name_there() -> None:
    assert install("timm") == "pip install timm in the environment of batchdigit"
    assert install("sklearn").startswith("pip install scikit-learn ")
    known = UserCode(shown={PLACE: "net.py"}).explain(raised("import nowhere"))
    assert known is not None
    assert known.remedy.startswith("if it is your own, put it beside the file")


def test_package_that_another_package_misses_is_not_to_be_put_beside_the_file(
    tmp_path: os.PathLike[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with open(os.path.join(tmp_path, "half_installed.py"), "w", encoding="utf-8") as file:
        file.write("import nowhere")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    known = UserCode(shown={PLACE: "net.py"}).explain(raised("import half_installed"))
    assert known == Explanation(
        "net.py, line 1, needs the package nowhere, which is not installed", install("nowhere")
    )


def test_error_that_cannot_say_what_it_is_is_told_by_its_type() -> None:
    class MuteError(Exception):
        def __str__(self) -> str:
            raise ValueError

    assert described(MuteError()) == "MuteError"


def test_path_below_the_working_folder_is_shown_from_there(
    tmp_path: os.PathLike[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert relative(os.path.join(os.getcwd(), "a", "b.py")) == os.path.join("a", "b.py")
    assert relative(PLACE) == PLACE
