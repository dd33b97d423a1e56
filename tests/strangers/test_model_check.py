"""``batchdigit model check`` finds out how a stranger's network wants its images."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from tests.strangers.catalogue import STRANGERS, Stranger
from tests.strangers.declared import declaration, from_words, network_input
from tests.strangers.reporting import network_options
from tests.strangers.trained import formats_of, saved, trained
from tests.support.programs import app

LAID_OUT = ("size", "channels", "layout", "transpose", "expects", "place")
DIGITS = [stranger for stranger in STRANGERS if stranger.classes == 10]


def found(stranger: Stranger, how: str, folder: Path) -> list[str]:
    """The options that the check names, word by word."""
    command = ["model", "check", str(saved(stranger, how, folder)), "--json"]
    if not how.startswith("onnx"):
        command += network_options(stranger)
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)["best"]["flags"]


def right(stranger: Stranger, declared: dict[str, Any]) -> int:
    """How many of the digits its network reads right, given as is declared."""
    images, labels = stranger.target()
    with torch.inference_mode():
        scores_BK = stranger.author_scores(trained(stranger)(network_input(declared, images)))
    return int((scores_BK.argmax(1).numpy() == labels).sum())


def check(stranger: Stranger, how: str, folder: Path) -> None:
    """What the check names is laid out as the author's input, and is read no worse."""
    named, wanted = from_words(found(stranger, how, folder)), declaration(stranger)
    assert {name: named.get(name) for name in LAID_OUT} == {
        name: wanted.get(name) for name in LAID_OUT
    }
    if stranger.flags is not None:  # otherwise the numbers are its author's own
        assert right(stranger, named) >= right(stranger, wanted)
    assert right(stranger, named) >= 850


@pytest.mark.parametrize("stranger", DIGITS, ids=str)
def test_check_names_a_declaration_as_good_as_the_authors(
    stranger: Stranger, tmp_path: Path
) -> None:
    check(stranger, formats_of(stranger)[0], tmp_path)


@pytest.mark.parametrize("stranger", [one for one in DIGITS if one.flags is not None], ids=str)
def test_check_names_the_authors_numbers(stranger: Stranger, tmp_path: Path) -> None:
    named = from_words(found(stranger, formats_of(stranger)[-1], tmp_path))
    images, _ = stranger.target()
    expected = network_input(declaration(stranger), images[:100])
    torch.testing.assert_close(network_input(named, images[:100]), expected, rtol=0, atol=2e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stranger", "how"), [(one, how) for one in DIGITS for how in formats_of(one)[1:-1:4]], ids=str
)
def test_check_of_more_formats_names_a_declaration_as_good_as_the_authors(
    stranger: Stranger, how: str, tmp_path: Path
) -> None:
    check(stranger, how, tmp_path)
