"""The program as its user meets it: as a process."""

import csv
import hashlib
import json
import os
import pickle
import resource
import signal
import subprocess
import sys
import time
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import batchdigit
from batchdigit import errors
from batchdigit.cli.app import app
from batchdigit.job import PACKAGED_WEIGHTS
from batchdigit.system.lock import hold_output
from tests.support.samples import SAMPLES, Program
from tests.system.test_lock import HOLD

runner = CliRunner()


def problem(done: subprocess.CompletedProcess[str], code: int) -> str:
    """The one line that says what is wrong."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("batchdigit: ")
    assert "; " in line  # what to do about it
    return line


def test_main_job(program: Program, tmp_path: Path) -> None:
    done = program("run", SAMPLES, "--out", "preds.csv")
    assert done.returncode == 0
    assert done.stdout == ""
    assert "100 images found = 100 predicted + 0 failed" in done.stderr
    with (tmp_path / "preds.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    right = sum(row["prediction"] == row["filename"][-5] for row in rows)
    assert len(rows) == 100
    assert right >= 99


def odd_models(folder: Path) -> Iterator[Path]:
    """One file of each kind that is refused."""
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
    out.write_text("the old report")
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
        assert out.read_text() == "the old report"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["digits", "models", "preds.csv"]


def test_model_option_comes_before_the_environment_and_that_before_the_package(
    program: Program, tmp_path: Path, digits: Path
) -> None:
    for classes in (3, 4):
        torch.save(batchdigit.CNN(classes).state_dict(), tmp_path / f"{classes}.pt")

    def model(*arguments: str, **environment: str) -> dict[str, object]:
        done = program(
            *("run", digits, "--out", "preds.csv", "--json", *arguments),
            env=os.environ | environment,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)["model"]

    # The program runs as it is installed, which need not be where these tests import it from.
    packaged = model()
    assert Path(str(packaged.pop("path"))).parts[-3:] == PACKAGED_WEIGHTS.parts[-3:]
    assert packaged == {
        "sha256": hashlib.sha256(PACKAGED_WEIGHTS.read_bytes()).hexdigest(),
        "kind": "state dict",
        "format": "PyTorch archive",
        "classes": 10,
    }
    assert model(BATCHDIGIT_MODEL="3.pt")["classes"] == 3
    assert model("--model", "4.pt", BATCHDIGIT_MODEL="3.pt")["classes"] == 4


def test_labels_name_the_predictions(program: Program, tmp_path: Path, digits: Path) -> None:
    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    (tmp_path / "labels.txt").write_text("\n".join(names))
    numbers = program("run", digits)
    words = program("run", digits, "--labels", "labels.txt")
    assert words.returncode == 0, words.stderr
    expected = [
        [name, names[int(label)], rest]
        for name, label, rest in (line.split(",", 2) for line in numbers.stdout.splitlines()[1:])
    ]
    assert [line.split(",", 2) for line in words.stdout.splitlines()[1:]] == expected
    (tmp_path / "labels.txt").write_text("\n".join(names[:9]))
    assert "9 labels" in problem(program("run", digits, "--labels", "labels.txt"), 2)
    assert "labels none.txt" in problem(program("run", digits, "--labels", "none.txt"), 2)


def test_installed_command_is_the_module(program: Program) -> None:
    script = Path(sys.executable).parent / "batchdigit"
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == program("--version").stdout == f"batchdigit {batchdigit.__version__}\n"


@pytest.mark.parametrize("command", [["model"], ["model", "inspect"], ["model", "convert"]])
def test_each_command_for_models_has_help(command: list[str]) -> None:
    result = runner.invoke(app, [*command, "--help"])
    assert result.exit_code == 0
    for code in (0, 1, 2, 65, 73):
        assert f"\n    {code} " in result.output
    assert "128+N" in result.output


@pytest.mark.parametrize("command", [[], ["run"], ["train"]])
def test_each_command_has_help(command: list[str]) -> None:
    result = runner.invoke(app, [*command, "--help"])
    assert result.exit_code == 0
    for code in (0, 1, 2, 3, 65, 66, 73):
        assert f"\n    {code} " in result.output
    assert "128+N" in result.output


def test_each_command_and_option_is_explained() -> None:
    import typer

    group = typer.main.get_command(app)
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        assert command.help, name
        for parameter in command.params:
            explained = getattr(parameter, "help", None) or parameter.param_type_name == "argument"
            assert explained, parameter.name


WRONG_USAGE = [
    ["--out", "out.xls"],
    ["--batch-size", "0"],
    ["--batch-size", "many"],
    ["--batch-size", "99999999999999999999"],
    ["--workers", "-1"],
    ["--workers", "x"],
    ["--topk", "0"],
    ["--max-bad", "few"],
    ["--precision", "fp8"],
    ["--preprocess", "magic"],
    ["--review-below", "2"],
    ["--review-below", "nan"],
    ["--format", "xml"],
    ["--device", "tpu"],
    ["--out", "-", "--json"],
    [""],
]


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["run", "--help"], ["run", "--nonsense"]]
    + [["run", "images", *wrong] for wrong in WRONG_USAGE],
    ids=" ".join,
)
def test_help_and_usage_errors_load_nothing_heavy(arguments: list[str]) -> None:
    code = (
        f"import sys; sys.argv = ['batchdigit', *{arguments}]\n"
        "from batchdigit.cli.app import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'pandas', 'torchvision', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_paths_are_judged_by_the_program_not_by_the_parser(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parser would refuse an unreadable path as wrong usage, before anything is tried."""
    (tmp_path / "CNN.pt").write_bytes(PACKAGED_WEIGHTS.read_bytes())
    (tmp_path / "out.csv").write_text("old")
    paths = [digits, digits / "01.png", "--model", tmp_path / "CNN.pt", "-o", tmp_path / "out.csv"]
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    assert runner.invoke(app, ["run", *map(str, paths)]).exit_code == 0


def test_rows_go_to_stdout_and_all_else_to_stderr(program: Program, digits: Path) -> None:
    done = program("run", digits)
    lines = done.stdout.splitlines()
    assert lines[0] == "filename,prediction,confidence,error,margin,needs_review"
    assert len(lines) == 11
    assert "10 images found" in done.stderr


def test_summary_tells_what_to_look_at(program: Program, digits: Path) -> None:
    for path in digits.iterdir():
        Image.fromarray(~np.asarray(Image.open(path))).save(path)
    done = program("run", digits, "--out", "out.csv", "--preprocess", "exact")
    marked = (digits.parent / "out.csv").read_text().count(",true")
    assert marked
    assert f"{marked} predictions to review" in done.stderr
    assert "10 of 10 images in . " in done.stderr
    assert "; try --preprocess auto" in done.stderr


def test_summary_as_json(program: Program, digits: Path) -> None:
    (digits / "01.png").write_bytes(b"damaged")
    (digits / "notes.txt").touch()
    done = program("run", digits, "--out", "out.csv", "--json", "--quiet")
    assert done.returncode == 3
    summary = json.loads(done.stdout)
    assert (summary["found"], summary["predicted"], summary["failed"]) == (10, 9, 1)
    assert summary["ignored"] == 1
    assert summary["exit_code"] == 3
    assert summary["failures_by_stage"] == {"decode": 1}


def test_quiet_says_nothing_when_all_is_well(program: Program, digits: Path) -> None:
    done = program("run", digits, "--out", "out.csv", "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_quiet_says_one_line_when_rows_are_errors(program: Program, digits: Path) -> None:
    (digits / "01.png").write_bytes(b"damaged")
    done = program("run", digits, "--out", "out.csv", "--quiet")
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1
    assert "1 of 10 rows are errors" in done.stderr


def test_verbose_names_ignored_files(program: Program, digits: Path) -> None:
    (digits / "notes.txt").touch()
    done = program("run", digits, "--out", "out.csv", "--verbose")
    assert "ignored: notes.txt" in done.stderr
    assert "settings: " in done.stderr
    assert "seconds: " in done.stderr


def test_options_reach_the_run(program: Program, digits: Path, tmp_path: Path) -> None:
    (digits / "01.png").write_bytes(b"damaged")
    torch.save(batchdigit.CNN().state_dict(), tmp_path / "CNN.pt")
    done = program(
        *("run", digits, "-o", "out.txt", "-m", "CNN.pt", "-b", "3", "-j", "1", "--probs"),
        *("--topk", "2", "--format", "jsonl", "--device", "cpu", "--precision", "bf16"),
        *("--max-bad", "10%", "--follow-symlinks", "--preprocess", "fit", "--explain"),
        *("--review-below", "0.5", "--save-fitted", "fitted"),
    )
    assert done.returncode == 0
    options = json.loads((tmp_path / "out.txt.run.json").read_text())["options"]
    assert options["model"] == "CNN.pt"
    assert (options["batch_size"], options["workers"]) == (3, 1)
    assert (options["topk"], options["probs"], options["precision"]) == (2, True, "bf16")
    assert options["follow_symlinks"] is True
    assert (options["preprocess"], options["review_below"]) == ("fit", 0.5)
    assert len(os.listdir(tmp_path / "fitted")) == 9
    row = json.loads((tmp_path / "out.txt").read_text().splitlines()[0])
    assert list(row)[-3:] == ["polarity", "fitted", "ink"]
    assert list(row)[6:9] == ["prediction_2", "confidence_2", "prob_0"]


class TestBadInput:
    def test_missing_source(self, program: Program) -> None:
        assert "missing" in problem(program("run", "missing", "--out", "out.csv"), 66)

    def test_empty_source(self, program: Program, tmp_path: Path) -> None:
        (tmp_path / "in").mkdir()
        assert "no images in in" in problem(program("run", "in", "--out", "out.csv"), 66)
        assert os.listdir(tmp_path) == ["in"]

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
        (tmp_path / "out.csv").write_text("old")

        def limit() -> None:
            # The kernel then refuses to let any file grow beyond 200 bytes, as a quota does.
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))

        done = program("run", digits, "--out", "out.csv", preexec_fn=limit)
        assert "cannot write out.csv: File too large" in problem(done, 73)
        assert (tmp_path / "out.csv").read_text() == "old"
        assert sorted(os.listdir(tmp_path)) == ["digits", "out.csv"]
        assert program("run", digits, "--out", "out.csv").returncode == 0

    def test_full_standard_output(self, program: Program, digits: Path) -> None:
        with open("/dev/full", "w") as full:
            done = program("run", digits, capture_output=False, stdout=full, stderr=subprocess.PIPE)
        assert done.returncode == 73
        assert done.stderr.splitlines()[-1].startswith("batchdigit: cannot write standard output")
        assert "Traceback" not in done.stderr

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


def test_reader_that_has_seen_enough_ends_the_run_quietly(digits: Path, tmp_path: Path) -> None:
    for number in range(20_000):
        os.link(digits / "00.png", digits / f"more-{number}.png")
    command = f"{sys.executable} -m batchdigit run {digits} -q; echo $? > {tmp_path / 'code'}"
    done = subprocess.run(
        ["sh", "-c", f"({command}) | head -2"], capture_output=True, text=True, check=True
    )
    assert len(done.stdout.splitlines()) == 2
    assert done.stderr == ""
    assert (tmp_path / "code").read_text() == "141\n"


# A run that closes a part of its journal after each batch, for else a fast machine has none by the
# time that it is done.
HASTY = """
from batchdigit.resume import journal
from batchdigit.cli.app import main

journal.SECONDS_IN_A_PART = journal.SHARE_IN_A_PART = 0.0
main()
"""


def heed_every_signal() -> None:
    """Whatever started the tests (nohup, a shell's &) may have had signals ignored."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


@pytest.fixture
def slow_run(digits: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A run that takes long, caught in the middle of its work."""
    for number in range(8_000):
        os.link(digits / "00.png", digits / f"more-{number}.png")
    (tmp_path / "out.csv").write_text("old")
    process = subprocess.Popen(
        [sys.executable, "-c", HASTY, "run", digits, "-o", "out.csv", "-b", "1", "-j", "1"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True, preexec_fn=heed_every_signal,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not any(tmp_path.glob(".out.csv.journal/*/*.part")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    yield process
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signal_stops_the_run_and_keeps_the_old_report(
    slow_run: subprocess.Popen[str], tmp_path: Path, name: str
) -> None:
    number = getattr(signal, name)
    os.killpg(slow_run.pid, number)  # as a terminal does: workers get it too
    stdout, stderr = slow_run.communicate(timeout=60)
    assert slow_run.returncode == 128 + number, stderr
    assert stdout == ""
    assert stderr == (
        f"batchdigit: stopped by {name}; out.csv is as it was; "
        "the same command continues from here\n"
    )
    assert (tmp_path / "out.csv").read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == [".out.csv.journal", "digits", "out.csv"]
    with pytest.raises(ProcessLookupError):  # no worker is left in the session
        os.killpg(slow_run.pid, 0)


def test_exit_codes_in_the_help_are_those_of_the_errors() -> None:
    help_text = runner.invoke(app, ["run", "--help"]).output
    for code, meaning in errors.EXIT_CODE_MEANINGS.items():
        assert f"{code:<6} {meaning}" in help_text


def test_second_run_is_75_or_waits_for_the_first(
    program: Program, digits: Path, tmp_path: Path
) -> None:
    hold = [sys.executable, "-c", HOLD, tmp_path / "out.csv"]
    with subprocess.Popen(hold, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        line = problem(program("run", digits, "-o", "out.csv"), 75)
        assert f"process {first.pid}" in line
        assert "--wait" in line
        second = subprocess.Popen(
            [sys.executable, "-m", "batchdigit", "run", digits, "-o", "out.csv", "--wait", "600"],
            cwd=tmp_path, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert second.stderr is not None
        waiting = f"waiting for another run that writes out.csv (process {first.pid})\n"
        assert second.stderr.readline() == waiting
        first.kill()
    _, stderr = second.communicate(timeout=120)
    assert second.returncode == 0, stderr
    assert "10 predicted" in stderr


@pytest.mark.parametrize(
    "options",
    [
        ("--metrics", "out.csv"),
        ("--log-file", "./out.csv"),
        ("--log-file", "side", "--metrics", "link"),
    ],
)
def test_log_and_metrics_are_files_of_their_own(
    program: Program, digits: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    (tmp_path / "out.csv").write_text("old")
    (tmp_path / "link").symlink_to("side")
    line = problem(program("run", digits, "-o", "out.csv", *options), 2)
    assert "name one file" in line
    assert (tmp_path / "out.csv").read_text() == "old"
    assert not (tmp_path / "side").exists()


def test_busy_output_is_found_before_anything_is_loaded(digits: Path, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from batchdigit.cli.app import main\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        "    sys.stderr.write(str('torch' in sys.modules))\n"
    )
    with hold_output(tmp_path / "out.csv"):
        done = subprocess.run(
            [sys.executable, "-c", code, "run", digits, "-o", "out.csv"],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 75
    assert done.stderr.endswith("False")


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
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # it is not silent about failures
    line = problem(program(*arguments, preexec_fn=limit, env=environment), 1)
    assert f"cannot load {what}" in line or "not enough memory" in line


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["run", "--help"]])
def test_help_to_a_full_disk_is_one_line(program: Program, arguments: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        done = program(*arguments, stdout=full, stderr=subprocess.PIPE, capture_output=False)
    done.stdout = ""
    assert "No space left" in problem(done, 73)


def test_missing_working_folder_is_one_line(program: Program, digits: Path, tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    done = program(
        "run", digits, "-o", tmp_path / "out.csv",
        cwd=tmp_path / "gone", preexec_fn=(tmp_path / "gone").rmdir,
    )  # fmt: skip
    assert "the working folder is gone" in problem(done, 1)


def test_full_standard_output_is_73_whatever_the_format(program: Program, digits: Path) -> None:
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}  # which lets the first byte fail
    for name in ("csv", "parquet", "jsonl"):
        with open("/dev/full", "wb") as full:
            done = program(
                "run", digits, "--format", name, stdout=full, stderr=subprocess.PIPE,
                capture_output=False, env=environment,
            )  # fmt: skip
        done.stdout = ""
        assert "No space left" in problem(done, 73)


# The same, killed when it has closed its fifth part.
DOOMED = """
import os, signal
from batchdigit.resume import journal

flush = journal.Journal.flush

def flush_and_die(self):
    flush(self)
    if self._parts == 5:
        os.kill(os.getpid(), signal.SIGKILL)

journal.Journal.flush = flush_and_die
"""


@pytest.mark.parametrize("extension", ["csv", "jsonl"])
def test_killed_run_goes_on_and_gives_the_same_bytes(
    program: Program, digits: Path, tmp_path: Path, extension: str
) -> None:
    for number in range(300):
        os.link(digits / f"{number % 10:02}.png", digits / f"more-{number:04}.png")
    arguments = ("run", digits, "-b", "16", "--out")
    program(*arguments, f"whole.{extension}")
    out = f"out.{extension}"
    killed = subprocess.run(
        [sys.executable, "-c", DOOMED + HASTY, *arguments, out], cwd=tmp_path, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / out).exists()
    done = program(*arguments, out)
    assert done.returncode == 0
    assert "continuing where an earlier run stopped: 80 of 310 images were done" in done.stderr
    assert (tmp_path / out).read_bytes() == (tmp_path / f"whole.{extension}").read_bytes()
    assert not (tmp_path / f".{out}.journal").exists()


def test_quiet_run_says_one_line_when_something_is_wrong(program: Program, digits: Path) -> None:
    done = program("run", digits, "-o", "out.csv", "--quiet", "--update")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    (digits / "05.png").write_bytes(b"damaged")
    done = program("run", digits, "-o", "out.csv", "--quiet", "--update")
    assert "1 of 10 rows are errors" in problem(done, 3)


def test_log_and_metrics_tell_of_every_run(program: Program, digits: Path, tmp_path: Path) -> None:
    arguments = ("run", digits, "-o", "out.csv", "-q", "--metrics", "run.prom",
                 "--log-file", "run.log", "--log-format", "json")  # fmt: skip
    assert program(*arguments).returncode == 0
    assert program(*arguments, "--update").returncode == 0
    assert program(*arguments, "--model", "missing.pt").returncode == 65
    records = [json.loads(line) for line in (tmp_path / "run.log").read_text().splitlines()]
    summaries = [record["summary"] for record in records if "summary" in record]
    assert [summary["reused"] for summary in summaries] == [0, 10]
    assert records[-1]["level"] == "error"
    assert records[-1]["exit_code"] == 65
    assert (
        'exit_code{report="' + str(tmp_path / "out.csv") + '"} 65.0'
        in (tmp_path / "run.prom").read_text()
    )


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
