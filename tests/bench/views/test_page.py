from dataclasses import replace

import pytest

from batchdigit.bench.measurement import Measurement, Point
from batchdigit.bench.views.page import page
from batchdigit.bench.views.shown import Shown
from tests.support.measurements import (
    ENGINES,
    ONNX,
    TORCH,
    failed_point,
    measurement,
    point,
    sample,
    sweep,
)
from tests.support.pages import Page, assert_nothing_is_fetched

SVG = "<?xml version='1.0'?>\n<!-- a plot --><svg><title>plot</title></svg>\n"


def filled(measured: Measurement) -> str:
    return page(Shown(measured), SVG)


def rows_of(*points: Point) -> list[list[str]]:
    return Page(filled(measurement(*points))).rows


def test_page_has_a_row_for_each_setting_the_fastest_first() -> None:
    rows = rows_of(
        point(replace(ONNX, batch_size=64, workers=2), [9_000.0, 10_000, 11_000]),
        point(replace(TORCH, batch_size=1_024, workers=0), [19_000.0, 20_000, 21_000], flips=2),
    )
    assert rows[0] == [
        "engine", "batch size", "workers", "images/s (median)", "5th to 95th percentile", "samples",
        "peak memory", "label flips",
    ]  # fmt: skip
    assert rows[1] == [
        "torch on cpu in fp32", "1,024", "0", "20,000", "19,100 to 20,900", "3", "300 MB",
        "2 of 1,000",
    ]  # fmt: skip
    assert rows[2][:4] == ["onnxruntime on cpu in fp32", "64", "2", "10,000"]


def test_column_is_shown_where_one_setting_has_a_value_for_it() -> None:
    known = point(ENGINES[4], samples=(sample(peak_device_memory=2_000_000_000),))
    rows = rows_of(point(TORCH), known)
    place = rows[0].index("peak device memory")
    assert [row[place] for row in rows[1:3]] == ["", "2,000 MB"]


def test_peak_of_memory_is_that_of_all_samples() -> None:
    samples = tuple(sample(peak_memory=size) for size in (1_000_000, 3_000_000, None, 2_000_000))
    rows = rows_of(point(TORCH, samples=samples))
    assert rows[1][rows[0].index("peak memory")] == "3 MB"


def test_best_setting_is_marked() -> None:
    text = filled(measurement(point(TORCH), point(ONNX, [2000.0])))
    assert text.count('<tr class="best">') == 1
    best = text[text.index('<tr class="best">') :]
    assert "onnxruntime" in best[: best.index("</tr>")]


def test_settings_that_are_not_shown_are_named_with_the_reason() -> None:
    hidden = point(TORCH, [77_777.0], parity=None)
    failed = failed_point(ENGINES[2], "there is no bf16 here")
    rows = rows_of(point(ONNX), hidden, failed)
    assert ["setting", "why"] in rows
    assert [TORCH.label, "no parity"] in rows
    assert [ENGINES[2].label, "there is no bf16 here"] in rows
    assert not any("77,777" in cell for row in rows for cell in row)
    assert ["setting", "why"] not in rows_of(point(ONNX))


def test_machine_model_and_versions_are_told_unless_nothing_is_known() -> None:
    measured = measurement(point(ONNX))
    page = Page(filled(measured))
    assert ["processor", "Some Processor"] in page.rows
    assert ["sha256", "0123456789abcdef" * 4] in page.rows
    assert ["torch", "2.10.0"] in page.rows
    assert page.tags.count("h2") == 6
    bare = replace(measured, machine={}, model={}, source={}, method={}, versions={})
    assert Page(filled(bare)).tags.count("h2") == 1


@pytest.mark.parametrize("measured", [sweep(1, (256,), (2,)), sweep(6, (16, 64, 256), (0, 2))])
def test_page_is_well_formed_and_loads_nothing(measured: Measurement) -> None:
    text = filled(measured)
    assert text.startswith("<!DOCTYPE html>\n")
    assert text.endswith("</html>\n")
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in text
    assert_nothing_is_fetched(text)
    assert "script" not in Page(text).tags


def test_plot_is_a_part_of_the_page_without_what_only_a_file_begins_with() -> None:
    text = filled(measurement(point(ONNX)))
    assert "<svg><title>plot</title></svg>" in text
    assert "<?xml" not in text
    assert "a plot" not in text


def test_names_cannot_leave_their_place() -> None:
    name = "\"><script>alert(1)</script>&amp;'{{ 7 * 7 }}"
    measured = measurement(
        point(replace(ONNX, backend=name)),
        failed_point(TORCH, name),
        failed_point(ENGINES[4], name),
    )
    measured = replace(measured, started=name, machine={name: name}, model={"path": name})
    text = filled(measured)
    found = Page(text)
    assert "script" not in found.tags
    assert ["torch on cpu in fp32, batch auto, workers auto", name] in found.rows
    assert [name, name] in found.rows
    assert name not in text
