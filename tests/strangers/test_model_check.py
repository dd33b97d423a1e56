"""``batchdigit model check`` finds out how a stranger's network wants its images."""

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from tests.strangers.catalogue import STRANGERS, Stranger
from tests.strangers.declared import declaration, from_words, network_input
from tests.strangers.reporting import network_options
from tests.strangers.trained import formats_of, saved, trained
from tests.support.programs import app

DIGITS = [stranger for stranger in STRANGERS if stranger.classes == 10]


def found(stranger: Stranger, how: str, folder: Path) -> list[str]:
    """The options that the check names, word by word."""
    command = ["model", "check", str(saved(stranger, how, folder)), "--json"]
    if not how.startswith("onnx"):
        command += network_options(stranger)
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)["best"]["flags"]


def check(stranger: Stranger, how: str, folder: Path) -> None:
    """What the check names gives the network what its author gives it.

    Where the author's numbers are nobody else's, it is enough that it reads digits as well.
    """
    images, labels = (part[:200] for part in stranger.target())
    expected = network_input(declaration(stranger), images)
    declared = network_input(from_words(found(stranger, how, folder)), images)
    assert declared.shape == expected.shape
    if stranger.flags is not None:
        torch.testing.assert_close(declared, expected, rtol=0, atol=2e-4)
    with torch.inference_mode():
        guesses = stranger.author_scores(trained(stranger)(declared)).argmax(1)
    assert (guesses.numpy() == labels).mean() >= 0.85


@pytest.mark.parametrize("stranger", DIGITS, ids=str)
def test_check_names_the_declaration(stranger: Stranger, tmp_path: Path) -> None:
    check(stranger, formats_of(stranger)[0], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stranger", "how"), [(one, how) for one in DIGITS for how in formats_of(one)[1:]], ids=str
)
def test_check_names_the_declaration_of_every_format(
    stranger: Stranger, how: str, tmp_path: Path
) -> None:
    check(stranger, how, tmp_path)
