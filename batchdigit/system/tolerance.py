"""How many of some things are tolerated."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

from batchdigit.errors import UsageError


@dataclass(frozen=True)
class Tolerance:
    """How many of some images are tolerated, of those that fail, say: a number or a percentage."""

    count: int = 0
    percent: Decimal | None = None  # exactly as written: 32.3% of 1,000 is 323

    @classmethod
    def parse(cls, text: str, option: str = "--max-bad") -> Tolerance:
        """Parse ``"3"`` or ``"0.5%"``. Raises UsageError, naming the ``option``, for all else."""
        if match := re.fullmatch(r"(\d{1,18})", text):
            return cls(count=int(match[1]))
        if (match := re.fullmatch(r"(\d{1,3}(?:\.\d{1,18})?)%", text)) and Decimal(match[1]) <= 100:
            return cls(percent=Decimal(match[1]))
        raise UsageError(
            f"{option} {text!r} is neither a number nor a percentage", "write 3 or 0.5%"
        )

    def __str__(self) -> str:
        return str(self.count) if self.percent is None else f"{self.percent}%"

    def allows(self, count: int, total: int) -> bool:
        """Whether ``count`` out of ``total`` images are few enough."""
        if self.percent is None:
            return count <= self.count
        return count * 100 <= total * self.percent
