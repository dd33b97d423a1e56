"""The Python of notebooks: magics and the shell's lines are left out, and nothing else is."""

import ast
import json

import pytest

from batchdigit.networks.notebooks import NotANotebookError, read_cells


def notebook(*cells: str | list[str], **more: object) -> bytes:
    code = [{"cell_type": "code", "source": cell} for cell in cells]
    return json.dumps({"cells": code, "nbformat": 4} | more).encode()


def lines_of(*cells: str | list[str]) -> list[str]:
    """What is left of the cells, but for what stands in the place of lines left out."""
    trees = [cell.tree for cell in read_cells(notebook(*cells)) if cell.tree]
    nodes = [node for tree in trees for node in tree.body if not isinstance(node, ast.Pass)]
    return [ast.unparse(node) for node in nodes]


def test_cells_of_code_are_numbered_among_themselves() -> None:
    cells = [
        {"cell_type": "markdown", "source": "x = 0"},
        {"cell_type": "code", "source": ["x = 1\n", "y = 2"]},
        {"cell_type": "code", "source": "z = 3"},
    ]
    found = read_cells(json.dumps({"cells": cells}).encode())
    assert [(cell.number, cell.text) for cell in found] == [(1, "x = 1\ny = 2"), (2, "z = 3")]


def test_notebook_of_format_3_is_read() -> None:
    cells = [{"cell_type": "code", "input": ["x = 1"], "language": "python"}]
    found = read_cells(json.dumps({"worksheets": [{"cells": cells}], "nbformat": 3}).encode())
    assert [cell.text for cell in found] == ["x = 1"]


@pytest.mark.parametrize(
    "line",
    [
        "%matplotlib inline",
        "!pip install torch",
        "!wget 'http://a",
        "!echo (",
        "?print",
        "print?",
        "nn.Conv2d??",
        "files = !ls *.pt",
        "took = %timeit -o f()",
        "!pip install \\\n  torch \\\n  numpy",
    ],
)
def test_lines_for_ipython_are_left_out(line: str) -> None:
    assert lines_of(f"x = 1\n{line}\ny = 2") == ["x = 1", "y = 2"]
    assert lines_of(line) == []


def test_line_numbers_stay_those_of_the_cell() -> None:
    (cell,) = read_cells(notebook("!pip install \\\n  torch\n%cd ..\nx = 1"))
    assert cell.tree is not None
    assert cell.tree.body[-1].lineno == 4


def test_magic_inside_a_block_leaves_the_block() -> None:
    assert lines_of("if True:\n    !ls\nx = 1") == ["if True:\n    pass", "x = 1"]


def test_line_that_only_looks_like_a_magic_stays() -> None:
    text = "print('%d'\n      % 5)"
    assert lines_of(text) == ["print('%d' % 5)"]
    assert lines_of(f"%cd ..\n{text}\ns = '''\n!a\n'''") == ["print('%d' % 5)", "s = '\\n!a\\n'"]


def test_cells_with_more_magics_than_are_tried_one_by_one_are_read() -> None:
    assert lines_of("%cd ..\n" * 300 + "x = 1") == ["x = 1"]


@pytest.mark.parametrize("magic", ["%%time", "%%capture out", "\n%%time"])
def test_body_of_a_timed_cell_is_python(magic: str) -> None:
    assert lines_of(f"{magic}\nx = 1") == ["x = 1"]


@pytest.mark.parametrize("magic", ["%%bash", "%%writefile net.py", "%%html", "%%timeit"])
def test_cell_in_another_language_is_left_out(magic: str) -> None:
    assert lines_of(f"{magic}\nx = 1", "y = 2") == ["y = 2"]


@pytest.mark.parametrize("text", ["x = (", "x = 1\0", "(" * 1000 + ")" * 1000])
def test_cell_that_is_no_python_says_why(text: str) -> None:
    (cell,) = read_cells(notebook(text))
    assert cell.tree is None
    assert cell.problem


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"x = 1", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "no JSON object"),
        (b"{}", "no cells"),
        (b'{"cells": 5}', "no cells"),
        (notebook(metadata={"kernelspec": {"language": "R"}}), "is a notebook in r"),
        (notebook(metadata={"language_info": {"name": "julia"}}), "is a notebook in julia"),
    ],
)
def test_what_is_no_notebook_in_python_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(NotANotebookError, match=says):
        read_cells(data)


@pytest.mark.parametrize(
    "metadata",
    [{"kernelspec": {"language": "python"}}, {"language_info": {"name": "ipython"}}, 5, {}],
)
def test_python_is_what_a_notebook_is_in_unless_it_says_otherwise(metadata: object) -> None:
    assert len(read_cells(notebook("x = 1", metadata=metadata))) == 1


def test_damaged_cells_are_no_code() -> None:
    data = json.dumps({"cells": [5, {"cell_type": "code"}, {"cell_type": "raw"}]}).encode()
    assert [cell.text for cell in read_cells(data)] == [""]
