"""That ``batchdigit doctor`` finds nothing wrong here, and what is made wrong on purpose."""

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image, WebPImagePlugin

import batchdigit
from batchdigit import Job
from batchdigit.doctor import checking, examination, gpus, packages
from batchdigit.doctor.examination import CHECKS, examine
from batchdigit.doctor.findings import (
    OK,
    PROBLEM,
    WARNING,
    Finding,
    finding_line,
    findings_json,
    ok,
    problem,
    summary_lines,
    warning,
)
from batchdigit.job import PACKAGED_WEIGHTS
from batchdigit.sources import find
from batchdigit.sources.filelist import FileList
from batchdigit.sources.find import Listing
from batchdigit.system import machine
from batchdigit.system.lock import hold_output
from tests.support.samples import REPOSITORY, SAMPLES, Program


@pytest.fixture(autouse=True)
def _no_settings_of_who_runs_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "BATCHDIGIT_MODEL", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)


def examined(program: Program, *arguments: str | Path, **options: Any) -> tuple[int, list[Finding]]:
    """The exit code and the findings of the command, from its JSON."""
    done = program("doctor", "--json", *arguments, **options)
    assert done.stderr == ""
    return done.returncode, [Finding(**check) for check in json.loads(done.stdout)["checks"]]


def without_gpu(folder: Path, *arguments: str, **modules: str) -> tuple[int, list[Finding]]:
    """The same on a machine without a GPU, where importing one of ``modules`` runs its code."""
    (folder / "broken").mkdir(exist_ok=True)
    for name, code in modules.items():
        (folder / "broken" / f"{name}.py").write_text(code)
    program = (
        "import pathlib\n"
        "from batchdigit.cli import app as cli\n"
        "from batchdigit.system import machine\n"
        "machine.GPU_DEVICES = (pathlib.Path('none'),)\n"
        "cli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "doctor", "--json", *arguments],
        cwd=folder, capture_output=True, text=True, check=False,
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join([str(folder / "broken"), str(REPOSITORY)])},
    )  # fmt: skip
    assert done.stderr == ""
    return done.returncode, [Finding(**check) for check in json.loads(done.stdout)["checks"]]


def worse(findings: list[Finding]) -> dict[str, Finding]:
    """All that is not well; of each check the last one."""
    return {finding.name: finding for finding in findings if finding.status != OK}


def check(name: str, **options: Any) -> list[Finding]:
    """What one check finds in this process."""
    return checking.findings_of(name, CHECKS[name], Job((SAMPLES,), **options), {})


def test_all_is_well_here_and_nothing_stays_behind(
    program: Program, digits: Path, tmp_path: Path
) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    done = program("doctor", digits, "-o", "preds.csv", env=os.environ | {"TMPDIR": str(temporary)})
    assert (done.returncode, done.stderr) == (0, "")
    *lines, summary = done.stdout.splitlines()
    assert summary.startswith("no problems")
    statuses = {line[9:24].strip(): line[:9].strip() for line in lines}
    assert set(statuses) >= set(CHECKS)
    for name in ("python", "packages", "onnxruntime", "torch", "decoder", "model", "output"):
        assert statuses[name] == "ok", done.stdout
    assert "10 of 10 packaged digits right" in lines[-2]
    assert next(line for line in lines if " source " in line).endswith("10 images, 0 other files")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["digits", "tmp"]
    assert not any(temporary.glob("batchdigit-*"))  # ONNX Runtime leaves a file of its own


def test_json_holds_the_same_findings_as_the_text(program: Program) -> None:
    text = program("doctor", "--model", "none.pt")
    data = program("doctor", "--model", "none.pt", "--json")
    assert text.returncode == data.returncode == 1
    found = json.loads(data.stdout)
    assert set(found) == {"checks", "problems", "warnings"}
    *lines, summary = text.stdout.splitlines()
    assert [line[:24].rstrip() for line in lines] == [
        f"{check['status']:<9}{check['name']}" for check in found["checks"]
    ]
    problems = [check for check in found["checks"] if check["status"] == "problem"]
    assert [check["name"] for check in problems] == ["model"]
    assert found["problems"] == 1
    assert summary == f"1 problem, {found['warnings']} warning" + "s" * (found["warnings"] != 1)
    for finding in found["checks"]:
        assert bool(finding["remedy"]) == (finding["status"] != "ok")


def test_source_is_looked_at_only_where_one_is_given(program: Program) -> None:
    _, findings = examined(program)
    assert "source" not in {finding.name for finding in findings}


def odd_models(folder: Path) -> Iterator[tuple[Path, str, str]]:
    """Files that are no good, by which check that shows, and what it says."""
    good = batchdigit.CNN().state_dict()
    contents = {
        "nan": (good | {"fc.4.bias": torch.full((10,), torch.nan)}, "model", "not finite"),
        "other": (torch.nn.Linear(2, 2).state_dict(), "model", "does not fit"),
        "huge": (
            good
            | {
                "fc.0.bias": torch.full((1024,), 3e38),
                "fc.2.weight": torch.full((128, 1024), 3e38),
            },
            *("trial", "not finite"),
        ),
    }
    for name, (state, place, text) in contents.items():
        torch.save(state, folder / f"{name}.pt")
        yield folder / f"{name}.pt", place, text
    yield folder / "missing.pt", "model", "No such file"


def test_model_that_a_run_would_refuse(tmp_path: Path) -> None:
    for path, place, text in odd_models(tmp_path):
        (finding,) = check(place, model=path, device="cpu")
        assert finding.status == PROBLEM, path
        assert text in finding.found


def test_model_that_the_environment_names_is_damaged(program: Program, tmp_path: Path) -> None:
    (tmp_path / "cut.pt").write_bytes(PACKAGED_WEIGHTS.read_bytes()[:100_000])
    code, findings = examined(program, env=os.environ | {"BATCHDIGIT_MODEL": "cut.pt"})
    assert code == 1
    faults = worse(findings)
    assert faults["model"].status == PROBLEM
    assert faults["model"].found.startswith(
        "cut.pt ($BATCHDIGIT_MODEL): the model cut.pt is damaged"
    )
    assert faults["trial"].status == WARNING  # nothing to try it with
    assert faults["trial"].remedy == "see to model first"


def test_model_of_ones_own_is_said_to_predict_not_to_be_right(
    program: Program, tmp_path: Path
) -> None:
    torch.save(batchdigit.CNN(3), tmp_path / "three.pt")
    code, findings = examined(program, "-m", "three.pt")
    assert code == 0
    found = {finding.name: finding.found for finding in findings}
    assert found["model"].startswith("three.pt: whole model")
    assert "3 classes" in found["model"]
    assert found["trial"].startswith("10 of 10 packaged digits predicted by ")


@pytest.mark.parametrize(
    ("out", "text"),
    [
        ("nowhere/preds.csv", "No such file or directory"),
        ("plain/preds.csv", "Not a directory"),
        ("folder.csv", "not a regular file"),
        ("/proc/preds.csv", "cannot write /proc/preds.csv"),
    ],
)
def test_report_that_cannot_be_written(tmp_path: Path, out: str, text: str) -> None:
    (tmp_path / "plain").touch()
    (tmp_path / "folder.csv").mkdir()
    (finding,) = check("output", out=tmp_path / out)
    assert finding.status == PROBLEM
    assert text in finding.found
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.csv", "plain"]


def test_folder_of_the_report_that_is_missing(program: Program, tmp_path: Path) -> None:
    code, findings = examined(program, "--out", "nowhere/preds.csv")
    assert code == 1
    assert worse(findings)["output"].remedy == "create its folder first"
    assert not any(tmp_path.iterdir())


def test_report_that_another_run_writes(tmp_path: Path) -> None:
    out = tmp_path / "preds.csv"
    out.write_text("the old report")
    with hold_output(out):
        (finding,) = check("output", out=out)
    assert finding.status == WARNING
    assert "being written by another run" in finding.found
    (finding,) = check("output", out=out)
    assert finding.status == OK
    assert out.read_text() == "the old report"
    assert list(tmp_path.iterdir()) == [out]


def test_folder_that_fills_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=5 << 20))
    (finding,) = check("output", out=tmp_path / "preds.csv")
    assert finding.status == WARNING
    assert "5.0 MB free" in finding.found


def test_working_folder_matters_less_than_the_folder_of_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("batchdigit.system.publish.os.replace", refuse)
    (finding,) = check("output")
    assert finding.status == WARNING
    (finding,) = check("output", out=tmp_path / "preds.csv")
    assert finding.status == PROBLEM
    assert "Permission denied" in finding.found
    assert not any(tmp_path.iterdir())


def test_few_open_files(program: Program) -> None:
    def lower() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))

    code, findings = examined(program, preexec_fn=lower)
    assert code == 0
    finding = worse(findings)["limits"]
    assert (finding.status, finding.found[:18]) == (WARNING, "only 64 open files")
    assert "ulimit -n" in finding.remedy


def test_more_threads_than_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    for threads, status in (("99999", WARNING), ("many", WARNING), ("1", OK)):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        (finding,) = check("processor")
        assert finding.status == status
        assert f"OMP_NUM_THREADS={threads}" in finding.found


def test_onnx_runtime_that_is_broken(tmp_path: Path) -> None:
    broken = "raise RuntimeError('no luck')"
    code, findings = without_gpu(tmp_path, onnxruntime=broken)
    assert code == 0
    faults = worse(findings)
    assert faults["onnxruntime"].status == faults["backend"].status == WARNING
    assert "no luck" in faults["onnxruntime"].found
    assert "PyTorch computes instead" in faults["backend"].found
    assert "right by torch" in findings[-2].found

    batchdigit.convert_model(PACKAGED_WEIGHTS, tmp_path / "CNN.onnx")
    code, findings = without_gpu(tmp_path, "-m", "CNN.onnx", onnxruntime=broken)
    assert code == 1
    assert worse(findings)["onnxruntime"].status == worse(findings)["backend"].status == PROBLEM


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("raise ModuleNotFoundError('no luck', name='torch')", "no luck"),
        ("import os; os.kill(os.getpid(), 4)", "ended with SIGILL"),
    ],
)
def test_torch_that_is_broken(tmp_path: Path, code: str, text: str) -> None:
    returned, findings = without_gpu(tmp_path, torch=code)
    assert returned == 0
    assert worse(findings)["torch"].status == WARNING
    assert text in worse(findings)["torch"].found
    assert "right by onnxruntime" in findings[-2].found

    returned, findings = without_gpu(tmp_path, torch=code, onnxruntime="raise ImportError")
    assert returned == 1
    assert worse(findings)["backend"].status == PROBLEM
    assert "no digits were predicted" in worse(findings)["trial"].found


def test_package_that_cannot_be_loaded(tmp_path: Path) -> None:
    code, findings = without_gpu(tmp_path, cv2="raise ImportError('libGL.so.1')")
    assert code == 1
    faults = [finding for finding in findings if finding.name == "packages"]
    assert [fault.status for fault in faults] == [PROBLEM]
    assert "cannot load opencv-python-headless: libGL.so.1" in faults[0].found
    assert findings[-1].name == "output"  # all were tried


def test_package_that_only_some_runs_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (finding,) = check("packages")
    assert (finding.status, "Parquet" in finding.found) == (WARNING, True)
    (finding,) = check("packages", out=Path("preds.parquet"))
    assert finding.status == PROBLEM


def test_packages_that_are_too_old_or_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"numpy": "1.9.3", "pandas": "2.10", "torch": "2.10.0+cpu", "torchvision": "0.25.0"}
    needed = {
        "batchdigit": ["numpy>=1.26", "pandas>=2.2", "onnx>=1.18; extra == 'test'"],
        "torchvision": ["torch==2.10.0"],
    }

    def version(name: str) -> str:
        if name not in versions:
            raise packages.metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(packages.metadata, "version", version)
    monkeypatch.setattr(packages.metadata, "requires", needed.get)
    assert packages.declared_floors() == {"numpy": "1.26", "pandas": "2.2"}
    old, apart = check("packages")
    assert old.status == apart.status == WARNING
    assert old.found.startswith("numpy 1.9.3 is older than 1.26")
    assert old.remedy == "pip install 'numpy>=1.26'"
    assert apart.found.startswith("torchvision 0.25.0 does not fit torch 2.10.0+cpu")

    versions |= {"numpy": "1.26", "torch": "2.10.0"}
    assert [finding.status for finding in check("packages")] == [OK]
    versions["torch"] = "2.11.0"
    (apart,) = check("packages")
    assert "does not fit torch 2.11.0" in apart.found
    del versions["torchvision"]
    (missing,) = check("packages")
    assert missing.found.startswith("torchvision is not installed")


def test_python_that_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages.metadata, "metadata", lambda _: {"Requires-Python": ">=3.99"})
    (finding,) = check("python")
    assert (finding.status, "3.99" in finding.remedy) == (PROBLEM, True)


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The control group of this process, of version 2, on a machine of 8 cores and 64 GB."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(4)))
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(machine, "CGROUPS", tmp_path / "groups")
    monkeypatch.setattr(machine, "OWN_CGROUPS", tmp_path / "own")
    monkeypatch.setattr(machine, "MEMINFO", tmp_path / "meminfo")
    (tmp_path / "meminfo").write_text("MemTotal: 67108864 kB\nMemAvailable: 50331648 kB\n")
    (tmp_path / "own").write_text("0::/inner\n")
    (tmp_path / "groups" / "inner").mkdir(parents=True)
    return tmp_path / "groups" / "inner"


def test_cores_of_a_container(groups: Path) -> None:
    (groups / "cpu.max").write_text("250000 100000\n")
    (finding,) = check("processor")
    assert finding.status == OK
    assert finding.found.startswith(
        "3 of 8 cores may be used, affinity allows for 4, a quota for 2.5; "
    )


def test_memory_of_a_container(groups: Path) -> None:
    (finding,) = check("memory")
    assert (finding.status, finding.found) == (OK, "48.0 GB may be used")
    (groups / "memory.max").write_text(f"{2 << 30}\n")
    (groups / "memory.current").write_text(f"{1900 << 20}\n")
    (groups / "memory.stat").write_text(f"anon 1\ninactive_file {100 << 20}\n")
    (finding,) = check("memory")
    assert finding.status == WARNING
    assert finding.found.startswith("248.0 MB may be used")


def test_shared_memory_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("multiprocessing.synchronize.SemLock.__init__", refuse)
    (finding,) = check("shared memory")
    assert finding.status == WARNING
    assert "Permission denied" in finding.found


def test_pillow_that_cannot_do_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    Image.init()
    monkeypatch.setattr(WebPImagePlugin, "SUPPORTED", False)
    monkeypatch.delitem(Image.SAVE, "WEBP")
    (finding,) = check("decoder")
    assert finding.status == WARNING
    assert finding.found.startswith("cannot read WEBP: ")
    monkeypatch.setattr("batchdigit.images.decode.check_png", lambda _data: 1 / 0)
    png, webp = check("decoder")
    assert (png.status, webp.status) == (PROBLEM, WARNING)
    assert png.found.startswith("cannot read PNG: ")


def test_cache_matters_with_a_gpu_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "GPU_DEVICES", (tmp_path / "nvidiactl",))
    (tmp_path / "plain").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "plain"))
    (finding,) = check("cache")
    assert (finding.status, "cannot be written" in finding.found) == (OK, True)
    (tmp_path / "nvidiactl").touch()
    (finding,) = check("cache")
    assert (finding.status, "is not a folder" in finding.found) == (WARNING, True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "new"))
    (finding,) = check("cache")
    assert (finding.status, finding.found[-14:]) == (OK, "can be written")
    assert not (tmp_path / "new").exists()


def test_source_without_images(program: Program, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    code, findings = examined(program, ".")
    assert code == 1
    assert worse(findings)["source"].status == PROBLEM
    assert worse(findings)["source"].found == "no images in . (1 other files)"
    (missing,) = checking.findings_of("source", CHECKS["source"], Job((tmp_path / "none",)), {})
    assert missing.status == PROBLEM
    assert "No such file or directory" in missing.found


def test_source_that_cannot_be_read_all(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (digits / "0.png").symlink_to(digits / "01.png")
    job = Job((digits,))
    (finding,) = checking.findings_of("source", CHECKS["source"], job, {})
    assert finding.status == WARNING
    assert "0.png: a symbolic link" in finding.found
    root = os.fsencode(tmp_path)
    found = Listing(FileList(root, [b"a.png", b"closed/"]), FileList(root))
    monkeypatch.setattr(find, "find_images", lambda _job: found)
    (finding,) = checking.findings_of("source", CHECKS["source"], job, {})
    assert finding.status == WARNING
    assert finding.found == "1 images, 1 folders that cannot be listed"


def test_processes_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("batchdigit.reading.pipe_workers._Line", refuse)
    monkeypatch.setattr(
        examination, "CHECKS", {name: CHECKS[name] for name in ("workers", "trial")}
    )
    found = examine(Job((SAMPLES,), device="cpu"), with_source=False)
    findings = {finding.name: finding for finding in found}
    assert findings["workers"].status == PROBLEM
    assert "Resource temporarily unavailable" in findings["workers"].found
    assert "--workers" in findings["workers"].remedy
    assert findings["trial"].found.startswith("10 of 10 packaged digits right")  # without them


def test_digits_that_are_predicted_wrongly(monkeypatch: pytest.MonkeyPatch) -> None:
    digits = batchdigit.models.digits.packaged_digits()[::-1]  # type: ignore[attr-defined]
    monkeypatch.setattr("batchdigit.models.digits.packaged_digits", lambda: digits)
    (finding,) = check("trial", device="cpu")
    assert finding.status == PROBLEM
    assert finding.found.startswith("only 0 of 10 packaged digits right")


def test_packaged_digits_are_in_the_order_that_the_trial_takes_them_to_be_in() -> None:
    from batchdigit.backends.onnx_backend import OnnxBackend
    from batchdigit.backends.torch_backend import _batch_of

    backend = OnnxBackend()
    predictor = backend.predictor(backend.load(PACKAGED_WEIGHTS, None), 1)
    (found,) = predictor.predict([_batch_of(batchdigit.models.digits.packaged_digits())])  # type: ignore[attr-defined]
    assert (found.labels[:, 0] == found.indices % 10).mean() > 0.99


def test_no_place_for_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    for name in ("workers", "trial"):
        (finding,) = check(name)
        assert finding.status == WARNING
        assert "TMPDIR" in finding.remedy


def sleep_and_answer() -> Iterator[Finding]:
    time.sleep(600)
    yield ok("check", "awake")


def end_by_signal() -> Iterator[Finding]:
    yield ok("check", "lost")
    os.kill(os.getpid(), signal.SIGKILL)


def exit_from_within() -> Iterator[Finding]:
    os.write(1, b"not to be seen")
    os._exit(3)
    yield ok("check", "lost")


def find_and_fail() -> Iterator[Finding]:
    yield ok("check", "half of it")
    raise KeyError("what nobody thought of")


@pytest.mark.parametrize(
    ("broken", "text"),
    [
        (end_by_signal, "ended with SIGKILL"),
        (exit_from_within, "ended with exit code 3"),
        (sleep_and_answer, "no answer within 0.5 seconds"),
    ],
)
def test_check_that_does_not_come_back(
    broken: checking.Check,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(checking, "SECONDS_TO_ANSWER", 0.5)
    (finding,) = checking.findings_apart("check", broken)
    assert finding.status == PROBLEM
    assert text in finding.found
    assert capfd.readouterr() == ("", "")


def test_process_for_a_check_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_process: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("multiprocessing.process.BaseProcess.start", refuse)
    (finding,) = checking.findings_apart("check", find_and_fail)
    assert finding.status == PROBLEM
    assert "Resource temporarily unavailable" in finding.found


@pytest.mark.parametrize("find", [checking.findings_of, checking.findings_apart])
def test_exception_in_a_check_is_a_problem_of_it(find: Any) -> None:
    first, last = find("check", find_and_fail)
    assert first == ok("check", "half of it")
    assert (last.name, last.status) == ("check", PROBLEM)
    assert "KeyError" in last.found


def test_checks_after_one_that_fails_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_job: Job, _earlier: object) -> list[Finding]:
        raise ZeroDivisionError("by nothing")

    def look(_job: Job, earlier: dict[str, Finding]) -> list[Finding]:
        return [ok("after", earlier["before"].status)]

    monkeypatch.setattr(examination, "CHECKS", {"before": fail, "after": look})
    before, after = examine(Job((SAMPLES,)), with_source=False)
    assert (before.name, before.status) == ("before", PROBLEM)
    assert after == ok("after", PROBLEM)


def test_signal_ends_it_and_leaves_nothing(tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "batchdigit", "doctor"],
        cwd=tmp_path, env=os.environ | {"TMPDIR": str(temporary)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    for line in process.stdout:
        if " cache " in line:  # a process is about to read
            break
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert said == "batchdigit: stopped by SIGTERM; nothing was changed\n"
    assert list(tmp_path.iterdir()) == [temporary]
    assert not any(temporary.glob("batchdigit-*"))


@pytest.mark.parametrize("arguments", [["-o", "preds.xls"], [""], ["--nonsense"]])
def test_wrong_usage_is_2(program: Program, arguments: list[str]) -> None:
    done = program("doctor", *arguments)
    assert (done.returncode, done.stdout) == (2, "")


class FakeTorch:
    """PyTorch on a machine of ``devices``: for each the bytes that are free."""

    def __init__(self, *devices: int, build: str | None = "13.0", error: str = "") -> None:
        self.version = SimpleNamespace(cuda=build, hip=None)
        self.backends = SimpleNamespace(mps=SimpleNamespace(is_available=lambda: False))
        self.error = error
        facts = SimpleNamespace(name="NVIDIA X", major=9, minor=0)
        self.cuda = SimpleNamespace(
            is_available=lambda: bool(devices),
            device_count=lambda: len(devices),
            get_device_properties=lambda _index: facts,
            mem_get_info=lambda index: (devices[index], 80 << 30),
            init=self._fail,
        )

    def _fail(self) -> None:
        if self.error:
            raise RuntimeError(self.error)

    def ones(self, rows: int, columns: int, device: str) -> torch.Tensor:
        assert device.startswith("cuda:")
        self._fail()
        return torch.ones(rows, columns)


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the device of NVIDIA's driver is looked for; there is none."""
    monkeypatch.setattr(machine, "GPU_DEVICES", (tmp_path / "nvidiactl",))
    monkeypatch.setattr(machine, "NVIDIA_VERSION", tmp_path / "version")
    (tmp_path / "version").write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build\n"
    )
    return tmp_path / "nvidiactl"


def test_gpus_that_compute(driver: Path) -> None:
    driver.touch()
    first, second = gpus.gpus(FakeTorch(79 << 30, 100 << 20))
    assert first == ok("cuda:0", "NVIDIA X, compute capability 9.0, 79.0 GB of 80.0 GB free")
    assert (second.name, second.status) == ("cuda:1", WARNING)
    assert "100.0 MB of 80.0 GB free" in second.found


def test_gpus_that_do_not_compute(driver: Path) -> None:
    driver.touch()
    fake = FakeTorch(1 << 30, 1 << 30, error="no kernel image is available\nCompile with ...")
    first, second = gpus.gpus(fake)
    assert (first.name, first.status) == ("cuda:0", PROBLEM)  # which a run would take
    assert (second.name, second.status) == ("cuda:1", WARNING)
    assert first.found == "does not compute: no kernel image is available"


def test_no_gpu_is_no_fault_and_a_driver_that_is_not_used_is_one(
    driver: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (finding,) = gpus.gpus(FakeTorch())
    assert (finding.name, finding.status) == ("gpu", OK)
    driver.touch()
    (finding,) = gpus.gpus(FakeTorch(build=None))
    assert finding.status == WARNING
    assert finding.found.startswith(
        "NVIDIA's driver 580.65.06 is here, but this PyTorch is a build"
    )
    old = "The NVIDIA driver on your system is too old (found version 11040)."
    (finding,) = gpus.gpus(FakeTorch(error=old))
    assert finding.status == WARNING
    assert finding.found.endswith(old)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    (finding,) = gpus.gpus(FakeTorch())
    assert (finding.status, "CUDA_VISIBLE_DEVICES=7" in finding.remedy) == (WARNING, True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    (finding,) = gpus.gpus(FakeTorch())
    assert (finding.status, "hidden" in finding.found) == (OK, True)


def test_lines_are_aligned_and_show_no_control_characters() -> None:
    findings = [
        ok("torch", "2.14.1"),
        problem("model", "a\n\x1b[31mb", "c"),
        warning("x", "y", "z"),
    ]
    assert [finding_line(finding) for finding in findings] == [
        "ok       torch          2.14.1",
        "problem  model          a [31mb; c",
        "warning  x              y; z",
    ]
    assert list(summary_lines(findings)) == ["1 problem, 1 warning"]
    assert list(summary_lines(findings[:1])) == ["no problems"]
    assert list(summary_lines(findings[1:2] * 2)) == ["2 problems"]
    assert findings_json(findings)["warnings"] == 1
