"""What a benchmark found, as lines for a terminal."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence

from batchdigit.bench.analysis.advice import Best, Command, best_points, done_first, leading_points
from batchdigit.bench.analysis.bottleneck import bottleneck, median_sample, occupants, own_stages
from batchdigit.bench.measurement import WORK, Check, Measurement, Point, Setting
from batchdigit.bench.views.numbers import megabytes, microseconds, spread, two_digits
from batchdigit.errors import one_line
from batchdigit.system.words import counted

UNSTEADY = 0.1  # a larger deviation from what was expected is pointed out
CommandOf = Callable[[Setting], str]


def measurement_lines(measurement: Measurement, command_of: CommandOf) -> Iterator[str]:
    """Everything on one page: machine, points, where the time goes, engines compared, advice.

    ``command_of`` gives the command line of a setting.
    """
    yield from _heading(measurement)
    yield ""
    yield from _table(map(_point_cells, _by_rate(measurement.points)), _POINT_HEADING)
    yield from _problems(measurement.points)
    yield from _cautions(measurement)
    images = int(measurement.source["images"])
    best = best_points(measurement.points, measurement.starts, images)
    if best is None:
        return
    leaders = leading_points(measurement.points)
    cores = int(measurement.machine["cores"])
    for point in leaders:
        yield ""
        yield from _where_time_goes(point, cores)
    yield ""
    yield from _table(
        (_engine_cells(point, leaders, measurement) for point in leaders), _ENGINE_HEADING
    )
    yield _gpu_against_cpu(leaders, measurement)
    yield ""
    yield from _advice(measurement, best, command_of)


def _by_rate(points: Iterable[Point]) -> list[Point]:
    """Points to show, the fastest first."""
    return sorted((point for point in points if point.is_shown), key=lambda point: -point.rate)


def _heading(measurement: Measurement) -> Iterator[str]:
    machine, model, source = measurement.machine, measurement.model, measurement.source
    yield (
        f"batchdigit {measurement.versions['batchdigit']} on "
        f"{counted(machine['cores'], 'core')} of "
        f"{machine['processor']}; devices: {', '.join(machine['devices'])}"
    )
    paths = one_line(", ".join(source["paths"])) or "digits of the package"
    yield (
        f"{counted(source['images'], 'image', separator=',')} in {paths}, read again and again, "
        f"so from memory; model {str(model['sha256'])[:12]}"
    )
    yield (
        "images/s once a run is under way: the median, in brackets the 5th and 95th percentile and "
        "how many samples; flips: labels unlike the reference's"
    )


_POINT_HEADING = (
    "", "engine", "batch", "workers", "images/s", "(p5 to p95; n)", "of network",
    "CPU/image", "energy/image", "memory", "GPU memory", "flips",
)  # fmt: skip


def _point_cells(point: Point) -> list[str]:
    setting, sample, parity = point.setting, median_sample(point), point.parity
    alone = statistics.median(point.network_rates) if point.network_rates else None
    cpu_seconds, joules = sample.cpu_seconds, sample.joules
    assert parity is not None  # noqa: S101  (those without are not shown)
    return [
        "",
        setting.engine,
        f"{sample.batch_size}{'' if setting.batch_size else ' auto'}",
        f"{sample.workers}{' auto' if setting.workers is None else ''}",
        f"{point.rate:,.0f}",
        f"({spread(point)}; {len(point.samples)})" if len(point.samples) > 1 else "(once)",
        "" if alone is None else f"{point.rate / alone:.0%}",
        "" if cpu_seconds is None else f"{microseconds(cpu_seconds, sample.images):.0f} µs",
        "" if joules is None else f"{joules / sample.images * 1e3:.2f} mJ",
        megabytes(sample.peak_memory),
        megabytes(sample.peak_device_memory),
        f"{parity.flips}/{parity.images}",
    ]


def _problems(points: Iterable[Point]) -> Iterator[str]:
    problems: dict[str, list[str]] = {}
    for point in points:
        if point.problem:
            problems.setdefault(point.problem, []).append(point.setting.label)
    for problem, labels in problems.items():
        yield (
            f"not measured: {labels[0]}"
            + (f" and {len(labels) - 1} more" if len(labels) > 1 else "")
            + f": {problem}"
        )


def _cautions(measurement: Measurement) -> Iterator[str]:
    if failed := measurement.source.get("failed"):
        yield (
            f"{failed} of {counted(measurement.source['compared'], 'image')} that were compared "
            f"{'is an error row' if failed == 1 else 'are error rows'}"
        )
    if any(point.samples[0].workers == 0 for point in measurement.points if point.is_shown):
        yield (
            "0 workers are not advised: a file that crashes its reader, or never answers, would "
            "stop the whole run"
        )


def _where_time_goes(point: Point, cores: int) -> Iterator[str]:
    sample = median_sample(point)

    def each(seconds: float) -> float:
        return microseconds(seconds, sample.images)

    own = {name: each(seconds) for name, seconds in own_stages(sample).items()}
    waits = f"waits {own.pop('read'):.1f} for images and {own.pop('predict'):.1f} for the network"
    rest = ", ".join(f"{name} {seconds:.1f}" for name, seconds in own.items() if seconds >= 0.05)
    work = ", ".join(
        f"{name} {each(sample.busy[name]):.1f}" for name in WORK if name in sample.busy
    )
    busy = ", ".join(f"{one.who} {one.share:.0%}" for one in occupants(sample))
    yield f"{point.setting.label}: {each(sample.span):.1f} µs per image"
    yield f"  the main process {waits}" + (f", and spends {rest}" if rest else "")
    yield f"  work of all, µs per image: {work}; busy: {busy}"
    yield f"  held back by {bottleneck(point, cores).words}"


_ENGINE_HEADING = (
    "", "engine", "images/s", "times", "start", "done first", "flips", "largest difference",
)  # fmt: skip


def _engine_cells(point: Point, leaders: Sequence[Point], measurement: Measurement) -> list[str]:
    setting, parity = point.setting, point.parity
    assert parity is not None  # noqa: S101  (those without are not shown)
    slowest = leaders[-1]
    start = measurement.start_of(setting)
    return [
        "",
        setting.engine,
        f"{point.rate:,.0f}",
        f"{point.rate / slowest.rate:.2f}{_ratio_spread(point, slowest)}",
        "" if start is None else f"{start:.2f} s",
        _done_first(point, leaders, measurement),
        f"{parity.flips}/{parity.images}",
        "(reference)" if parity.reference == setting.engine else f"{parity.difference:.1e}",
    ]


def _ratio_spread(point: Point, other: Point) -> str:
    """The range of the ratio of the rates; empty where one of them was measured only once."""
    if min(len(point.samples), len(other.samples)) < 2:
        return ""
    (low, high), (other_low, other_high) = point.spread, other.spread
    return f" ({low / other_high:.2f} to {high / other_low:.2f})"


def _done_first(point: Point, leaders: Iterable[Point], measurement: Measurement) -> str:
    """For how many images a whole command of ``point`` finishes before all others."""
    command = _command(point, measurement)
    others = [_command(other, measurement) for other in leaders if other is not point]
    known = [other for other in others if other is not None]
    if command is None or not known or len(known) < len(others):
        return ""
    found = done_first(command, known)
    if found is None:
        return "never"
    low, high = found
    if math.isinf(high):
        return f"from {two_digits(low)} images on" if low else "always"
    return (
        f"from {two_digits(low)} to {two_digits(high)} images"
        if low
        else f"up to {two_digits(high)} images"
    )


def _command(point: Point, measurement: Measurement) -> Command | None:
    start = measurement.start_of(point.setting)
    return None if start is None else Command(start, point.rate)


def _gpu_against_cpu(leaders: Sequence[Point], measurement: Measurement) -> str:
    cpu = [point for point in leaders if point.setting.device == "cpu"]
    gpu = [point for point in leaders if point.setting.device != "cpu"]
    if not gpu or not cpu:
        return f"no {'CPU' if gpu else 'GPU'} was measured"
    fast, slow = _command(gpu[0], measurement), _command(cpu[0], measurement)
    words = (
        f"GPU against CPU: {gpu[0].setting.engine} does {gpu[0].rate / cpu[0].rate:.2f} times "
        f"the images/s of {cpu[0].setting.engine}{_ratio_spread(gpu[0], cpu[0])}"
    )
    if fast is None or slow is None:
        return words
    when = _done_first(gpu[0], cpu[:1], measurement)
    when = "never done first" if when == "never" else f"done first {when}"
    return f"{words}; start-up included, it is {when}"


def _advice(measurement: Measurement, best: Best, command_of: CommandOf) -> Iterator[str]:
    here, fastest = best.here, best.fastest
    images = counted(measurement.source["images"], "image", separator=",")
    yield f"best for {images}: {command_of(here.setting)}"
    command, check = _command(here, measurement), measurement.check
    if command is not None:
        many = check.images if check else 10_000
        expected = command.seconds(many)
        yield (
            f"  {here.rate:,.0f} images/s after {command.start:.2f} s of start: {many:,} images "
            f"take {expected:.2f} s, {many / expected:,.0f} images/s in all"
        )
        if check:
            yield _tried(check, expected)
    if fastest.setting.engine != here.setting.engine:
        when = _done_first(fastest, [here], measurement)
        yield f"best {when}: {command_of(fastest.setting)}"


def _tried(check: Check, expected: float) -> str:
    seconds = statistics.median(check.seconds)
    words = (
        f"  tried: the command took {seconds:.2f} s for {check.images:,} images, "
        f"{check.images / seconds:,.0f} images/s in all"
    )
    if abs(seconds / expected - 1) <= UNSTEADY:
        return words
    return (
        f"{words}, {abs(seconds / expected - 1):.0%} {'more' if seconds > expected else 'less'} "
        "time than expected: other programs were busy, or more --seconds are needed"
    )


def _table(rows: Iterable[Sequence[str]], heading: Sequence[str]) -> Iterator[str]:
    """Rows in aligned columns, without those columns that are empty in every row."""
    cells = list(rows)
    kept = [
        column
        for column, title in enumerate(heading)
        if not title or any(row[column] for row in cells)
    ]
    lines = [[row[column] for column in kept] for row in (heading, *cells)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(kept))]
    for line in lines:
        yield "  ".join(
            f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)
        ).rstrip()
