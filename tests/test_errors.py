import pickle
import signal

import pytest

from batchdigit.errors import (
    MAX_PROBLEM,
    BatchdigitError,
    CheckpointError,
    ImageError,
    StoppedBySignal,
    one_line,
)


def test_error_is_one_line_of_its_problem_and_its_remedy() -> None:
    error = BatchdigitError("a\nb\x1b[31m", "\tc\r\n")
    assert (error.problem, error.remedy) == ("a b [31m", "c")
    assert str(error) == "a b [31m; c"
    assert str(BatchdigitError("a")) == "a"


def test_problem_is_long_enough_for_any_path_and_no_longer() -> None:
    path = "/" + "x" * 4095
    assert BatchdigitError(f"cannot read {path}").problem.endswith(path)
    assert len(BatchdigitError("x" * 1_000_000).problem) == MAX_PROBLEM


def test_error_comes_back_from_another_process_as_it_was() -> None:
    error = pickle.loads(pickle.dumps(CheckpointError("damaged", "choose another")))
    assert isinstance(error, CheckpointError)
    assert (error.problem, error.remedy, error.exit_code) == ("damaged", "choose another", 65)


def test_error_of_an_image_has_a_stage_and_a_message_of_one_line() -> None:
    error = ImageError("decode", "broken\nPNG")
    assert (error.stage, error.message) == ("decode", "broken PNG")
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.stage, copy.message) == (error.stage, error.message)


def test_signal_has_its_name_and_its_exit_code_and_is_no_exception() -> None:
    stop = StoppedBySignal(signal.SIGTERM)
    assert (stop.signal_name, stop.exit_code) == ("SIGTERM", 143)
    assert not isinstance(stop, Exception)


@pytest.mark.parametrize(
    ("text", "limit", "line"),
    [
        ("  a \n\n b\t", 300, "a b"),
        ("a\u2028b\u200bc\x00d", 300, "a b c d"),
        ("\udcff.png", 300, ".png"),  # the part of a name that is not UTF-8
        ("Zwölf 三", 300, "Zwölf 三"),
        ("abcdef", 6, "abcdef"),
        ("abcdefg", 6, "abcde…"),
        ("", 300, ""),
    ],
)
def test_any_text_becomes_one_printable_line(text: str, limit: int, line: str) -> None:
    assert one_line(text, limit) == line
