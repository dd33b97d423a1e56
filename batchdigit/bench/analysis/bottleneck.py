"""What holds a run back, in words."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from batchdigit.bench.measurement import LOOP, READING, WORK, Point, Sample

COMPUTING = ("transfer", "network")
WAITING = ("read", "predict")  # stages in which the main thread waits for others
SATURATED = 0.85  # of all cores' time, from which on they are what is short
WORDS = {
    "read": "reading files",
    "decode": "decoding",
    "fit": "fitting images to 28x28",
    "transfer": "copying images to the GPU",
    "network": "the network",
    "list": "listing files",
    "save": "saving fitted images",
    "journal": "writing the journal",
    "write": "writing the report",
    "other": "what is between the stages",
}


@dataclass(frozen=True)
class Occupant:
    """Those who do a part of the work: ``readers``, ``network`` or ``main``.

    ``share`` is how much of the time they are busy, 0 to 1, ``stage`` what they do most of it,
    ``rate`` how many images a second they could do if nobody kept them waiting.
    """

    who: str
    stage: str
    share: float
    rate: float


@dataclass(frozen=True)
class Bottleneck:
    """The ``stage`` that holds a run back, and ``words`` for a person."""

    stage: str
    words: str


def occupants(sample: Sample) -> list[Occupant]:
    """Who is busy how much, the busiest first.

    Without processes that read it is the main thread that reads.
    """
    busy = {stage: sample.busy.get(stage, 0.0) for stage in WORK}
    main = {stage: seconds for stage, seconds in own_stages(sample).items() if stage not in WAITING}
    groups = []
    reading = {stage: busy[stage] for stage in READING}
    if sample.workers:
        there = sample.workers * sample.span
        groups.append(("readers", reading, there))
    else:
        main |= reading
    threads = sample.threads if not busy["transfer"] else 1  # a GPU does one thing after another
    groups.append(("network", {stage: busy[stage] for stage in COMPUTING}, threads * sample.span))
    groups.append(("main", main, sample.span))
    found = [
        Occupant(
            who,
            max(stages, key=lambda stage: stages[stage]),
            min(sum(stages.values()) / there, 1.0),
            sample.images * there / sample.span / max(sum(stages.values()), 1e-9),
        )
        for who, stages, there in groups
    ]
    return sorted(found, key=lambda occupant: -occupant.share)


def own_stages(sample: Sample) -> dict[str, float]:
    """The main thread's seconds by stage once it runs; ``other`` is what is in none."""
    stages = {stage: sample.seconds.get(stage, 0.0) for stage in LOOP}
    return {**stages, "other": max(sample.span - sum(stages.values()), 0.0)}


def median_sample(point: Point) -> Sample:
    """The sample with the median rate; the slower one of two."""
    return sorted(point.samples, key=lambda sample: sample.rate)[(len(point.samples) - 1) // 2]


def bottleneck(point: Point, cores: int) -> Bottleneck:
    """What holds back the runs of a point that has samples, on a machine with ``cores``.

    Where the cores are busy nearly all the time, it is what they do most of it, whoever does it;
    else what the busiest of readers, network and main thread does most.
    """
    sample = median_sample(point)
    busiest, *others = occupants(sample)
    found = {occupant.who: occupant for occupant in (busiest, *others)}
    on_cpu = point.setting.device == "cpu"
    used = min((sample.cpu_seconds or 0.0) / (cores * sample.span), 1.0)
    network = statistics.median(point.network_rates or [found["network"].rate])
    reading = statistics.median(
        point.reading_rates or [found["readers" if sample.workers else "main"].rate]
    )
    if on_cpu and used >= SATURATED:
        work = {stage: sample.busy.get(stage, 0.0) for stage in WORK}
        work |= {stage: sample.seconds.get(stage, 0.0) for stage in LOOP if stage not in WAITING}
        stage = max(work, key=lambda name: work[name])
        share = work[stage] / sum(work.values())
        words = (
            f"{WORDS[stage]}: all {cores} cores are busy {used:.0%} of the time, with it for "
            f"{share:.0%} of their work. Alone, the network would do {network:,.0f} images/s and "
            f"reading {reading:,.0f}: more cores"
            + (", or a GPU" if stage in COMPUTING else "; a GPU would not help")
        )
        return Bottleneck(stage, words)
    return Bottleneck(
        busiest.stage,
        f"{WORDS[busiest.stage]}: " + _explained(busiest, sample, network, reading, on_cpu=on_cpu),
    )


def _explained(
    busiest: Occupant, sample: Sample, network: float, reading: float, *, on_cpu: bool
) -> str:
    share = f"busy {busiest.share:.0%} of the time"
    if busiest.who == "network":
        return (
            f"{share}, it could do {network:,.0f} images/s, and reading {reading:,.0f}: "
            f"{'more cores, or a GPU' if on_cpu else 'a faster GPU'}, not more workers"
        )
    if busiest.who == "readers":
        plural = sample.workers != 1
        remedy = "more workers or cores, not a faster device"
        if busiest.stage == "read":
            remedy = "faster storage, or more workers"
        return (
            f"{sample.workers} worker{'s' * plural} {share}, {'they' if plural else 'it'} could "
            f"feed {reading:,.0f} images/s, and the network take {network:,.0f}: {remedy}"
        )
    if busiest.stage in READING:
        return (
            f"the main process reads by itself, {share}, and the network could take "
            f"{network:,.0f} images/s: more workers"
        )
    return f"the main process is {share}: a faster disk for the report"
