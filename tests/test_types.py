"""Type checkers know the options that there are, and take the documents' examples."""

import inspect
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import batchdigit
from batchdigit.api import (
    ComputingOptions,
    JobOptions,
    PredictOptions,
    ReadingOptions,
    ReportOptions,
    TableOptions,
)
from batchdigit.job import Computing, Job, Reading, Reporting, Resuming
from tests.test_documents import BLOCK, PAGES

# The declarations of torch and OpenCV are long, and the public ones do not depend on them.
SETTINGS = "[mypy]\nstrict = true\nfollow_imports = silent\n" + "".join(
    f"[mypy-{package}.*]\nfollow_imports = skip\n" for package in ("torch", "cv2")
)
RIGHT = """
from pathlib import Path
import batchdigit
import numpy as np
job = batchdigit.Job(["x"], out="y.csv", max_bad="1%", model=Path("m.pt"), topk=np.int64(2))
batchdigit.run(batchdigit.Job(Path("x"), Path("y.csv"), workers="auto", labels=["a"]))
table = batchdigit.predict(Path("x"), "m.pt", review_below=np.float32(0.5))
spec = batchdigit.InputSpec(size=32, channels=np.int64(3), mean=[0.5, 0.4, 0.3], std=np.float32(1))
table = batchdigit.predict("x", spec=spec, network="net.py:Net", network_args={"classes": 10})
table = batchdigit.predict("x", input_size=(32, 28), mean=0.5, std=0.5, transpose=True)
batchdigit.convert_model("m.pt", Path("m.onnx"), network="net.py:Net", labels=["a"], channels=3)
"""
WRONG = {
    'batchdigit.predict("x", topk="2")': '"topk"',
    'batchdigit.predict("x", out="y.csv")': '"out"',
    'batchdigit.stream("x", topkk=2)': '"topkk"',
    'batchdigit.Job("x", timeout="20")': '"timeout"',
    'batchdigit.Job("x", 5)': "int",
    'batchdigit.predict("x", network=3)': '"network"',
    'batchdigit.InputSpec(mean="0.5")': '"mean"',
    'batchdigit.convert_model("m.pt", "m.onnx", topk=2)': '"topk"',
}


def check(folder: Path, files: dict[str, str]) -> list[str]:
    """What mypy says of these programs."""
    (folder / "mypy.ini").write_text(SETTINGS)
    for name, code in files.items():
        (folder / name).write_text(code)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "--no-error-summary", *files],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert not done.stderr
    return [line for line in done.stdout.splitlines() if ": error:" in line]


def test_examples_of_the_documents_and_wide_types_pass_mypy_and_mistakes_do_not(
    tmp_path: Path,
) -> None:
    examples = [
        code
        for page in ("README.md", "docs/python.md")
        for _, language, code in BLOCK.findall(PAGES[page])
        if language == "python"
    ]
    assert len(examples) >= 3
    right = {f"right{number}.py": code for number, code in enumerate([RIGHT, *examples])}
    wrong = "\n".join(["import batchdigit", *WRONG])
    errors = check(tmp_path, right | {"wrong.py": wrong})
    assert len(errors) == len(WRONG), errors
    for line, (error, named) in enumerate(zip(errors, WRONG.values(), strict=True), 2):
        assert error.startswith(f"wrong.py:{line}: ")
        assert named in error


def test_types_are_shipped() -> None:
    assert (Path(batchdigit.__file__).parent / "py.typed").exists()


def test_options_are_those_of_a_job() -> None:
    def names(part: type) -> set[str]:
        return {field.name for field in fields(part)}

    assert set(ReadingOptions.__annotations__) == names(Reading)
    # What a class is called is known with the model; a network in memory is given as the model.
    assert set(ComputingOptions.__annotations__) == names(Computing) - {"model", "module"} | {
        "labels"
    }
    assert set(JobOptions.__annotations__) == names(Job) - {"source", "out", "module"}
    only_for_reports = set(ReportOptions.__annotations__)
    of_reports = names(Reporting) - set(TableOptions.__annotations__) - {"labels"}
    assert only_for_reports == of_reports | names(Resuming)
    assert set(PredictOptions.__annotations__) == set(JobOptions.__annotations__) - {
        "model", *only_for_reports,
    }  # fmt: skip


def test_predict_names_all_its_options() -> None:
    named = set(re.findall(r"``(\w+)``", batchdigit.predict.__doc__ or ""))
    assert set(PredictOptions.__annotations__) <= named


def test_predict_and_stream_take_the_same() -> None:
    predict, stream = map(inspect.signature, (batchdigit.predict, batchdigit.stream))
    assert predict.parameters == stream.parameters
