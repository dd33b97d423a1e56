"""Sampling settings in turns, so that what disturbs the machine for a while disturbs them all."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from batchdigit.bench.measurement import Point, Sample, Setting
from batchdigit.bench.measuring.alone import IMAGES_OF_A_START, Starts, time_starts
from batchdigit.bench.measuring.clock import Clock, Say
from batchdigit.bench.measuring.engine import Engine, EngineDiedError
from batchdigit.bench.measuring.found import (
    BATCHES_OF_A_SAMPLE,
    IMAGES_TO_START_WITH,
    SAMPLES_UNTIL,
    Found,
)
from batchdigit.bench.measuring.images import evenly
from batchdigit.errors import BatchdigitError
from batchdigit.sources.folder import FolderSource

FULL_ROUNDS = 2  # of all settings; later ones are of contenders only
# Settings whose best sample is below this share of the engine's best rate drop out.
CONTENDER = 0.8


@dataclass(frozen=True)
class _Sampled:
    """How far the sampling of one setting is.

    ``warm_up`` is a run over hardly any images, ``seconds`` what the last sample took with
    everything around it. A setting that has ``failed`` is not tried again, but its samples count.
    """

    point: Point
    failed: bool
    warm_up: Sample | None = None
    seconds: float = 0.0

    def fail(self, problem: str) -> _Sampled:
        """The same setting, which no longer works."""
        point = self.point if self.point.samples else replace(self.point, problem=problem)
        return replace(self, point=point, failed=True)


def sample_in_rounds(
    found: Found,
    engines: Mapping[str, Engine],
    images: Mapping[str, FolderSource],
    points: Iterable[Point],
    clock: Clock,
    say: Say,
) -> tuple[tuple[Point, ...], Starts]:
    """Sample every setting once, and the fast ones again and again while there is time.

    Gives ``points`` with their samples, except that those with a problem stay as they are.
    ``images`` are those of each sample, by engine. Between the rounds commands are started.
    """
    sampled = {one.setting: _Sampled(one, failed=one.problem is not None) for one in points}
    starts = Starts()
    for number in itertools.count():
        alive = [setting for setting, one in sampled.items() if not one.failed]
        names = dict.fromkeys(setting.engine for setting in alive)
        starts = time_starts(found, names, starts, clock, say)
        settings = alive if number < FULL_ROUNDS else _contenders(sampled)
        over = not settings
        for setting in in_turns(settings, number):
            if sampled[setting].failed:
                continue  # its engine has died
            if number and sampled[setting].seconds > clock.left(SAMPLES_UNTIL):
                over = True
                break
            # Each engine gets at least one sample, however late it is.
            late = clock.left(SAMPLES_UNTIL) < 0 and _best_rate(sampled, setting.engine) > 0
            if not number and late:
                sampled[setting] = sampled[setting].fail("there was no time; give more --seconds")
                continue
            try:
                sampled[setting] = _with_a_sample(
                    sampled[setting],
                    engines[setting.engine],
                    images[setting.engine],
                    found.listing_seconds,
                    clock,
                )
            except EngineDiedError as error:
                say(f"{setting.engine}: {error}")
                sampled |= _failed_engine(sampled, setting.engine, str(error))
            except BatchdigitError as error:
                say(f"{setting.label}: {error}")
                sampled[setting] = sampled[setting].fail(str(error))
            clock.show()
        if over or clock.left(SAMPLES_UNTIL) < 0:
            break
    return tuple(one.point for one in sampled.values()), starts


def _with_a_sample(
    sampled: _Sampled, engine: Engine, images: FolderSource, listing_seconds: float, clock: Clock
) -> _Sampled:
    """Take one more sample. Raises BatchdigitError where a run fails."""
    point = sampled.point
    if BATCHES_OF_A_SAMPLE * (point.setting.batch_size or 0) > len(images):
        return sampled.fail("four such batches take too long; try smaller ones")
    start = clock.seconds
    warm_up = sampled.warm_up or _warmed_up(point.setting, engine, images, listing_seconds)
    sample = engine.sample(point.setting, images, listing_seconds).without_start(warm_up)
    point = replace(point, samples=(*point.samples, sample))
    return replace(sampled, point=point, warm_up=warm_up, seconds=clock.seconds - start)


def _warmed_up(
    setting: Setting, engine: Engine, images: FolderSource, listing_seconds: float
) -> Sample:
    """A run over hardly any images, after which the engine has seen the setting."""
    if setting.device != "cpu":
        # At the first batch of a size, a GPU looks for memory and for the methods that suit it.
        size = setting.batch_size or IMAGES_TO_START_WITH
        engine.sample(setting, evenly(images, min(size, len(images))), listing_seconds)
    few = evenly(images, max(min(IMAGES_OF_A_START, len(images) // 2), 1))
    return engine.sample(setting, few, listing_seconds)


def _contenders(sampled: Mapping[Setting, _Sampled]) -> list[Setting]:
    """Settings that may turn out to be the best of their engine."""
    return [
        setting
        for setting, one in sampled.items()
        if not one.failed and one.point.best_rate >= CONTENDER * _best_rate(sampled, setting.engine)
    ]


def _best_rate(sampled: Mapping[Setting, _Sampled], name: str) -> float:
    """The highest median rate of an engine's settings."""
    return max(one.point.rate for setting, one in sampled.items() if setting.engine == name)


def _failed_engine(
    sampled: Mapping[Setting, _Sampled], name: str, problem: str
) -> dict[Setting, _Sampled]:
    """The settings of an engine, none of which works any longer."""
    return {
        setting: one.fail(problem) for setting, one in sampled.items() if setting.engine == name
    }


def in_turns(settings: Sequence[Setting], number: int) -> list[Setting]:
    """The settings by turns of their engines, beginning with another setting in each round."""
    by_engine: dict[str, list[Setting]] = {}
    for setting in settings:
        by_engine.setdefault(setting.engine, []).append(setting)
    turns = [one for turn in itertools.zip_longest(*by_engine.values()) for one in turn if one]
    first = number % len(turns) if turns else 0
    return turns[first:] + turns[:first]
