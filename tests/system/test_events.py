"""Records say what they are about."""

import logging

import pytest

from batchdigit.system.events import about


def test_event_and_values_come_with_the_record(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("batchdigit").warning("2 of 3", extra=about("lost", lost=2, found=3))
    (record,) = caplog.records
    assert vars(record)["fields"] == {"event": "lost", "lost": 2, "found": 3}
    assert record.getMessage() == "2 of 3"
