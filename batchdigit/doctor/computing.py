"""The backends: whether each one can compute, and which one a run uses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from batchdigit.doctor.checking import findings_apart
from batchdigit.doctor.findings import OK, PROBLEM, WARNING, Earlier, Finding, ok, problem, warning
from batchdigit.doctor.gpus import gpus
from batchdigit.errors import BatchdigitError
from batchdigit.job import Job
from batchdigit.modelfiles.file import ONNX
from batchdigit.system.imports import is_installed, loading
from batchdigit.system.machine import may_have_gpu
from batchdigit.system.words import counted

SIDE = 64  # of the matrices that are multiplied to see whether PyTorch computes
_NAMES = {"torch": "PyTorch", "onnxruntime": "ONNX Runtime"}


def onnxruntime(job: Job, _earlier: Earlier) -> list[Finding]:
    """Whether ONNX Runtime can be loaded, if it is installed."""
    return findings_apart("onnxruntime", _onnxruntime, job)


def _onnxruntime(job: Job) -> Iterator[Finding]:
    from batchdigit.backends.onnx_backend import OnnxBackend

    remedy = "pip install --force-reinstall onnxruntime"
    is_onnx = _is_onnx(job)
    needed = is_onnx or not is_installed("torch")  # nothing else could compute
    fault = problem if needed else warning
    if is_installed("onnxruntime"):
        try:
            OnnxBackend()
            import onnxruntime
        except BatchdigitError as error:
            yield fault("onnxruntime", error.problem, remedy)
        else:
            yield ok("onnxruntime", str(onnxruntime.__version__))
    elif is_onnx:
        yield problem(
            "onnxruntime", f"not installed, but {job.model} needs it", "pip install onnxruntime"
        )
    else:
        yield ok("onnxruntime", "not installed; only .onnx files need it")


def _is_onnx(job: Job) -> bool:
    """Whether a run would compute an ONNX file; what is wrong with a model, its own check says."""
    from batchdigit.backends.opening import open_model_file

    try:
        _, file = open_model_file(job)
    except BatchdigitError:
        return False
    return file is not None and file.format == ONNX


def torch(job: Job, _earlier: Earlier) -> list[Finding]:
    """Whether PyTorch can be loaded, whether it computes, and on which GPUs."""
    findings = findings_apart("torch", _torch)
    if job.network is not None or not is_installed("onnxruntime"):
        return findings
    # Not even a crash is a problem: where ONNX Runtime computes, a run does not load PyTorch.
    return [
        replace(finding, status=WARNING)
        if (finding.name, finding.status) == ("torch", PROBLEM)
        else finding
        for finding in findings
    ]


def _torch() -> Iterator[Finding]:
    if not is_installed("torch"):
        yield problem("torch", "not installed", "pip install torch")
        return
    try:
        with loading("PyTorch", "torch"):
            import torch
    except BatchdigitError as error:
        yield problem("torch", error.problem, "pip install --force-reinstall torch")
        return
    ones = torch.ones(SIDE, SIDE)
    if not bool((ones @ ones == SIDE).all()):
        yield problem("torch", "it multiplies matrices wrongly", "install another build of it")
        return
    build = "CPU build"
    if torch.version.cuda:
        build = f"CUDA {torch.version.cuda} build"
    elif torch.version.hip:
        build = f"ROCm {torch.version.hip} build"
    yield ok("torch", f"{torch.__version__}, {build}, {counted(torch.get_num_threads(), 'thread')}")
    yield from gpus(torch)


def backend(job: Job, earlier: Earlier) -> list[Finding]:
    """Which backend a run without ``--backend`` uses, and whether that one works."""
    return findings_apart("backend", _backend, job, earlier)


def _backend(job: Job, earlier: Earlier) -> Iterator[Finding]:
    from batchdigit.backends.choice import choose_backend

    is_onnx = _is_onnx(job)
    chosen, may_be_torch = choose_backend(job, is_onnx=is_onnx)
    usable = {
        name
        for name in _NAMES
        if is_installed(name) and name in earlier and earlier[name].status == OK
    }
    text = f"auto chooses {_NAMES[chosen]}: {_why(job, chosen, is_onnx=is_onnx)}"
    if chosen in usable:
        yield ok("backend", text)
        return
    text += "; but it cannot be loaded"
    if chosen == "onnxruntime" and may_be_torch and "torch" in usable:
        yield warning(
            "backend",
            f"{text}, so PyTorch computes instead",
            "repair onnxruntime, or run with --backend torch",
        )
    elif usable and not is_onnx and job.network is None:
        others = " or ".join(f"--backend {other}" for other in sorted(usable))
        yield problem("backend", text, f"repair {chosen}, or run with {others}")
    else:
        yield problem("backend", text, f"repair {chosen}")


def _why(job: Job, chosen: str, *, is_onnx: bool) -> str:
    if job.network is not None:
        return "it computes a network of your own"
    if is_onnx:
        return "the model is an ONNX file"
    if not is_installed("onnxruntime"):
        return "ONNX Runtime is not installed"
    if chosen == "torch":
        return "there may be a GPU"
    if may_have_gpu():
        return "PyTorch is not installed"
    return "it is faster on a CPU, and there is no driver for a GPU"
