"""What holds a run back, in words."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from batchdigit.bench.measurement import LOOP, READING, WORK, Point, Sample
from batchdigit.system.words import counted

COMPUTING = ("transfer", "network")
WAITING = ("read", "predict")  # stages in which the main thread waits for others
SATURATED = 0.85  # of all cores' time; from here on the cores are the bottleneck
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
    "other": "the time between the stages",
}


@dataclass(frozen=True)
class Occupant:
    """One that does a part of the work: ``readers``, ``network`` or ``main``.

    ``share`` is the part of the time that they are busy, 0 to 1, ``stage`` what they do for most of
    it, and ``rate`` how many images per second they could do if nobody kept them waiting.
    """

    who: str
    stage: str
    share: float
    rate: float


@dataclass(frozen=True)
class Bottleneck:
    """The ``stage`` that holds a run back, and ``words`` about it for people."""

    stage: str
    words: str


def occupants(sample: Sample) -> list[Occupant]:
    """Who is busy and how much, the busiest first.

    Without reading processes the main thread reads.
    """
    busy = {stage: sample.busy.get(stage, 0.0) for stage in WORK}
    reading = {stage: busy[stage] for stage in READING}
    computing = {stage: busy[stage] for stage in COMPUTING}
    main = {stage: seconds for stage, seconds in own_stages(sample).items() if stage not in WAITING}
    threads = sample.threads if not busy["transfer"] else 1  # a GPU does one thing after another
    found = []
    if sample.workers:
        found.append(_occupant(sample, "readers", reading, sample.workers))
    else:
        main |= reading
    found.append(_occupant(sample, "network", computing, threads))
    found.append(_occupant(sample, "main", main, 1))
    return sorted(found, key=lambda occupant: -occupant.share)


def _occupant(sample: Sample, who: str, stages: Mapping[str, float], hands: int) -> Occupant:
    """``hands`` processes or threads that spend the seconds of ``stages``."""
    busy = sum(stages.values())
    return Occupant(
        who,
        stage=max(stages, key=lambda stage: stages[stage]),
        share=min(busy / (hands * sample.span), 1.0),
        rate=sample.images * hands / max(busy, 1e-9),
    )


def own_stages(sample: Sample) -> dict[str, float]:
    """The main thread's seconds by stage after the start; ``other`` is time outside all stages."""
    stages = {stage: sample.seconds.get(stage, 0.0) for stage in LOOP}
    return {**stages, "other": max(sample.span - sum(stages.values()), 0.0)}


def median_sample(point: Point) -> Sample:
    """The sample with the median rate; of an even number, the slower one in the middle."""
    return sorted(point.samples, key=lambda sample: sample.rate)[(len(point.samples) - 1) // 2]


def bottleneck(point: Point, cores: int) -> Bottleneck:
    """What holds back the runs of a point that has samples, on a machine with ``cores``.

    If the network runs on a CPU and the cores are busy nearly all the time, it is what they do for
    most of it. Otherwise it is what the busiest of readers, network and main thread does most.
    """
    sample = median_sample(point)
    found = {occupant.who: occupant for occupant in occupants(sample)}
    busiest = next(iter(found.values()))
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
        all_cores = "the one core is" if cores == 1 else f"all {cores} cores are"
        words = (
            f"{WORDS[stage]}: {all_cores} busy {used:.0%} of the time, and this is "
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
            f"{counted(sample.workers, 'worker')} {share}, {'they' if plural else 'it'} could "
            f"feed {reading:,.0f} images/s, and the network could take {network:,.0f}: {remedy}"
        )
    if busiest.stage in READING:
        return (
            f"the main process reads by itself, {share}, and the network could take "
            f"{network:,.0f} images/s: more workers"
        )
    return f"the main process is {share}: a faster disk for the report"
