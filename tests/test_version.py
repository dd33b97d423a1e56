"""One version, and the versions of what predictions depend on."""

import re
from importlib import metadata

import pytest

import batchdigit
from batchdigit.version import __version__, versions
from tests.test_public import imported_by


def test_version_is_the_same_wherever_it_is_told() -> None:
    assert batchdigit.__version__ == __version__ == metadata.version("batchdigit")


@pytest.mark.parametrize("backend", ["torch", "onnxruntime"])
def test_versions_are_those_of_the_installed_packages(backend: str) -> None:
    found = versions(backend)
    assert set(found) == {"batchdigit", backend, "pillow", "numpy", "opencv"}
    distributions = {"opencv": "opencv-python-headless"}
    for name, version in found.items():
        installed = metadata.version(distributions.get(name, name))
        # A build may add its own part to either: 2.14.1 and 2.14.1+cu130, 5.0.0 and 5.0.0.93.
        shorter, longer = sorted((installed, version), key=len)
        assert re.fullmatch(re.escape(shorter) + r"([.+].*)?", longer), (name, version, installed)


def test_version_alone_loads_nothing_else() -> None:
    assert (
        imported_by("from batchdigit.version import __version__", ("numpy", "cv2", "PIL")) == set()
    )


def test_versions_of_one_backend_do_not_load_the_other() -> None:
    code = "from batchdigit.version import versions; versions('onnxruntime')"
    assert imported_by(code, ("torch", "onnxruntime")) == {"onnxruntime"}
