"""What no model file may exceed is counted, not timed."""

import pytest

from batchdigit.modelfiles.limits import (
    MAX_NAME,
    MAX_STEPS,
    PickleError,
    PickleTooLargeError,
    Work,
    check_name,
)


def test_steps_add_up_to_a_limit() -> None:
    work = Work()
    work.add(MAX_STEPS - 1)
    work.add(1)
    with pytest.raises(PickleTooLargeError, match=f"more than {MAX_STEPS} steps"):
        work.add(1)


@pytest.mark.parametrize("letter", ["n", b"n", "\N{PILE OF POO}"])
def test_name_may_be_as_long_as_any_that_people_give(letter: str | bytes) -> None:
    check_name(letter * MAX_NAME)
    with pytest.raises(PickleError, match=f"a name of {MAX_NAME + 1} characters"):
        check_name(letter * (MAX_NAME + 1))
