"""Two measurements of the same settings: what got faster or slower, beyond the noise.

Machines are noisy: a neighbour slows some samples down, and a whole measurement may be a few
percent off another one. So a difference counts only beyond an allowance: ``ALLOWANCE``, by which
two measurements of the same build may differ, and a multiple of the scatter among the settings. The
difference must show in the medians and in the best samples, which a neighbour is least likely to
disturb, and a rank test must find it. Settings are compared one by one, by engine and all together.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from batchdigit.bench.analysis.circumstances import Shared, differences, other_choices
from batchdigit.bench.analysis.ranks import holm, rank_test, smallest_p
from batchdigit.bench.measurement import Measurement, Point, Setting
from batchdigit.errors import UsageError

LEVEL, GROUP_LEVEL = 0.02, 0.05  # chances of a finding where no setting, or group, changed
ALLOWANCE = 0.07
SCATTERS = 4  # for a single setting: the largest of sixty is that far out now and then
_NORMAL = 1.4826  # standard deviations in a median distance, of a normal distribution


@dataclass(frozen=True)
class Change:
    """How one setting changed, or several ``settings`` together.

    ``old_rate`` and ``new_rate`` are median images per second (None for several settings).
    ``change`` is the relative change of the rate, -0.2 for a fifth less, and ``sure`` the part of
    it that the best samples show as well. Less than ``noise`` does not count. ``verdict`` is
    ``faster``, ``slower``, ``same`` (within the noise) or ``unknown`` (beyond it, but there are too
    few samples). ``decidable`` says whether there are enough samples to tell any difference from
    chance.
    """

    name: str
    settings: int
    old_rate: float | None
    new_rate: float | None
    change: float
    sure: float
    noise: float
    p: float
    decidable: bool
    verdict: str


@dataclass(frozen=True)
class Comparison:
    """Everything that :func:`compare` found.

    ``engines`` has the engines with more than one setting, where there is more than one engine.
    ``overall`` is about all settings, where there is more than one. ``broken`` are settings that
    ran before and have a problem now, with that problem. ``enough`` is the number of samples of
    each setting that would tell a change of one setting from chance.
    """

    old: str
    new: str
    warnings: tuple[str, ...]
    points: tuple[Change, ...]
    engines: tuple[Change, ...]
    overall: Change | None
    broken: Mapping[str, str]
    only_old: tuple[str, ...]
    only_new: tuple[str, ...]
    fail_over: float
    enough: int

    @property
    def changes(self) -> list[Change]:
        """All changes, the largest groups first."""
        return [*([self.overall] if self.overall else []), *self.engines, *self.points]

    @property
    def slower(self) -> list[Change]:
        """The changes that are slower by more than ``fail_over``."""
        return [
            change
            for change in self.changes
            if change.verdict == "slower" and -change.sure > self.fail_over
        ]

    @property
    def failed(self) -> bool:
        """Whether something got slower by more than ``fail_over``, or no longer runs."""
        return bool(self.slower or self.broken)

    @property
    def verdict(self) -> str:
        """``slower``, ``faster``, ``mixed``, ``same``, or ``unknown`` where nothing can be said."""
        verdicts = {change.verdict for change in self.changes if change.decidable}
        if {"slower", "faster"} <= verdicts:
            return "mixed"
        known = [name for name in ("slower", "faster", "same") if name in verdicts]
        return known[0] if known else "unknown"

    def as_json(self) -> dict[str, Any]:
        """The whole comparison as JSON data."""
        return asdict(self) | {"verdict": self.verdict, "failed": self.failed}


def compare(old: Measurement, new: Measurement, fail_over: float = 0.1) -> Comparison:
    """What changed from ``old`` to ``new``; ``fail_over`` is a share of the images per second.

    Raises UsageError where no setting was measured in both.
    """
    olds, news = _by_setting(old), _by_setting(new)
    measured = [setting for setting in olds if olds[setting].samples and setting in news]
    shared = [(olds[name], news[name]) for name in measured if news[name].samples]
    broken = {
        setting.label: news[setting].problem or "no samples"
        for setting in measured
        if not news[setting].samples
    }
    if not shared and not broken:
        raise UsageError(
            "no setting was measured in both files", "measure the same settings both times"
        )
    scatter = _scatter(shared)
    engines = _by_engine(shared)
    alone = {new.setting.label: [(old, new)] for old, new in shared}
    several = {name: group for name, group in engines.items() if 1 < len(group) < len(shared)}
    everything = {"all settings": shared} if len(shared) > 1 else {}
    return Comparison(
        old=old.started,
        new=new.started,
        warnings=(*differences(old, new), *other_choices(shared)),
        points=_changes(alone, scatter),
        engines=_changes(several, scatter, GROUP_LEVEL),
        overall=next(iter(_changes(everything, scatter, GROUP_LEVEL)), None),
        broken=broken,
        only_old=tuple(setting.label for setting in olds if setting not in news),
        only_new=tuple(setting.label for setting in news if setting not in olds),
        fail_over=fail_over,
        enough=_enough(len(shared)),
    )


def _by_setting(measurement: Measurement) -> dict[Setting, Point]:
    return {point.setting: point for point in measurement.points}


def _by_engine(shared: Iterable[Shared]) -> dict[str, list[Shared]]:
    engines: dict[str, list[Shared]] = {}
    for pair in shared:
        engines.setdefault(pair[0].setting.engine, []).append(pair)
    return engines


@dataclass(frozen=True)
class _Tested:
    """A group of settings after its test; ``change``, ``sure`` and ``noise`` are logarithms."""

    name: str
    group: Sequence[Shared]
    change: float
    sure: float
    noise: float
    p: float
    smallest_p: float

    def judged(self, p: float, tests: int, level: float) -> Change:
        """The change, by the p-value that is left after correcting for several tests."""
        decidable = self.smallest_p * tests < level
        if p < level:
            verdict = "slower" if self.sure < 0 else "faster"
        else:
            verdict = "same" if decidable or abs(self.sure) <= self.noise else "unknown"
        old, new = self.group[0]
        return Change(
            name=self.name,
            settings=len(self.group),
            old_rate=old.rate if len(self.group) == 1 else None,
            new_rate=new.rate if len(self.group) == 1 else None,
            change=math.expm1(self.change),
            sure=math.expm1(self.sure),
            noise=-math.expm1(-self.noise),
            p=p,
            decidable=decidable,
            verdict=verdict,
        )


def _changes(
    groups: Mapping[str, Sequence[Shared]], scatter: float, level: float = LEVEL
) -> tuple[Change, ...]:
    """The change of each group, corrected for the number of groups that are tested."""
    tested = [_tested(name, group, scatter) for name, group in groups.items()]
    corrected = holm([one.p for one in tested])
    return tuple(
        one.judged(p, len(tested), level) for one, p in zip(tested, corrected, strict=True)
    )


def _tested(name: str, group: Sequence[Shared], scatter: float) -> _Tested:
    rates = [(old.rates, new.rates) for old, new in group]
    change = statistics.median(map(_of_medians, group))
    best = statistics.median(map(_of_best, group))
    sure = math.copysign(min(abs(change), abs(best)), change) if change * best > 0 else 0.0
    spread = SCATTERS * scatter if len(group) == 1 else scatter / math.sqrt(len(group))
    noise = -math.log(1 - ALLOWANCE) + spread
    # The test must still find the difference after the noise is taken off.
    factor = math.exp(-math.copysign(noise, sure))
    p = 1.0
    if abs(sure) > noise:
        p = rank_test([(old, [rate * factor for rate in new]) for old, new in rates])
    return _Tested(name, group, change, sure, noise, p, smallest_p(rates))


def _of_medians(pair: Shared) -> float:
    """The logarithm of the new median rate divided by the old one."""
    return math.log(pair[1].rate / pair[0].rate)


def _of_best(pair: Shared) -> float:
    return math.log(pair[1].best_rate / pair[0].best_rate)


def _scatter(shared: Sequence[Shared]) -> float:
    """How far the changes of an engine's settings are from each other, as a standard deviation.

    It comes from the median distance, which does not move if a few settings really changed. Engines
    with two settings do not count: theirs would be the distance of the one that changed.
    """
    groups = [group for group in _by_engine(shared).values() if len(group) > 2]
    distances = []
    for group in groups:
        changes = [_of_medians(pair) for pair in group]
        middle = statistics.median(changes)
        distances += [abs(change - middle) for change in changes]
    if not distances:
        return _scatter_of_few(shared)
    free = len(distances) / (len(distances) - len(groups))
    return _NORMAL * statistics.median(distances) * math.sqrt(free)


def _scatter_of_few(shared: Sequence[Shared]) -> float:
    """The same for settings that are too few for that, estimated from their samples.

    ``SCATTERS`` times the result is one standard deviation of the difference of two medians; more
    would hide the changes that are looked for.
    """
    if not shared:
        return 0.0
    points = [point for pair in shared for point in pair]
    distances: list[float] = []
    for point in points:
        middle = point.rate
        distances += [abs(math.log(rate / middle)) for rate in point.rates]
    samples = min(len(point.samples) for point in points)
    return _NORMAL * statistics.median(distances) * math.sqrt(2 / samples) / SCATTERS


def _enough(settings: int) -> int:
    """The fewest samples of each setting that suffice to find one change among ``settings``."""
    count = 1
    while 2 / math.comb(2 * count, count) * settings >= LEVEL:
        count += 1
    return count
