"""What the tests of the doctor share."""

import pytest


@pytest.fixture(autouse=True)
def checks_can_fork(opencv_without_threads: None) -> None:
    """Checks are forks of this process; ``batchdigit doctor`` forks before it uses OpenCV."""
