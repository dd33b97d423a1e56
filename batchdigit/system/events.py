"""What a message is about, for programs that read logs."""

from __future__ import annotations

from typing import Any


def about(event: str, **values: Any) -> dict[str, Any]:
    """The ``extra`` of a record: the name of its ``event``, and the ``values`` in its sentence.

    A log in JSON has them as fields of their own. The values are JSON data.
    """
    return {"fields": {"event": event, **values}}
