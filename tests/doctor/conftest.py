"""What the tests of the doctor share."""

from collections.abc import Iterator

import pytest

from batchdigit.reading.startup import one_thread


@pytest.fixture(autouse=True)
def opencv_without_threads() -> Iterator[None]:
    """Checks run in forks of this process, in which another test may have given OpenCV threads.

    A fork does not have them, and would wait for them. ``batchdigit doctor`` forks before it uses
    OpenCV.
    """
    with one_thread:
        yield
