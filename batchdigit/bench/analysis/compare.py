"""Two measurements of the same settings: what got faster or slower, beyond the noise.

Machines are noisy: a neighbour makes some samples slower, and all of a measurement may be some
percent off another one. So a difference counts only beyond an allowance: of ``ALLOWANCE``, for what
two measurements of the same differ by, and of some times the scatter among the settings. It has
to be in the medians and in the best samples, which a neighbour reaches last; and a rank test has
to find it. Settings are looked at one by one, all of an engine's together, and all together.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from batchdigit.bench.analysis.ranks import holm, rank_test, smallest_p
from batchdigit.bench.facts import facts
from batchdigit.bench.measurement import Measurement, Point, Setting
from batchdigit.errors import UsageError

LEVEL, GROUP_LEVEL = 0.02, 0.05  # chances of a finding among alike settings, and engines
ALLOWANCE = 0.07
SCATTERS = 4  # of a single setting: the largest of sixty is that far out now and then
MOST_NAMED = 5  # differences between the machines, and so on

Shared = tuple[Point, Point]


@dataclass(frozen=True)
class Change:
    """How one setting changed, or ``settings`` of them together.

    ``old_rate`` and ``new_rate`` are median images a second (None of several settings), ``change``
    is the relative change of the rate, -0.2 for a fifth less, and ``sure`` the part of it that the
    best samples show as well. Less than ``noise`` counts for nothing. ``verdict`` is ``faster``,
    ``slower``, ``same`` (within the noise) or ``unknown`` (beyond it, and by too few samples).
    ``decidable`` says whether there are enough samples to tell any difference from chance.
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

    ``engines`` has those with more than one setting, where there is more than one engine,
    ``overall`` all settings where there is more than one. ``broken`` are settings that ran before
    and have a problem now, with that problem.
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
    enough: int  # samples of each setting that would do to tell it from chance

    @property
    def changes(self) -> list[Change]:
        """All of them, the largest groups first."""
        return [*([self.overall] if self.overall else []), *self.engines, *self.points]

    @property
    def slower(self) -> list[Change]:
        """Those that are slower by more than ``fail_over``."""
        return [
            change
            for change in self.changes
            if change.verdict == "slower" and -change.sure > self.fail_over
        ]

    @property
    def failed(self) -> bool:
        """Whether something got slower by more than ``fail_over``, or does not run any more."""
        return bool(self.slower or self.broken)

    @property
    def verdict(self) -> str:
        """``slower``, ``faster``, ``mixed``, ``same``, or ``unknown`` where nothing can be told."""
        verdicts = {change.verdict for change in self.changes if change.decidable}
        if {"slower", "faster"} <= verdicts:
            return "mixed"
        known = [name for name in ("slower", "faster", "same") if name in verdicts]
        return known[0] if known else "unknown"

    def as_json(self) -> dict[str, Any]:
        """The whole as JSON data."""
        return asdict(self) | {"verdict": self.verdict, "failed": self.failed}


def compare(old: Measurement, new: Measurement, fail_over: float = 0.1) -> Comparison:
    """What changed from ``old`` to ``new``; ``fail_over`` is a share of images a second.

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
        warnings=(*_differences(old, new), *_other_choices(shared)),
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


def _changes(
    groups: Mapping[str, Sequence[Shared]], scatter: float, level: float = LEVEL
) -> tuple[Change, ...]:
    """The change of each group, by tests that know how many they are."""
    found = []
    for name, group in groups.items():
        rates = [(old.rates, new.rates) for old, new in group]
        change = statistics.median(map(_of_medians, group))
        best = statistics.median(map(_of_best, group))
        sure = math.copysign(min(abs(change), abs(best)), change) if change * best > 0 else 0.0
        spread = SCATTERS * scatter if len(group) == 1 else scatter / math.sqrt(len(group))
        noise = -math.log(1 - ALLOWANCE) + spread
        # What is more than noise has to be found after the noise is taken off.
        factor = math.exp(-math.copysign(noise, sure))
        p = 1.0
        if abs(sure) > noise:
            p = rank_test([(old, [rate * factor for rate in new]) for old, new in rates])
        found.append((name, group, (change, sure, noise), p, smallest_p(rates)))
    corrected = holm([p for *_, p, _ in found])
    return tuple(
        Change(
            name=name,
            settings=len(group),
            old_rate=group[0][0].rate if len(group) == 1 else None,
            new_rate=group[0][1].rate if len(group) == 1 else None,
            change=math.expm1(change),
            sure=math.expm1(sure),
            noise=-math.expm1(-noise),
            p=p,
            decidable=smallest * len(found) < level,
            verdict=_verdict(p < level, smallest * len(found) < level, sure, noise),
        )
        for (name, group, (change, sure, noise), _, smallest), p in zip(
            found, corrected, strict=True
        )
    )


def _verdict(found: bool, decidable: bool, sure: float, noise: float) -> str:
    if found:
        return "slower" if sure < 0 else "faster"
    return "same" if decidable or abs(sure) <= noise else "unknown"


def _of_medians(pair: Shared) -> float:
    """The logarithm of the new rate in parts of the old one."""
    return math.log(pair[1].rate / pair[0].rate)


def _of_best(pair: Shared) -> float:
    return math.log(max(pair[1].rates) / max(pair[0].rates))


def _scatter(shared: Sequence[Shared]) -> float:
    """How far the changes of an engine's settings are from each other, as a standard deviation.

    From the median distance, which a few settings that really changed do not move; of two
    settings it would be that of the one that did.
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
    return 1.4826 * statistics.median(distances) * math.sqrt(free)


def _scatter_of_few(shared: Sequence[Shared]) -> float:
    """The same of settings that are too few for that, as far as their samples let expect it.

    So large that ``SCATTERS`` of it are a standard deviation of the difference of two medians:
    more would hide what is looked for.
    """
    distances: list[float] = []
    for point in (point for pair in shared for point in pair):
        middle = point.rate
        distances += [abs(math.log(rate / middle)) for rate in point.rates]
    if not distances:
        return 0.0
    fewest = min(len(point.samples) for pair in shared for point in pair)
    return 1.4826 * statistics.median(distances) * math.sqrt(2 / fewest) / SCATTERS


def _enough(settings: int) -> int:
    """The fewest samples of each of so many settings among which one change can be found."""
    count = 1
    while 2 / math.comb(2 * count, count) * settings >= LEVEL:
        count += 1
    return count


def _differences(old: Measurement, new: Measurement) -> Iterable[str]:
    """What else differs between two measurements, and may be why they do."""
    for meaning, before, after in (
        ("on another machine", old.machine, new.machine),
        ("with another model", old.model, new.model),
        ("with other versions", old.versions, new.versions),
        ("on other images", old.source, new.source),
        ("in another way", old.method, new.method),
    ):
        was, is_now = facts(before), facts(after)
        if was.get("sha256", "") == is_now.get("sha256"):
            continue  # the same content, whatever it is called
        names = [name for name in {**was, **is_now} if was.get(name) != is_now.get(name)]
        if names:
            listed = [
                f"{name} {was.get(name, 'unknown')}, now {is_now.get(name, 'unknown')}"
                for name in names[:MOST_NAMED]
            ]
            more = len(names) - MOST_NAMED
            yield (
                f"measured {meaning}: "
                + "; ".join(listed)
                + (f"; and {more} more" if more > 0 else "")
            )


def _other_choices(shared: Sequence[Shared]) -> Iterable[str]:
    """Where ``auto`` chose something else."""
    for old, new in shared:
        before, after = old.samples[0], new.samples[0]
        for name in ("batch_size", "workers", "threads"):
            was, is_now = getattr(before, name), getattr(after, name)
            if was != is_now:
                what = name.replace("_", " ")
                yield f"{new.setting.label}: the run chose {what} {was:,}, now {is_now:,}"
