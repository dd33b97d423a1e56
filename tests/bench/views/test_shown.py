from dataclasses import replace

import pytest

from batchdigit.bench.measurement import Setting
from batchdigit.bench.views.shown import MAX_ENGINES, Shown, in_words, short
from batchdigit.errors import BatchdigitError
from tests.support.measurements import GPU, ONNX, TORCH, failed_point, measurement, point, sweep


def test_only_points_with_samples_and_parity_are_shown() -> None:
    hidden = point(TORCH, [77_777.0], parity=None)
    shown = Shown(measurement(point(ONNX), hidden, failed_point(GPU, "no memory")))
    assert shown.measured == [point(ONNX)]
    assert any("(2 of 3)" in note for note in shown.notes)


def test_nothing_to_show_is_an_error() -> None:
    with pytest.raises(BatchdigitError, match="nothing to draw"):
        _ = Shown(measurement(failed_point(GPU, "no memory"))).measured


def test_fastest_engines_are_drawn_and_the_others_counted() -> None:
    settings = [Setting("torch", f"cuda:{number}", "fp16") for number in range(MAX_ENGINES + 3)]
    points = [point(one, [1000.0 + place]) for place, one in enumerate(settings)]
    shown = Shown(measurement(*points))
    assert shown.engines == [one.engine for one in reversed(settings[3:])]
    assert {one.setting for one in shown.points} == set(settings[3:])
    assert shown.notes[-1] == f"The {MAX_ENGINES} fastest engines are drawn; 3 more are not shown."


def test_best_point_is_the_advised_one_or_else_the_fastest() -> None:
    measured = measurement(point(ONNX, [1000.0]), point(TORCH, [2000.0]))
    assert Shown(replace(measured, best=ONNX)).best.setting == ONNX
    assert Shown(replace(measured, best=GPU)).best.setting == TORCH
    assert Shown(replace(measured, best=None)).best.setting == TORCH


@pytest.mark.parametrize(
    ("change", "title"),
    [
        ({}, "Some Processor, 2 cores · 2026-01-02 03:04 · model CNN.pt"),
        ({"model": {"name": "Mine"}}, "Some Processor, 2 cores · 2026-01-02 03:04 · model Mine"),
        ({"machine": {}, "model": {}}, "unknown machine · 2026-01-02 03:04 · model unknown"),
        (
            {"machine": {"cpu": "C", "gpu": "G"}, "model": {"sha256": "0123456789abcdef"}},
            "C, G · 2026-01-02 03:04 · model 0123456789ab",
        ),
        ({"machine": {"ram": 8}}, "ram 8 · 2026-01-02 03:04 · model CNN.pt"),
    ],
)
def test_title_has_what_is_known_of_machine_date_and_model(
    change: dict[str, object], title: str
) -> None:
    assert Shown(replace(measurement(point(ONNX)), **change)).title == title  # type: ignore[arg-type]


def test_notes_say_how_many_images_and_samples_there_were() -> None:
    shown = Shown(sweep(2, (16, 64), (1, 2), samples=4))
    assert "a run over 1,000 images, each point the median of 4 samples" in shown.notes[0]


def test_used_numbers_and_not_the_given_ones_are_said() -> None:
    assert in_words(point(TORCH)) == "batch 256, 1 worker"
    assert in_words(point(replace(TORCH, batch_size=1024, workers=2))) == "batch 1,024, 2 workers"


def test_long_name_is_cut() -> None:
    assert short("x" * 100) == "x" * 39 + "…"
