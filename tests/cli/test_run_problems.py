"""Each problem is one line and an exit code, and loses no report."""

import gzip
import json
import os
import pickle
import resource
import signal
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet
import pytest
import torch
from typer.testing import CliRunner

import batchdigit
from tests.support.platforms import needs_linux
from tests.support.programs import WRONG_USAGE, app, problem
from tests.support.reports import FORMATS, OLD, read_back
from tests.support.samples import Program

runner = CliRunner()


def odd_models(folder: Path) -> Iterator[Path]:
    """A model of each kind that is refused, or not there at all."""
    good = batchdigit.CNN().state_dict()
    content: dict[str, object] = {
        "other": torch.nn.Linear(2, 2).state_dict(),
        "other-whole": torch.nn.Sequential(torch.nn.Linear(2, 2)),
        "list": [torch.zeros(1)],
        "nan": good | {"fc.4.bias": torch.full((10,), torch.nan)},
        "trillion": good | {"fc.4.bias": torch.zeros(1).expand(10**12)},
        "shape": good | {"fc.4.bias": torch.zeros(11)},
        "classes": batchdigit.CNN(1001).state_dict(),
        "function": {"weights": good, "decode": os.getcwd},
    }
    for name, value in content.items():
        torch.save(value, folder / f"{name}.pt")
        yield folder / f"{name}.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        torch.jit.script(batchdigit.CNN()).save(folder / "script.pt")
    yield folder / "script.pt"
    program = torch.export.export(batchdigit.CNN().eval(), (torch.rand(2, 1, 28, 28),))
    torch.export.save(program, folder / "exported.pt2")
    yield folder / "exported.pt2"
    whole = (folder / "nan.pt").read_bytes()
    data = {
        "empty": b"",
        "text": b"hello",
        "cut": whole[:-1000],
        "flipped": whole[:5_000_000] + bytes([whole[5_000_000] ^ 1]) + whole[5_000_001:],
        "pickle": pickle.dumps(good),
        "header": b"\x20\0\0\0\0\0\0\0" + b'{"a":{"dtype":"F32","shape":[9]}}',
    }
    for name, content_bytes in data.items():
        (folder / f"{name}.pt").write_bytes(content_bytes)
        yield folder / f"{name}.pt"
    with zipfile.ZipFile(folder / "zipped.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}, 2))
    yield folder / "zipped.pt"
    yield folder / "missing.pt"
    yield folder


def test_every_refused_model_is_65_and_one_line_with_the_remedy(
    tmp_path: Path, digits: Path
) -> None:
    out = tmp_path / "preds.csv"
    out.write_text(OLD)
    (tmp_path / "models").mkdir()
    for path in odd_models(tmp_path / "models"):
        done = runner.invoke(app, ["run", str(digits), "--model", str(path), "--out", str(out)])
        assert done.exit_code == 65, (path, done.stderr)
        (line,) = done.stderr.splitlines()
        assert line.startswith("batchdigit: ")
        assert str(path) in line
        assert "; " in line  # what to do about it
        assert "weights_only" not in line
        assert done.stdout == ""
        assert out.read_text() == OLD
    assert sorted(path.name for path in tmp_path.iterdir()) == ["digits", "models", "preds.csv"]


class TestBadInput:
    def test_missing_source(self, program: Program) -> None:
        assert "missing" in problem(program("run", "missing", "--out", "out.csv"), 66)

    def test_empty_source(self, program: Program, tmp_path: Path) -> None:
        (tmp_path / "in").mkdir()
        assert "no images in in" in problem(program("run", "in", "--out", "out.csv"), 66)
        assert os.listdir(tmp_path) == ["in"]

    @pytest.mark.parametrize("extension", FORMATS)
    def test_empty_source_that_is_allowed_is_a_report_without_rows(
        self, tmp_path: Path, extension: str
    ) -> None:
        (tmp_path / "in").mkdir()
        out = tmp_path / f"out.{extension}"
        arguments = ["run", str(tmp_path / "in"), "--out", str(out), "--allow-empty", "--quiet"]
        for more in ([], ["--update"]):
            done = runner.invoke(app, [*arguments, *more])
            assert (done.exit_code, done.output) == (0, "")
        assert read_back(extension, out.read_bytes()) == []
        if extension == "parquet":
            names = pyarrow.parquet.read_schema(out).names
        elif extension.startswith("jsonl"):
            names = []  # it has no header
        else:
            data = gzip.decompress(out.read_bytes()) if out.suffix == ".gz" else out.read_bytes()
            names = data.decode().rstrip("\n").split("\t" if "tsv" in extension else ",")
        assert names[:2] == ([] if extension.startswith("jsonl") else ["filename", "prediction"])
        assert json.loads(Path(f"{out}.run.json").read_text())["found"] == 0

    def test_only_an_empty_source_is_allowed_and_not_a_missing_one(
        self, program: Program, digits: Path, tmp_path: Path
    ) -> None:
        problem(program("run", "missing", "--allow-empty", "--out", "out.csv"), 66)
        update = ("run", digits, "--out", "out.csv", "--update", "--allow-empty", "--quiet")
        assert program(*update).returncode == 0
        report = (tmp_path / "out.csv").read_bytes()
        for path in digits.iterdir():
            path.unlink()
        assert "10 of the 10 files" in problem(program(*update), 74)
        assert (tmp_path / "out.csv").read_bytes() == report
        assert program(*update, "--max-gone", "10").returncode == 0
        assert (tmp_path / "out.csv").read_bytes().count(b"\n") == 1

    @pytest.mark.parametrize("kind", ["empty", "missing"])
    def test_share_that_is_not_mounted_costs_no_row(
        self, program: Program, digits: Path, tmp_path: Path, kind: str
    ) -> None:
        update = ("run", digits, "--out", "out.csv", "--update", "--quiet")
        assert program(*update).returncode == 0
        report = (tmp_path / "out.csv").read_bytes()
        digits.rename(tmp_path / "elsewhere")
        if kind == "empty":
            digits.mkdir()
        problem(program(*update), 66)
        assert (tmp_path / "out.csv").read_bytes() == report

    def test_share_that_is_half_mounted_costs_no_row(
        self, program: Program, digits: Path, tmp_path: Path
    ) -> None:
        for number in range(7):
            (digits / "b").mkdir(exist_ok=True)
            (digits / f"{number:02}.png").rename(digits / "b" / f"{number}.png")
        update = ("run", digits, "--out", "out.csv", "--update", "--quiet")
        assert program(*update).returncode == 0
        report = (tmp_path / "out.csv").read_bytes()
        (digits / "b").rename(tmp_path / "elsewhere")
        line = problem(program(*update), 74)
        assert "7 of the 10 files" in line
        assert "--max-gone 100%" in line
        assert (tmp_path / "out.csv").read_bytes() == report
        assert program(*update, "--max-gone", "70%").returncode == 0
        assert (tmp_path / "out.csv").read_bytes().count(b"\n") == 4

    @pytest.mark.parametrize("log_format", ["json", "text", "xml"])
    def test_format_of_a_log_without_a_log(
        self, program: Program, digits: Path, tmp_path: Path, log_format: str
    ) -> None:
        done = program("run", digits, "--out", "out.csv", "--log-format", log_format)
        assert "--log-file FILE" in problem(done, 2)
        assert not (tmp_path / "out.csv").exists()

    def test_missing_model(self, program: Program, digits: Path) -> None:
        line = problem(program("run", digits, "--out", "out.csv", "--model", "CNN.pt"), 65)
        assert "CNN.pt" in line

    def test_missing_output_folder(self, program: Program, digits: Path) -> None:
        assert "missing/out.csv" in problem(program("run", digits, "-o", "missing/out.csv"), 73)

    def test_output_that_is_no_file(self, program: Program, digits: Path) -> None:
        line = problem(program("run", digits, "-o", "/dev/null", "--format", "csv"), 73)
        assert "/dev/null" in line
        assert not Path("/dev/null").is_file()

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
    def test_missing_device(self, program: Program, digits: Path) -> None:
        assert "cuda" in problem(program("run", digits, "--device", "cuda"), 1)

    @pytest.mark.parametrize("arguments", [*WRONG_USAGE, ["--topk", "11"]], ids=" ".join)
    def test_wrong_usage(self, program: Program, digits: Path, arguments: list[str]) -> None:
        problem(program("run", digits, *arguments), 2)

    def test_unknown_option(self, program: Program, digits: Path) -> None:
        done = program("run", digits, "--nonsense")
        assert done.returncode == 2
        assert "--nonsense" in done.stderr

    def test_full_disk_keeps_the_old_report(
        self, program: Program, digits: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "out.csv").write_text(OLD)

        def limit() -> None:
            # The kernel then refuses to let any file grow beyond 200 bytes, as a quota does.
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))

        done = program("run", digits, "--out", "out.csv", preexec_fn=limit)
        assert "cannot write out.csv: File too large" in problem(done, 73)
        assert (tmp_path / "out.csv").read_text() == OLD
        assert sorted(os.listdir(tmp_path)) == ["digits", "out.csv"]
        assert program("run", digits, "--out", "out.csv").returncode == 0

    @needs_linux("/dev/full")
    def test_full_disk_of_the_log_costs_no_report(
        self, program: Program, digits: Path, tmp_path: Path
    ) -> None:
        done = program("run", digits, "--out", "out.csv", "--log-file", "/dev/full", "--quiet")
        assert done.returncode == 0
        (line,) = done.stderr.splitlines()
        assert "cannot write the log /dev/full" in line
        assert len((tmp_path / "out.csv").read_text().splitlines()) == 11

    @needs_linux("/dev/full")
    def test_full_standard_output(self, program: Program, digits: Path) -> None:
        with open("/dev/full", "w") as full:
            done = program("run", digits, capture_output=False, stdout=full, stderr=subprocess.PIPE)
        assert done.returncode == 73
        assert done.stderr.splitlines()[-1].startswith("batchdigit: cannot write standard output")
        assert "Traceback" not in done.stderr

    @needs_linux("/dev/full")
    def test_full_standard_output_for_the_outcome(
        self, program: Program, digits: Path, tmp_path: Path
    ) -> None:
        with open("/dev/full", "w") as full:
            done = program(
                *("run", digits, "-o", "out.csv", "--json", "-q"),
                capture_output=False, stdout=full, stderr=subprocess.PIPE,
            )  # fmt: skip
        assert done.returncode == 73
        assert "the report itself is complete" in done.stderr
        assert len((tmp_path / "out.csv").read_text().splitlines()) == 11


@needs_linux("/dev/full")
@pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&-", "<&- >&- 2>&-", "2>/dev/full"])
def test_closed_streams_do_not_change_the_report(
    program: Program, digits: Path, tmp_path: Path, closed: str
) -> None:
    program("run", digits, "-o", "expected.csv", "-q")
    command = f"{sys.executable} -m batchdigit run {digits} -o out.csv {closed}"
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, check=False)
    assert done.returncode == 0
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "expected.csv").read_bytes()


def test_rows_for_a_closed_standard_output_are_an_error(digits: Path, tmp_path: Path) -> None:
    command = f"{sys.executable} -m batchdigit run {digits} >&-"
    done = subprocess.run(
        ["sh", "-c", command], cwd=tmp_path, check=False, stderr=subprocess.PIPE, text=True
    )
    assert "standard output is closed" in problem(
        subprocess.CompletedProcess(command, done.returncode, "", done.stderr), 73
    )


@needs_linux("/dev/full")
def test_full_standard_output_is_73_whatever_the_format(program: Program, digits: Path) -> None:
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}  # so that the very first byte fails
    for name in ("csv", "parquet", "jsonl"):
        with open("/dev/full", "wb") as full:
            done = program(
                "run", digits, "--format", name, stdout=full, stderr=subprocess.PIPE,
                capture_output=False, env=environment,
            )  # fmt: skip
        done.stdout = ""
        assert "No space left" in problem(done, 73)


@needs_linux("a limit of memory that holds")
@pytest.mark.parametrize(
    ("backend", "megabytes", "what"),
    [("torch", 1024, "PyTorch"), ("onnxruntime", 200, "numpy, Pillow and OpenCV")],
)
def test_missing_memory_for_packages_is_one_line(
    program: Program, digits: Path, backend: str, megabytes: int, what: str
) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))

    arguments = ("run", digits, "-o", "out.csv", "--backend", backend)
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # OpenBLAS would print its failures
    line = problem(program(*arguments, preexec_fn=limit, env=environment), 1)
    assert f"cannot load {what}" in line or "not enough memory" in line


def test_missing_working_folder_is_one_line(program: Program, digits: Path, tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    done = program(
        "run", digits, "-o", tmp_path / "out.csv",
        cwd=tmp_path / "gone", preexec_fn=(tmp_path / "gone").rmdir,
    )  # fmt: skip
    assert "the working folder is gone" in problem(done, 1)


@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0 or sys.executable.startswith("/tmp/"),  # noqa: S108
    reason="mounts file systems over /dev/shm and /tmp, as root",
)
@pytest.mark.parametrize(
    "mount",
    ["mount -t tmpfs -o size=8m tmpfs /dev/shm", "mount -t tmpfs -o ro tmpfs /tmp"],
    ids=["little /dev/shm", "no /tmp"],
)
def test_little_room_for_temporary_files_is_enough(
    program: Program, digits: Path, tmp_path: Path, mount: str
) -> None:
    assert program("run", digits, "-o", "whole.csv").returncode == 0
    command = f"{sys.executable} -m batchdigit run digits -o out.csv -j 2 -b 4"
    script = f"mount --make-rprivate / && mount --bind {tmp_path} /mnt && {mount} && cd /mnt"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", f"{script} && {command}"],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    if "unshare failed" in done.stderr or "permission denied" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_few_descriptors_are_enough(program: Program, digits: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))

    done = program("run", digits, "-o", "out.csv", "-j", "2", preexec_fn=limit)
    assert done.returncode == 0, done.stderr
