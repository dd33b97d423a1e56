"""Networks are trained once in a session, whatever number of processes it has."""

import os

import pytest

from tests.strangers.trained import keep_in


@pytest.fixture(scope="session", autouse=True)
def _training_is_shared(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    keep_in(folder / "strangers")
