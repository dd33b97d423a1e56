"""Inflict the faults of a hostile night on runs, and count what is wrong in the morning.

``python -m tests.support.campaign --help`` lists the options; the suite runs a short form. Each
fault is followed by the same command, undisturbed, and the report must be that of a run that was
never disturbed: byte for byte, or row for row in Parquet. A fault counts only if it fired.

Runs are forked from one process that has imported torch but not used it, which saves the second
that the import takes; everything after that is what ``batchdigit run`` does.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import ctypes
import errno
import io
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow.parquet
import torch
from PIL import Image

from batchdigit.cli import app as cli
from batchdigit.errors import ExitCode
from batchdigit.resume import journal
from batchdigit.system import publish

SAMPLES = Path(__file__).parents[2] / "sample_images"
PR_SET_CHILD_SUBREAPER = 36
SECONDS_FOR_WORKERS = 10.0
SECONDS_FOR_A_RUN = 300.0
SECONDS_TO_STOP = 10.0
ATTEMPTS = 100  # to send a signal before a run has ended
POLITE = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Fault = Callable[[], None]


@dataclass
class Line:
    """One line of the table."""

    name: str
    injected: int = 0
    fired: int = 0
    resumed: int = 0
    wrong: int = 0
    lost: int = 0
    left: int = 0
    complaints: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether every fault fired and did no harm."""
        return self.fired == self.injected and not (self.wrong or self.lost or self.left)


def digits(folder: Path, count: int) -> Path:
    """A folder of ``count`` hard links to digits, an hour old, every hundredth one damaged."""
    samples = sorted(SAMPLES.glob("*.png"))
    folder.mkdir(parents=True)
    originals = folder.parent / f"{folder.name}-originals"
    originals.mkdir()
    then = time.time() - 3600
    sources = []
    for sample in samples:
        source = originals / sample.name
        shutil.copyfile(sample, source)
        os.utime(source, (then, then))
        sources.append(source)
    damaged = originals / "damaged.png"
    damaged.write_bytes(samples[0].read_bytes()[:100])
    os.utime(damaged, (then, then))
    for number in range(count):
        source = damaged if number % 100 == 50 else sources[number % len(sources)]
        os.link(source, folder / f"{number:06}.png")
    return folder


@dataclass
class Run:
    """``batchdigit run FOLDER --out OUT`` with some settings."""

    folder: Path
    out: Path
    workers: int = 0
    backend: str = "torch"
    batch_size: int = 64
    real: bool = False  # a process of its own from the start, imports and all

    @property
    def arguments(self) -> list[str]:
        return [
            "run", str(self.folder), "--out", str(self.out),
            "--workers", str(self.workers), "--batch-size", str(self.batch_size),
            "--backend", self.backend,
        ]  # fmt: skip

    def start(self, fault: Fault | None = None) -> int:
        """Start it in a process group of its own, where ``fault`` comes first; return its PID."""
        pid = os.fork()
        if pid:
            return pid
        try:
            os.setpgid(0, 0)
            for kind in POLITE:  # a shell's & and nohup set them to be ignored
                signal.signal(kind, signal.SIG_DFL)
            log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            os.dup2(log, 1)
            os.dup2(log, 2)
            if self.real:
                program = [sys.executable, "-m", "batchdigit", *self.arguments]
                os.execv(sys.executable, program)  # noqa: S606
            sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
            torch.set_num_threads(1)
            journal.SECONDS_IN_A_PART = journal.SHARE_IN_A_PART = 0.0
            if fault is not None:
                fault()
            sys.argv = ["batchdigit", *self.arguments]
            cli.main()
        except SystemExit as stop:
            os._exit(stop.code if isinstance(stop.code, int) else 1)
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(99)

    @property
    def log(self) -> Path:
        return self.out.with_name(f"{self.out.name}.log")

    def undisturbed(self) -> int:
        """Run it to its end and return its exit code."""
        return wait(self.start())

    def said(self, text: str) -> bool:
        return text in self.log.read_text()

    def rows(self) -> object:
        """What the report holds: its bytes, or the rows of Parquet."""
        if self.out.suffix == ".parquet":
            table = pyarrow.parquet.read_table(self.out)
            return table.schema.remove_metadata(), table.to_pylist()
        return self.out.read_bytes()

    def clear(self) -> None:
        for path in self.out.parent.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def wait(pid: int) -> int:
    """The exit code of a process, as a shell gives it."""
    deadline = time.monotonic() + SECONDS_FOR_A_RUN
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        time.sleep(0.002)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise TimeoutError(f"a run did not end in {SECONDS_FOR_A_RUN:g} s")


def children() -> set[int]:
    """Our living children, orphans of our runs among them (we are their subreaper)."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    found = set()
    for task in Path("/proc/self/task").iterdir():
        found |= {int(pid) for pid in (task / "children").read_text().split()}
    return found


def left_behind() -> int:
    """How many workers are still alive after they had time to end; they are killed."""
    deadline = time.monotonic() + SECONDS_FOR_WORKERS
    while (alive := children()) and time.monotonic() < deadline:
        time.sleep(0.02)
    for pid in alive:
        os.kill(pid, signal.SIGKILL)
    return len(alive)


def check(run: Run, expected: object, line: Line, what: str) -> None:
    """Check, after a fault, who is left behind; then the same command and its report."""
    line.left += left_behind()
    if run.out.exists() and run.rows() != expected:
        line.wrong += 1
        line.complaints.append(f"{what}: neither the old report nor the new one")
    code = run.undisturbed()
    line.resumed += run.said("continuing where")
    line.left += left_behind()
    if code not in (ExitCode.OK, ExitCode.BAD_IMAGES) or not run.out.exists():
        line.lost += 1
        line.complaints.append(f"{what}: exit {code}: {run.log.read_text()[-300:]}")
    elif run.rows() != expected:
        line.wrong += 1
        line.complaints.append(f"{what}: another report")
    leftovers = {path.name for path in run.out.parent.iterdir()} - expected_files(run)
    if leftovers:
        line.lost += 1
        line.complaints.append(f"{what}: left {leftovers}")


def expected_files(run: Run) -> set[str]:
    name = run.out.name
    return {name, f"{name}.run.json", f".{name}.state", run.log.name}


def reference(run: Run) -> tuple[object, float]:
    """The report of a run that is not disturbed, and how long it took."""
    run.clear()
    start = time.monotonic()
    run.undisturbed()
    seconds = time.monotonic() - start
    expected = run.rows()
    return expected, seconds


def signals(
    run: Run, count: int, kinds: tuple[int, ...], dice: random.Random, line: Line, *, again: int = 0
) -> None:
    """Send a signal at a random moment, and ``again`` more times during the runs that follow."""
    expected, seconds = reference(run)
    for number in range(count):
        kind = kinds[number % len(kinds)]
        line.injected += 1 + again
        for _ in range(ATTEMPTS):
            run.clear()
            if all(stopped(run, kind, dice.uniform(0.0, seconds), line) for _ in range(1 + again)):
                line.fired += 1 + again
                break
        check(run, expected, line, f"signal {kind}")


def stopped(run: Run, kind: int, delay: float, line: Line) -> bool:
    """Send a signal after ``delay`` seconds; return whether the run had not ended before."""
    pid = run.start()
    time.sleep(delay)
    os.kill(pid, kind)
    sent = time.monotonic()
    code = wait(pid)
    if kind in POLITE and time.monotonic() - sent > SECONDS_TO_STOP:
        line.lost += 1
        line.complaints.append(f"did not stop within {SECONDS_TO_STOP:g} s")
    if kind in POLITE and children():
        line.left += 1
        line.complaints.append("workers outlived a polite end")
    line.left += left_behind()
    if code not in (128 + kind, ExitCode.OK, ExitCode.BAD_IMAGES):
        line.lost += 1
        line.complaints.append(f"signal {kind}: exit {code}: {run.log.read_text()[-300:]}")
    return code == 128 + kind


def dead_workers(run: Run, count: int, dice: random.Random, line: Line) -> None:
    """Kill a worker at a random moment: the run must go on."""
    expected, seconds = reference(run)
    for _ in range(count):
        line.injected += 1
        while True:
            run.clear()
            pid = run.start()
            time.sleep(dice.uniform(0.0, seconds))
            workers = Path(f"/proc/{pid}/task/{pid}/children")
            with contextlib.suppress(OSError, IndexError):
                os.kill(int(dice.choice(workers.read_text().split())), signal.SIGKILL)
                line.fired += 1
                break
            wait(pid)
        if wait(pid) != ExitCode.BAD_IMAGES or run.rows() != expected:
            line.wrong += 1
            line.complaints.append("a killed worker: " + run.log.read_text()[-300:])
        line.left += left_behind()


CALLS = ("write", "fsync", "rename", "close", "mkdir")


def arm(call: str, place: int, what: str) -> Fault:
    """Make the ``place``-th call of a kind, where files are published, fail or kill the process."""

    def install() -> None:
        seen = 0

        def happen() -> None:
            nonlocal seen
            seen += 1
            if seen == place:
                os.write(FIRED, b"x")
                if what == "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                raise OSError(errno.ENOSPC if what == "full" else errno.EIO, os.strerror(
                    errno.ENOSPC if what == "full" else errno.EIO))  # fmt: skip

        class System:
            """The module ``os`` with a fault in it."""

            def __getattr__(self, name: str) -> object:
                return getattr(os, name)

            def fsync(self, descriptor: int) -> None:
                if call == "fsync":
                    happen()
                os.fsync(descriptor)

            def replace(self, source: Path, target: Path) -> None:
                if call == "rename":
                    happen()
                os.replace(source, target)

            def mkdir(self, path: Path, mode: int) -> None:
                if call == "mkdir":
                    happen()
                os.mkdir(path, mode)

            def fdopen(self, descriptor: int, mode: str) -> object:
                return Stream(os.fdopen(descriptor, mode))

        class Stream:
            """A file with a fault in it."""

            def __init__(self, stream: object) -> None:
                self._stream = stream

            def __getattr__(self, name: str) -> object:
                return getattr(self._stream, name)

            def write(self, data: bytes) -> int:
                if call == "write":
                    happen()
                return self._stream.write(data)  # type: ignore[attr-defined,no-any-return]

            def close(self) -> None:
                self._stream.close()  # type: ignore[attr-defined]
                if call == "close":
                    happen()

        publish.os = journal.os = System()  # type: ignore[assignment]

    return install


FIRED = -1


def run_with(fault: Fault, run: Run) -> tuple[int, bool]:
    """The exit code of a run with a fault from ``arm``, and whether the fault fired."""
    global FIRED
    reader, FIRED = os.pipe()
    pid = run.start(fault)
    os.close(FIRED)
    code = wait(pid)
    fired = os.read(reader, 1) == b"x"
    os.close(reader)
    return code, fired


def calls(run: Run, what: str, line: Line, max_calls: int) -> None:
    """Make each call in turn fail or be the last, up to ``max_calls`` of a kind."""
    expected, _ = reference(run)
    for call in CALLS:
        for place in range(1, max_calls + 1):
            run.clear()
            code, fired = run_with(arm(call, place, what), run)
            if not fired:
                break  # there is no such call
            line.injected += 1
            line.fired += 1
            if code != (137 if what == "kill" else ExitCode.CANNOT_WRITE):
                line.lost += 1
                line.complaints.append(f"{what} at {call} {place}: exit {code}: "
                                       f"{run.log.read_text()[-300:]}")  # fmt: skip
            check(run, expected, line, f"{what} at {call} {place}")


def full_disks(folder: Path, sizes: list[int], line: Line) -> None:
    """Put the output on a file system of each size in bytes, then make it large enough."""
    libc = ctypes.CDLL(None, use_errno=True)
    source = digits(folder / "images", 2000)
    big = Run(source, folder / "whole" / "out.csv")
    big.out.parent.mkdir()
    expected, _ = reference(big)
    disk = folder / "disk"
    disk.mkdir()
    for size in sizes:
        line.injected += 1
        if libc.mount(b"tmpfs", bytes(disk), b"tmpfs", 0, f"size={size}".encode()):
            raise OSError(ctypes.get_errno(), "cannot mount a tmpfs; run as root")
        try:
            run = Run(source, disk / "out.csv")
            run.out.write_bytes(b"filename,prediction,confidence\n")
            pid = run.start(lambda: os.dup2(os.open(os.devnull, os.O_WRONLY), 2))
            code = wait(pid)
            line.fired += code == ExitCode.CANNOT_WRITE
            if run.out.read_bytes() not in (b"filename,prediction,confidence\n", expected):
                line.wrong += 1
                line.complaints.append(f"{size} bytes: the old report is lost")
            libc.mount(b"tmpfs", bytes(disk), b"tmpfs", 32, b"size=64m")  # MS_REMOUNT
            if run.undisturbed() != ExitCode.BAD_IMAGES or run.rows() != expected:
                line.wrong += 1
                line.complaints.append(f"{size} bytes, then room: {run.log.read_text()[-300:]}")
            line.resumed += run.said("continuing where")
        finally:
            libc.umount2(bytes(disk), 2)


def counts(folder: Path, numbers: list[int], line: Line) -> None:
    """Kill and rerun with each of these numbers of files."""
    for number in numbers:
        line.injected += 1
        source = digits(folder / f"count-{number}", number)
        out = folder / f"out-{number}" / "out.csv"
        out.parent.mkdir()
        run = Run(source, out)
        if number == 0:
            line.fired += run.undisturbed() == ExitCode.NO_IMAGES and not run.out.exists()
            continue
        expected, _ = reference(run)
        rows = bytes(expected).count(b"\n") - 1  # type: ignore[call-overload]
        if rows != number:
            line.lost += abs(number - rows)
        run.clear()
        half = 2 + number // run.batch_size // 2  # the first rename is that of the binding
        line.fired += run_with(arm("rename", half, "kill"), run) == (137, True)
        check(run, expected, line, f"{number} files")


def mutated_images(folder: Path, count: int, dice: random.Random, line: Line) -> None:
    """Read ``count`` damaged images of every format: one row each, and none ends a process."""
    folder.mkdir()
    samples = sorted(SAMPLES.glob("*.png"))[:20]
    originals = [sample.read_bytes() for sample in samples]
    for name in ("JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"):
        for sample in samples:
            stream = io.BytesIO()
            Image.open(sample).save(stream, name)
            originals.append(stream.getvalue())
    for number in range(count):
        data = bytearray(dice.choice(originals))
        for _ in range(dice.choice((1, 1, 2, 8))):
            place = dice.randrange(len(data))
            kind = dice.randrange(4)
            if kind == 0:
                data[place] ^= 1 << dice.randrange(8)
            elif kind == 1:
                data[place : place + 4] = dice.randbytes(4)
            elif kind == 2:
                del data[place : place + dice.randrange(64)]
            else:
                data[place:place] = data[: dice.randrange(64)]
            data = data or bytearray(b"x")
        (folder / f"{number:06}.png").write_bytes(data)
    run = Run(folder, folder.parent / "mutated" / "out.csv", workers=2)
    run.out.parent.mkdir()
    line.injected = count
    code = run.undisturbed()
    with run.out.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    line.fired = len({row["filename"] for row in rows})
    line.lost = abs(count - len(rows)) + (code != ExitCode.BAD_IMAGES)
    for row in rows:
        if "crashed" in row["error"] or row["error"].startswith("timeout"):
            line.wrong += 1
            line.complaints.append(f"{row['filename']}: {row['error']}")
    shutil.rmtree(folder)


def campaign(folder: Path, scale: float, seed: int, images: int) -> Iterator[Line]:
    """Every kind of fault, ``scale`` times as many as in the long form."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    dice = random.Random(seed)
    source = digits(folder / "images", images)
    few = digits(folder / "few", min(images, 500))  # each call in a run takes one more run

    def times(count: int) -> int:
        return max(1, round(count * scale))

    def run(kind: str, workers: int, *, backend: str = "onnxruntime", real: bool = False) -> Run:
        out = folder / f"{kind}-{workers}-{backend}" / f"out.{kind}"
        out.parent.mkdir(exist_ok=True)
        return Run(source, out, workers, backend, real=real)

    for kind, backend in (("csv", "onnxruntime"), ("parquet", "torch")):
        for workers in (0, 2):
            line = Line(f"SIGKILL at random, {kind}, {workers} workers")
            signals(run(kind, workers, backend=backend), times(75), (signal.SIGKILL,), dice, line)
            yield line
    line = Line("SIGKILL in the run and in the one that resumes")
    signals(run("csv", 2), times(50), (signal.SIGKILL,), dice, line, again=1)
    yield line
    for polite in POLITE:
        line = Line(f"{signal.Signals(polite).name} at random")
        signals(run("csv", 2, backend="torch"), times(30), (polite,), dice, line)
        yield line
    line = Line("any of these, from the start of the process on")
    signals(run("csv", 1, real=True), times(40), (*POLITE, signal.SIGKILL), dice, line)
    yield line
    for backend in ("torch", "onnxruntime"):
        line = Line(f"SIGKILL to a worker, {backend}")
        dead_workers(run("csv", 2, backend=backend), times(50), dice, line)
        yield line
    for kind in ("csv", "parquet"):
        for what, name in (("kill", "SIGKILL"), ("full", "ENOSPC"), ("broken", "EIO")):
            line = Line(f"{name} at the Nth write, fsync, ..., {kind}")
            calls(
                replace(run(kind, 0), folder=few), what, line, max_calls=1000 if scale >= 1 else 3
            )
            yield line
    if os.geteuid() == 0 and scale >= 1:
        line = Line("tmpfs of 20 sizes, all too small")
        full_disks(folder / "disks", [4096 * (2 + number) for number in range(20)], line)
        yield line
    line = Line("damaged images, of seven formats")
    mutated_images(folder / "damaged", times(100_000), dice, line)
    yield line
    line = Line("SIGKILL with 0 to 100,000 files" if scale >= 1 else "SIGKILL with 0 to 65 files")
    counts(folder, [0, 1, 63, 64, 65, *([10_000, 100_000] if scale >= 1 else [])], line)
    yield line


def main() -> None:
    """Run the campaign and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="an empty folder to work in")
    parser.add_argument("--scale", type=float, default=1.0, help="1 is the long form")
    parser.add_argument("--images", type=int, default=2000, help="how many in a folder")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.folder.mkdir(exist_ok=True)
    totals: Counter[str] = Counter()
    good = True
    columns = ("injected", "fired", "resumed", "wrong", "lost", "left")
    print(f"{'fault':50}", *(f"{name:>8}" for name in columns), flush=True)
    for line in campaign(arguments.folder, arguments.scale, arguments.seed, arguments.images):
        values = {name: getattr(line, name) for name in columns}
        totals.update(values)
        good = good and line.good
        print(f"{line.name:50}", *(f"{value:8}" for value in values.values()), flush=True)
        for complaint in line.complaints:
            print("   ", complaint, flush=True)
    print(f"{'all':50}", *(f"{totals[name]:8}" for name in columns))
    sys.exit(not good)


if __name__ == "__main__":
    main()
