from dataclasses import replace

from batchdigit.bench.measurement import Setting
from batchdigit.bench.views.table import measurement_lines
from tests.support.measurements import (
    GPU,
    ONNX,
    TORCH,
    failed_point,
    measurement,
    point,
    sample,
)


def command_of(setting: Setting) -> str:
    return f"batchdigit run images {' '.join(setting.options)}"


def lines_of(*arguments: object, **options: object) -> list[str]:
    return list(measurement_lines(measurement(*arguments, **options), command_of))  # type: ignore[arg-type]


def line_with(lines: list[str], text: str) -> str:
    (found,) = [line for line in lines if text in line]
    return found


def test_points_are_shown_with_spread_and_parity_the_fastest_first() -> None:
    lines = lines_of(point(TORCH, (900.0, 1000.0, 1100.0)), point(ONNX, (2000.0,), flips=1))
    rows = [line.split() for line in lines if line.startswith("  torch on") or "(once)" in line]
    assert rows[0][:8] == ["onnxruntime", "on", "cpu", "in", "fp32", "256", "auto", "1"]
    assert rows[0][-1] == "1/1000"
    assert "1,000" in rows[1]
    assert "(910 to 1,090; 3)" in " ".join(rows[1])


def test_speed_without_parity_is_not_shown() -> None:
    lines = lines_of(point(TORCH), point(ONNX, (777_000.0,), parity=None))
    assert not any("777,000" in line for line in lines)


def test_what_could_not_be_measured_is_said_once() -> None:
    settings = [replace(GPU, batch_size=size) for size in (1, 2, 3)]
    failed = [failed_point(one, "no memory; less") for one in settings]
    lines = lines_of(point(TORCH), *failed)
    assert line_with(lines, "not measured") == (
        "not measured: torch on cuda in fp16, batch 1, workers auto and 2 more: no memory; less"
    )


def test_gpu_is_compared_with_the_best_cpu() -> None:
    points = (point(TORCH, (1000.0,)), point(ONNX, (2000.0,)), point(GPU, (10_000.0,)))
    lines = lines_of(*points, starts={TORCH: 1.5, ONNX: 0.5, GPU: 4.5})
    # (4.5 - 0.5) s / (1/2000 - 1/10000) s an image
    assert line_with(lines, "GPU against CPU") == (
        "GPU against CPU: torch on cuda in fp16 does 5.00 times the images/s of "
        "onnxruntime on cpu in fp32; start-up included, it is done first from 10,000 images on"
    )
    assert line_with(lines, "best for 1,000 images").endswith(command_of(ONNX))
    assert line_with(lines, "best from 10,000 images on").endswith(command_of(GPU))


def test_ratio_has_a_spread_where_both_were_measured_more_than_once() -> None:
    lines = lines_of(point(TORCH, (1000.0, 1000.0)), point(GPU, (4000.0, 6000.0)))
    assert "5.00 times the images/s of torch on cpu in fp32 (4.10 to 5.90)" in line_with(
        lines, "GPU against CPU"
    )


def test_error_rows_and_readers_that_are_not_advised_are_pointed_out() -> None:
    alone = point(replace(TORCH, workers=0), samples=(sample(workers=0),))
    whole = measurement(point(TORCH), alone)
    whole = replace(whole, source={**whole.source, "failed": 3})
    lines = list(measurement_lines(whole, command_of))
    assert "3 of 1000 images that were compared are error rows" in lines
    assert line_with(lines, "0 workers are not advised")


def test_command_that_took_longer_than_expected_is_pointed_out() -> None:
    lines = lines_of(point(TORCH, (2000.0,)))  # 6 s were expected
    assert line_with(lines, "tried:").endswith(
        "92% more time than expected: other programs were busy, or more --seconds are needed"
    )


def test_nobody_is_said_to_be_done_first_where_a_start_is_not_known() -> None:
    lines = lines_of(point(TORCH, (1000.0,)), point(ONNX, (2000.0,)), starts={TORCH: 1.0})
    words = " ".join(" ".join(lines).split())
    assert not any(said in words for said in ("always", "never", "on 0/"))


def test_lines_say_that_no_gpu_was_measured() -> None:
    assert "no GPU was measured" in lines_of(point(TORCH))


def test_advice_says_what_to_expect_and_what_came_of_it() -> None:
    lines = lines_of(point(TORCH, (1000.0,)))
    assert line_with(lines, "after 1.00 s of start") == (
        "  1,000 images/s after 1.00 s of start: 10,000 images take 11.00 s, 909 images/s in all"
    )
    assert "the command took 11.50 s for 10,000 images" in line_with(lines, "tried:")


def test_columns_without_values_are_left_out() -> None:
    heading = line_with(lines_of(point(TORCH)), "CPU/image")
    assert "energy" not in heading
    assert "GPU memory" not in heading
    known = sample(joules=5.0, peak_device_memory=2_000_000_000)
    lines = lines_of(point(GPU, samples=(known,)))
    assert "energy/image" in line_with(lines, "CPU/image")
    assert line_with(lines, "5.00 mJ").count("2,000 MB") == 1


def test_nothing_measured_is_no_error() -> None:
    lines = lines_of(failed_point(TORCH, "broken; mend it"))
    assert lines[-1] == (
        "not measured: torch on cpu in fp32, batch auto, workers auto: broken; mend it"
    )


def test_where_the_time_goes_is_said_for_each_image() -> None:
    lines = lines_of(point(TORCH, (1000.0,)))
    assert "torch on cpu in fp32, batch auto, workers auto: 1000.0 µs per image" in lines
    assert line_with(lines, "the main process") == (
        "  the main process waits 40.0 for images and 900.0 for the network, and spends "
        "journal 10.0, write 40.0, other 10.0"
    )
    assert line_with(lines, "work of all").startswith(
        "  work of all, µs per image: read 50.0, decode 100.0, fit 50.0, network 1000.0; busy: "
    )
