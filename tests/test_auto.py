import os
import sys
from pathlib import Path

import pytest

from batchdigit import Job, auto
from tests.support.samples import SAMPLES, files_in


class Computer:
    """A backend, as far as settings depend on it."""

    def __init__(self, *, on_cpu: bool = True) -> None:
        self.on_cpu = on_cpu

    def batch_size(self, _model: object) -> tuple[int, str]:
        return 256, "preset"


SMALL, PHOTO = 65e-6, 20e-3  # seconds to read one


@pytest.mark.parametrize(
    ("cores", "on_cpu", "seconds", "count", "workers"),
    [
        (2, True, SMALL, 10_000, 1),
        (16, True, SMALL, 1_000_000, 8),
        (16, True, SMALL, 1_600, 2),  # all read before more have started
        (16, True, SMALL, 10, 1),
        (16, True, PHOTO, 100, 16),
        (2, True, PHOTO, 100, 2),
        (16, False, SMALL, 1_000_000, 16),
        (64, False, SMALL, 1_000_000, 16),
        (16, True, SMALL, 0, 0),
    ],
)
def test_as_many_workers_as_there_is_to_read(
    monkeypatch: pytest.MonkeyPatch,
    cores: int,
    on_cpu: bool,
    seconds: float,
    count: int,
    workers: int,
) -> None:
    monkeypatch.setattr(auto, "available_cores", lambda: cores)
    monkeypatch.setattr(auto, "choose_start_method", lambda _asked: "fork")
    monkeypatch.setattr(auto.sys, "platform", "linux")
    job = Job((SAMPLES,))
    assert (
        auto.choose_workers(job, Computer(on_cpu=on_cpu), seconds, count=count, batches=10**6)
        == workers
    )
    assert (
        auto.choose_workers(Job((SAMPLES,), workers=5), Computer(), seconds, count=count, batches=9)
        == 5
    )


def test_no_worker_where_starting_one_takes_longer_than_it_saves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(auto, "choose_start_method", lambda _asked: "spawn")
    assert auto.choose_workers(Job((SAMPLES,)), Computer(), SMALL, count=100, batches=1) == 0
    assert auto.choose_workers(Job((SAMPLES,)), Computer(), SMALL, count=10**6, batches=99) > 0


@pytest.mark.parametrize(("executable", "frozen"), [("", False), (sys.executable, True)])
def test_program_that_cannot_start_python_reads_by_itself(
    monkeypatch: pytest.MonkeyPatch, executable: str, frozen: bool
) -> None:
    """One that is embedded, and one that is frozen, which would start itself again."""
    monkeypatch.setattr(auto, "choose_start_method", lambda _asked: "spawn")
    monkeypatch.setattr("multiprocessing.spawn.get_executable", lambda: executable)
    monkeypatch.setattr(sys, "frozen", frozen, raising=False)
    assert auto.choose_workers(Job((SAMPLES,)), Computer(), SMALL, count=10**6, batches=99) == 0


def test_no_more_workers_than_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto, "available_cores", lambda: 16)
    monkeypatch.setattr(auto, "choose_start_method", lambda _asked: "fork")
    assert auto.choose_workers(Job((SAMPLES,)), Computer(), PHOTO, count=100, batches=3) == 3


@pytest.mark.parametrize(
    ("given", "seconds", "count", "cores", "expected"),
    [
        (None, SMALL, 10_000, 2, (256, "preset")),
        (None, SMALL, 10, 64, (256, "preset")),
        (None, PHOTO, 10_000, 2, (25, "time to read")),
        (None, PHOTO, 16, 16, (1, "time to read")),  # each process gets some
        (None, 10.0, 10_000, 2, (1, "time to read")),
        (1000, PHOTO, 10_000, 2, (1000, "given")),
    ],
)
def test_batch_of_large_files_is_read_soon_and_by_all_cores(
    monkeypatch: pytest.MonkeyPatch,
    given: int | None,
    seconds: float,
    count: int,
    cores: int,
    expected: tuple[int, str],
) -> None:
    monkeypatch.setattr(auto, "available_cores", lambda: cores)
    job = Job((SAMPLES,), batch_size=given)
    assert auto.choose_batch_size(job, Computer(), None, seconds, count) == expected


def test_time_to_read_is_guessed_by_size(tmp_path: Path) -> None:
    job = Job((SAMPLES,))
    small = files_in(SAMPLES, [os.fsencode(p.name) for p in SAMPLES.glob("*.png")])
    assert 40e-6 < auto.seconds_to_read(job, small) < 200e-6
    (tmp_path / "photo.jpg").write_bytes(bytes(200_000))
    large = files_in(tmp_path, [b"photo.jpg", b"missing.jpg"])
    assert 10e-3 < auto.seconds_to_read(job, large) < 50e-3
    missing = files_in(tmp_path, [b"missing.jpg"])
    assert auto.seconds_to_read(job, missing) == auto.SECONDS_TO_READ


def test_one_huge_file_and_what_is_not_read_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "huge.png").write_bytes(bytes(2_000_000))
    (tmp_path / "link.png").symlink_to("huge.png")
    (tmp_path / "small.png").write_bytes(bytes(300))
    names = [b"huge.png", *[b"small.png"] * 4]
    files = files_in(tmp_path, names)
    assert auto.seconds_to_read(Job((tmp_path,)), files) < 100e-6
    for names, job in (
        ([b"link.png"], Job((tmp_path,))),
        ([b"huge.png"], Job((tmp_path,), max_bytes=1_000_000)),
    ):
        files = files_in(tmp_path, names)
        assert auto.seconds_to_read(job, files) < 100e-6
    linked = files_in(tmp_path, [b"link.png"], follow_symlinks=True)
    assert auto.seconds_to_read(Job((tmp_path,), follow_symlinks=True), linked) > 100e-3
