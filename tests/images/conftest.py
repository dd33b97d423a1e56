import pytest

from tests.support.pictures import Pixels, mnist_digits


@pytest.fixture(scope="session")
def thousand() -> Pixels:
    """MNIST digits uint8[1000, 28, 28]."""
    digits = mnist_digits()
    digits.flags.writeable = False
    return digits
