import pytest


@pytest.fixture(autouse=True)
def _no_settings_of_whoever_runs_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "BATCHDIGIT_MODEL", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def _checks_can_fork(opencv_without_threads: None) -> None:
    """Checks are forks of this process; ``batchdigit doctor`` forks before it uses OpenCV."""
