import os
from pathlib import Path

import pytest

from batchdigit import Job, settings
from batchdigit.filenames import FileList
from tests.conftest import SAMPLES


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
        (16, True, SMALL, 1_600, 2),  # read before more have started
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
    monkeypatch.setattr(settings, "available_cores", lambda: cores)
    monkeypatch.setattr(settings, "default_start_method", lambda: "fork")
    monkeypatch.setattr(settings.sys, "platform", "linux")
    job = Job((SAMPLES,))
    assert settings.choose_workers(job, Computer(on_cpu=on_cpu), seconds, count) == workers
    assert settings.choose_workers(Job((SAMPLES,), workers=5), Computer(), seconds, count) == 5


def test_no_worker_where_starting_one_takes_longer_than_it_saves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(settings, "default_start_method", lambda: "spawn")
    assert settings.choose_workers(Job((SAMPLES,)), Computer(), SMALL, 100) == 0


@pytest.mark.parametrize(
    ("given", "seconds", "expected"),
    [
        (None, SMALL, (256, "preset")),
        (None, PHOTO, (25, "time to read")),
        (None, 10.0, (8, "time to read")),
        (1000, PHOTO, (1000, "given")),
    ],
)
def test_batch_is_read_within_half_a_second(
    given: int | None, seconds: float, expected: tuple[int, str]
) -> None:
    job = Job((SAMPLES,), batch_size=given)
    assert settings.choose_batch_size(job, Computer(), None, seconds) == expected


def test_time_to_read_is_guessed_by_size(tmp_path: Path) -> None:
    small = FileList(os.fsencode(SAMPLES), [os.fsencode(p.name) for p in SAMPLES.glob("*.png")])
    assert 40e-6 < settings.seconds_to_read(small) < 200e-6
    (tmp_path / "photo.jpg").write_bytes(bytes(200_000))
    large = FileList(os.fsencode(tmp_path), [b"photo.jpg", b"missing.jpg"])
    assert 10e-3 < settings.seconds_to_read(large) < 50e-3
    missing = FileList(os.fsencode(tmp_path), [b"missing.jpg"])
    assert settings.seconds_to_read(missing) == settings.SECONDS_TO_READ
