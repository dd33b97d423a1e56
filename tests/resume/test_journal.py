"""What an unfinished run has done is resumed whole, or not at all."""

import logging
import os
import shutil
import signal
import stat
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from batchdigit import Failure, OutputError, Predictions
from batchdigit.errors import StoppedBySignal
from batchdigit.resume import journal
from batchdigit.resume.frames import pack_arrays, write_frame
from batchdigit.resume.journal import Journal
from batchdigit.system.signals import signals_as_exceptions
from tests.support.samples import facts_of

BINDING = {"model": "abc", "batch size": 4}
PLACES = np.arange(22)


@pytest.fixture(autouse=True)
def one_batch_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "SECONDS_IN_A_PART", 0.0)
    monkeypatch.setattr(journal, "SHARE_IN_A_PART", 0.0)


def batch(start: int, end: int = 0) -> Predictions:
    """The outcome of four files, the second of which failed."""
    indices = np.array([index for index in range(start, end or start + 4) if index != start + 1])
    return Predictions(
        indices=indices,
        labels=np.stack([indices % 10, (indices + 1) % 10], axis=1),
        probs=np.stack([indices / 100, indices / 200], axis=1).astype(np.float32),
        failures=(Failure(start + 1, "decode", f"not an image {start} é"),),
        facts=facts_of(indices % 8, indices / 300),
    )


BATCHES = [batch(start) for start in range(0, 20, 4)] + [batch(20, 22)]


def keep(out: Path, batches: list[Predictions]) -> None:
    with Journal(out) as kept:
        kept.start(BINDING, PLACES, 4)
        list(kept.record(iter(batches)))


def kept_at(out: Path, binding: dict[str, object] = BINDING) -> list[Predictions]:
    with Journal(out) as kept:
        kept.start(binding, PLACES, 4)
        assert kept.rows == sum(part.rows for part in kept.replay())
        return list(kept.replay())


def assert_same(ours: list[Predictions], theirs: list[Predictions]) -> None:
    for our, their in zip(ours, theirs, strict=True):
        for name in ("indices", "labels", "probs"):
            np.testing.assert_array_equal(getattr(our, name), getattr(their, name))
            assert getattr(our, name).dtype == getattr(their, name).dtype
        assert our.failures == their.failures


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.csv"


def parts(out: Path) -> list[Path]:
    return sorted(out.parent.glob(".out.csv.journal/*/*.part"))


@pytest.mark.parametrize("count", range(7))
def test_what_was_done_is_given_back(out: Path, count: int) -> None:
    keep(out, BATCHES[:count])
    assert_same(kept_at(out), BATCHES[:count])


def test_journal_is_for_its_owner_only(out: Path) -> None:
    keep(out, BATCHES[:1])
    for path in (out.parent / ".out.csv.journal", parts(out)[0].parent):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_part_in_the_making_is_closed_when_the_run_ends(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "SECONDS_IN_A_PART", 1e6)
    with pytest.raises(KeyboardInterrupt), Journal(out) as kept:
        kept.start(BINDING, PLACES, 4)
        for number, _ in enumerate(kept.record(iter(BATCHES))):
            assert not parts(out)
            if number == 2:
                raise KeyboardInterrupt
    (joined,) = kept_at(out)
    assert joined.indices.tolist() == [0, 2, 3, 4, 6, 7, 8, 10, 11]
    assert [failure.index for failure in joined.failures] == [1, 5, 9]


def test_large_part_is_closed_whatever_the_time(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "SECONDS_IN_A_PART", 1e6)
    monkeypatch.setattr(journal, "VALUES_IN_A_PART", 16)  # two batches of four rows of two values
    keep(out, BATCHES[:4])
    assert len(parts(out)) == 2


def damages(data: bytes) -> Iterator[bytes]:
    for length in range(len(data)):
        if length % 37 == 0:
            yield data[:length]
    for place in range(0, len(data), 7):
        yield data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :]


def test_damaged_part_and_those_after_it_are_done_again(
    out: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keep(out, BATCHES[:4])
    whole = parts(out)[2].read_bytes()
    saved = out.parent / "saved"
    shutil.copytree(out.parent / ".out.csv.journal", saved)
    tried = 0
    for damaged in damages(whole):
        shutil.rmtree(out.parent / ".out.csv.journal")
        shutil.copytree(saved, out.parent / ".out.csv.journal")
        parts(out)[2].write_bytes(damaged)
        caplog.clear()
        assert_same(kept_at(out), BATCHES[:2])
        assert "part 2 of the journal is damaged" in caplog.text
        assert len(parts(out)) == 2
        tried += 1
    assert tried > 100


def test_whole_part_in_another_place_does_not_count(out: Path) -> None:
    keep(out, BATCHES[:3])
    shutil.copyfile(parts(out)[2], parts(out)[1])
    assert_same(kept_at(out), BATCHES[:1])


def test_part_of_another_run_does_not_count(out: Path) -> None:
    keep(out, BATCHES[:1])
    mine = parts(out)[0]
    with Journal(out) as other:
        other.start({"model": "other"}, PLACES, 4)
        list(other.record(iter(BATCHES[:2])))
        theirs = other.folder / other._run.name / "00000001.part"
        shutil.copyfile(theirs, mine.with_name("00000001.part"))
    assert_same(kept_at(out), BATCHES[:1])


@pytest.mark.parametrize("change", [{"model": "other"}, {"batch size": 8}])
def test_run_with_another_binding_starts_anew_and_says_why(
    out: Path, caplog: pytest.LogCaptureFixture, change: dict[str, object]
) -> None:
    keep(out, BATCHES[:2])
    assert kept_at(out, BINDING | change) == []
    assert f"with other {next(iter(change))}; it is set aside" in caplog.text
    assert_same(kept_at(out), BATCHES[:2])  # set aside, not lost


def test_one_journal_is_set_aside_at_most(out: Path) -> None:
    for model in "abcde":
        with Journal(out) as kept:
            kept.start({"model": model}, PLACES, 4)
            list(kept.record(iter(BATCHES[:1])))
    assert len(parts(out)) == 2


def test_fresh_forgets(out: Path) -> None:
    keep(out, BATCHES[:2])
    with Journal(out) as kept:
        kept.start(BINDING, PLACES, 4, fresh=True)
        assert kept.rows == 0
    assert os.listdir(out.parent) == []


def test_nothing_stays_after_discard_nor_after_a_run_that_did_nothing(out: Path) -> None:
    with Journal(out) as kept:
        kept.start(BINDING, PLACES, 4)
        list(kept.record(iter(BATCHES)))
        kept.discard()
    assert os.listdir(out.parent) == []
    with Journal(out) as kept:
        kept.start(BINDING, PLACES, 4)
    with Journal(out):
        pass
    assert os.listdir(out.parent) == []


def test_resumed_run_continues_in_the_same_journal(
    out: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    keep(out, BATCHES[:2])
    keep(out, BATCHES[2:5])
    assert "8 of 22 images were done" in caplog.text
    assert_same(kept_at(out), BATCHES[:5])


def test_what_is_not_a_whole_batch_is_not_resumed(out: Path) -> None:
    with Journal(out) as kept:
        kept.start(BINDING, PLACES, 4)
        list(kept.record(iter([BATCHES[0], batch(4, 7)])))
    assert_same(kept_at(out), BATCHES[:1])


def test_half_written_files_are_removed(out: Path) -> None:
    keep(out, BATCHES[:1])
    stray = out.parent / ".out.csv.journal" / ".batchdigit-0.tmp"
    stray.touch()
    assert_same(kept_at(out), BATCHES[:1])
    assert not stray.exists()


def test_whole_part_that_holds_something_else_counts_as_damaged(out: Path) -> None:
    keep(out, BATCHES)
    (folder,) = (out.parent / ".out.csv.journal").iterdir()
    with Journal(out) as kept:
        kept.start(BINDING, PLACES, 4)
        context = kept._context(1)
    for payload in (b"", b"text", pack_arrays({"indices": np.arange(3)})):
        with open(folder / "00000001.part", "wb") as stream:
            write_frame(stream, payload, context)
        assert_same(kept_at(out), BATCHES[:1])


def test_part_that_is_damaged_during_the_run_is_an_error(out: Path) -> None:
    keep(out, BATCHES)
    with Journal(out) as kept:
        kept.start(BINDING, PLACES, 4)
        replay = kept.replay()
        next(replay)
        next(out.parent.glob(".out.csv.journal/*/00000001.part")).unlink()
        with pytest.raises(OutputError, match="run the same command again"):
            next(replay)


@pytest.mark.parametrize("error", [MemoryError(), OSError(5, "Input/output error")])
def test_journal_outlives_what_keeps_it_from_being_read(
    out: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """It may be readable next time."""
    keep(out, BATCHES[:3])

    def fail(*_: object) -> bytes:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(journal, "read_frame", fail)
        with pytest.raises((MemoryError, OutputError)), Journal(out) as kept:
            kept.start(BINDING, PLACES, 4)
    assert_same(kept_at(out), BATCHES[:3])


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs Linux and root")
def test_journal_of_another_user_is_named(open_folder: Path) -> None:
    keep(open_folder / "out.csv", BATCHES[:1])
    pid = os.fork()
    if not pid:
        os.setuid(54321)
        try:
            Journal(open_folder / "out.csv").__enter__()
        except OutputError as error:
            os._exit(0 if "another user" in str(error) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_journal_that_is_a_link_is_not_followed(out: Path) -> None:
    precious = out.parent / "precious"
    (precious / ("a" * 32)).mkdir(parents=True)
    (precious / "draft.tmp").touch()
    (out.parent / ".out.csv.journal").symlink_to(precious)
    with pytest.raises(OutputError, match="a symbolic link instead of a folder"), Journal(out):
        raise AssertionError
    assert sorted(os.listdir(precious)) == ["a" * 32, "draft.tmp"]


def test_what_is_not_the_journals_stays(out: Path) -> None:
    out.with_name(".out.csv.journal").mkdir(mode=0o700)
    out.with_name(".out.csv.journal").joinpath("notes").mkdir()
    out.with_name(".out.csv.journal").joinpath("my.tmp").touch()
    with Journal(out) as kept:
        kept.start(BINDING, PLACES, 4, fresh=True)
        kept.discard()
    assert sorted(os.listdir(out.parent / ".out.csv.journal")) == ["my.tmp", "notes"]


def test_journal_that_does_not_fit_is_reported_beside_one_that_does(
    out: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    keep(out, BATCHES[:2])
    with Journal(out) as kept:
        kept.start({**BINDING, "last report": "x"}, PLACES, 4)
        list(kept.record(iter(BATCHES[:1])))
    caplog.clear()
    assert_same(kept_at(out), BATCHES[:2])
    set_aside, going_on = caplog.messages
    assert "with other last report; it is set aside until a report is published" in set_aside
    assert "starts over" not in set_aside
    assert "8 of 22 images were done" in going_on


def test_signal_waits_for_the_part_that_is_being_closed(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack = journal.pack_predictions
    packed = []

    def pack_during_signal(pending: Sequence[Predictions]) -> bytes:
        packed.append("begun")
        os.kill(os.getpid(), signal.SIGTERM)
        packed.append("done")
        return pack(pending)

    monkeypatch.setattr(journal, "pack_predictions", pack_during_signal)
    with pytest.raises(StoppedBySignal), signals_as_exceptions():
        keep(out, BATCHES)
    assert packed == ["begun", "done"]
    assert_same(kept_at(out), BATCHES[:1])


@pytest.mark.parametrize("name", ["_pending", "_pending_values", "_parts"])
def test_interrupt_that_is_not_held_back_cannot_leave_the_same_rows_in_two_parts(
    out: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """It comes after a part is written, just before the journal notes one of these."""

    class Interrupted(Journal):
        def __setattr__(self, attribute: str, value: object) -> None:
            if attribute == name and writes == ["done"]:
                writes.append("interrupted")
                raise KeyboardInterrupt
            super().__setattr__(attribute, value)

        def _write(self, number: int, parts: list[Predictions]) -> None:
            super()._write(number, parts)
            writes.append("done")

    writes: list[str] = []
    with pytest.raises(KeyboardInterrupt), Interrupted(out) as kept:
        kept.start(BINDING, PLACES, 4)
        list(kept.record(iter(BATCHES)))
    caplog.clear()
    assert_same(kept_at(out), BATCHES[:1])
    assert caplog.messages == []  # nothing is damaged
