import contextlib
import gc
import os
import subprocess
import sys
from types import ModuleType

import pytest

from batchdigit.errors import BatchdigitError
from batchdigit.system.imports import is_installed, loading
from tests.support.platforms import needs_linux


@needs_linux("/proc")
@pytest.mark.parametrize("given", [None, "2"])
def test_numpy_and_opencv_start_no_threads(given: str | None) -> None:
    code = """
import os
from batchdigit.system.imports import loading
with loading("numpy and OpenCV", "numpy opencv-python-headless"):
    import numpy, cv2
print(len(os.listdir("/proc/self/task")), os.environ.get("OPENBLAS_NUM_THREADS"))
"""
    environment = {name: value for name, value in os.environ.items() if "THREADS" not in name}
    if given is not None:
        environment["OPENBLAS_NUM_THREADS"] = given
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    threads, left = done.stdout.split()
    assert left == str(given)
    assert threads == "1" or given


@pytest.mark.parametrize("error", [ImportError, OSError, RuntimeError])
def test_import_that_fails_is_an_error_with_a_remedy(error: type[Exception]) -> None:
    with pytest.raises(BatchdigitError) as caught, loading("the library", "one two"):
        raise error("libGL.so.1 is missing")
    assert caught.value.problem == "cannot load the library: libGL.so.1 is missing"
    assert caught.value.remedy.startswith("pip install one two")


def test_what_has_nothing_to_do_with_importing_stays_as_it_is() -> None:
    with pytest.raises(KeyError), loading("the library", "library"):
        raise KeyError


@pytest.mark.parametrize("collects", [True, False])
@pytest.mark.parametrize("fails", [True, False])
def test_garbage_is_looked_for_afterwards_if_it_was_before(collects: bool, fails: bool) -> None:
    before = gc.isenabled()
    (gc.enable if collects else gc.disable)()
    try:
        with contextlib.suppress(BatchdigitError), loading("a library", "library"):
            assert not gc.isenabled()
            if fails:
                raise ImportError
        assert gc.isenabled() == collects
    finally:
        (gc.enable if before else gc.disable)()


def test_package_is_found_without_being_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    assert is_installed("colorsys")
    assert "colorsys" not in sys.modules
    assert not is_installed("no_such_package")
    monkeypatch.setitem(sys.modules, "colorsys", None)  # as tests and users hide a package
    assert not is_installed("colorsys")
    hollow = ModuleType("colorsys")  # whose __spec__ is None
    monkeypatch.setitem(sys.modules, "colorsys", hollow)
    assert not is_installed("colorsys")
