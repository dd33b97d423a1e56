"""The time that a benchmark has, and how it tells its caller how far it is."""

from __future__ import annotations

import time
from collections.abc import Callable

from batchdigit.system.progress import OnProgress, no_progress

Say = Callable[[str], None]
"""Called with a line about something that could not be measured."""


class Clock:
    """How much of ``budget`` seconds has passed since this was made."""

    def __init__(self, budget: float, on_progress: OnProgress = no_progress) -> None:
        self.budget = budget
        self._on_progress = on_progress
        self._start = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since this was made."""
        return time.monotonic() - self._start

    def left(self, share: float) -> float:
        """Seconds until that share of the budget is used up, negative once it is."""
        return share * self.budget - self.seconds

    def show(self) -> None:
        """Report the seconds that have passed."""
        self._on_progress(round(min(self.seconds, self.budget)), 0, round(self.budget))
