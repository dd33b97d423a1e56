"""What else differs between two measurements, and may be the reason for their differences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from batchdigit.bench.facts import facts
from batchdigit.bench.measurement import Measurement, Point

MAX_NAMED = 5  # differences between the machines, and so on

Shared = tuple[Point, Point]
"""The old and the new point of a setting that has samples in both."""


def differences(old: Measurement, new: Measurement) -> Iterator[str]:
    """How the machine, the model, the versions, the images or the method differ."""
    for meaning, before, after in (
        ("on another machine", old.machine, new.machine),
        ("with another model", old.model, new.model),
        ("with other versions", old.versions, new.versions),
        ("on other images", old.source, new.source),
        ("in another way", old.method, new.method),
    ):
        was, is_now = facts(before), facts(after)
        if was.get("sha256", "") == is_now.get("sha256"):
            continue  # the same content, whatever its name
        names = [name for name in {**was, **is_now} if was.get(name) != is_now.get(name)]
        if names:
            listed = [
                f"{name} {was.get(name, 'unknown')}, now {is_now.get(name, 'unknown')}"
                for name in names[:MAX_NAMED]
            ]
            more = len(names) - MAX_NAMED
            yield (
                f"measured {meaning}: "
                + "; ".join(listed)
                + (f"; and {more} more" if more > 0 else "")
            )


def other_choices(shared: Sequence[Shared]) -> Iterator[str]:
    """Where ``auto`` made another choice."""
    for old, new in shared:
        before, after = old.samples[0], new.samples[0]
        for name in ("batch_size", "workers", "threads"):
            was, is_now = getattr(before, name), getattr(after, name)
            if was != is_now:
                what = name.replace("_", " ")
                yield f"{new.setting.label}: the run chose {what} {was:,}, now {is_now:,}"
