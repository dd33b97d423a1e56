import os
from pathlib import Path

import pytest

import batchdigit
from batchdigit import Job, UsageError
from batchdigit.system.paths import address_scheme, as_path, path_text


class Odd(os.PathLike[str]):
    def __fspath__(self) -> str:
        return 5  # type: ignore[return-value]


NO_PATHS = [5, None, 1.5, b"", "", "\0", "a\0b", b"a\0b", "\ud800", Odd(), ["a"]]


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("a/b", "a/b"),
        (b"a/b", "a/b"),
        (Path("a/b"), "a/b"),
        (b"\xff.png", "\udcff.png"),
        ("三.png", "三.png"),
    ],
)
def test_path_of_any_type_is_text(given: object, text: str) -> None:
    assert path_text("it", given) == text
    assert as_path("it", given) == Path(text)


@pytest.mark.parametrize("given", NO_PATHS, ids=lambda given: type(given).__name__)
def test_what_is_no_path_is_an_error_that_says_so(given: object, tmp_path: Path) -> None:
    calls = {
        "a source": lambda: Job((given,), "out.csv"),  # type: ignore[arg-type]
        "the output": lambda: Job("images", given),  # type: ignore[arg-type]
        "model": lambda: Job("images", model=given),  # type: ignore[arg-type]
        "save_fitted": lambda: Job("images", save_fitted=given if given is not None else ""),  # type: ignore[arg-type]
        "the file of labels": lambda: batchdigit.read_labels(given),  # type: ignore[arg-type]
    }
    for what, call in calls.items():
        with pytest.raises(UsageError, match=what) as caught:
            call()
        assert caught.value.remedy
    model_calls = (batchdigit.load_checkpoint, batchdigit.inspect_model)
    for function in model_calls:
        with pytest.raises(UsageError, match="the model"):
            function(given)  # type: ignore[arg-type]
    for arguments in ((given, tmp_path / "a.onnx"), (Job("a").model, given)):
        with pytest.raises(UsageError, match="model|the target"):
            batchdigit.convert_model(*arguments)


@pytest.mark.parametrize("given", [5, None, 1.5])
def test_source_that_is_neither_a_path_nor_several_is_an_error(given: object) -> None:
    with pytest.raises(UsageError, match="the source is of type"):
        batchdigit.predict(given)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="a source is an empty name"):
        batchdigit.predict("")


def test_source_may_be_bytes(tmp_path: Path) -> None:
    assert Job(os.fsencode(tmp_path)).source == (str(tmp_path),)  # type: ignore[arg-type]
    assert Job([b"a", Path("b"), "c"]).source == ("a", "b", "c")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "scheme"),
    [
        ("s3://bucket/a.png", "s3"),
        ("S3://bucket", "s3"),
        (str(Path("gs://bucket/a.csv")), "gs"),
        ("file:///a", "file"),
        ("C:/scans", ""),
        ("scans/s3://a", ""),
        ("a:b/c", ""),
        ("12:/30", ""),
        ("", ""),
    ],
)
def test_address_is_told_from_a_path(text: str, scheme: str) -> None:
    assert address_scheme(text) == scheme
