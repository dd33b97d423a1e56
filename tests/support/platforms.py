"""What only some systems have."""

import sys

import pytest


def needs_linux(what: str) -> pytest.MarkDecorator:
    """Skip a test on other systems: it needs ``what``."""
    return pytest.mark.skipif(sys.platform != "linux", reason=f"needs Linux: {what}")
