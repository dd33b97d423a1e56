"""Plots of measurements: their numbers, their safety, and that a browser shows them."""

import io
import os
import re
import shutil
import subprocess
import sys
import threading
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from batchdigit.bench.measurement import Measurement, Setting
from batchdigit.bench.views.plot import FORMATS, check_plot_path, draw
from batchdigit.errors import BatchdigitError, OutputError, UsageError
from tests.support.measurements import (
    ENGINES,
    ONNX,
    TORCH,
    failed_point,
    measurement,
    point,
    sweep,
)
from tests.support.pages import Page, assert_nothing_is_fetched
from tests.test_public import imported_by

CASES = {
    "one point": sweep(1, (256,), (2,), samples=1),
    "one batch size": sweep(6, (256,), (0, 2)),
    "one engine": sweep(1, (16, 64, 256), (0, 1, 2, 4)),
    "sixty points": sweep(6, (16, 64, 256, 1024, 4096), (0, 2)),
    "many engines": measurement(
        *(point(Setting("torch", f"cuda:{number}", "fp16"), [1e4, 2e4]) for number in range(20))
    ),
    "many sizes": sweep(1, tuple(range(1, 100, 3)), (2,)),
    "no starts": replace(sweep(2, (16, 64), (2,)), starts=()),
    "far apart": measurement(point(ONNX, [3.0, 4.0]), point(TORCH, [5e6, 6e6])),
    "bare": replace(sweep(1, (64,), (2,)), machine={}, model={}, source={}, method={}, versions={}),
}


def drawn(measured: Measurement, folder: Path, name: str) -> bytes:
    path = folder / name
    draw(measured, path)
    assert [one.name for one in folder.iterdir()] == [name]
    data = path.read_bytes()
    path.unlink()
    return data


def texts(svg: bytes) -> list[str]:
    elements = ET.fromstring(svg).iter()  # noqa: S314
    return ["".join(one.itertext()) for one in elements if one.tag.endswith("}text")]


@pytest.mark.parametrize("case", CASES)
def test_every_kind_of_measurement_can_be_drawn(case: str, tmp_path: Path) -> None:
    svg = drawn(CASES[case], tmp_path, "plot.svg")
    shown = "\n".join(texts(svg))
    for title in ("Throughput", "Where the time goes", "From how many images on an engine pays"):
        assert title in shown
    for axis in ("batch size (images, log scale)", "images/s", "µs per image"):
        assert axis in shown
    assert_nothing_is_fetched(svg.decode())
    page = drawn(CASES[case], tmp_path, "plot.html").decode()
    Page(page)
    assert_nothing_is_fetched(page)


@pytest.mark.parametrize("case", ["one point", "sixty points", "many engines"])
def test_png_is_large_enough_and_not_blank(case: str, tmp_path: Path) -> None:
    with Image.open(io.BytesIO(drawn(CASES[case], tmp_path, "plot.png"))) as image:
        assert image.format == "PNG"
        assert image.width >= 1200
        pixels = np.asarray(image.convert("RGB"))
    assert_not_blank(pixels)


def assert_not_blank(pixels: np.ndarray) -> None:
    """Both halves show something on white, and the first engine's colour is in the picture."""
    for half in np.array_split(pixels, 2):
        ground = (half >= 250).all(axis=2).mean()
        assert 0.4 < ground < 0.99
    blue = np.abs(pixels.astype(int) - (0x00, 0x72, 0xB2)).max(axis=2) < 8
    assert blue.sum() > 500


def test_plot_says_what_was_measured(tmp_path: Path) -> None:
    measured = measurement(
        point(replace(ONNX, batch_size=64, workers=2), [9_000.0, 10_000, 11_000]),
        point(replace(TORCH, batch_size=1_024, workers=0), [19_000.0, 20_000, 21_000]),
        starts={ONNX: 0.5, TORCH: 2.0},
    )
    shown = texts(drawn(measured, tmp_path, "plot.svg"))
    assert "Some Processor, 2 cores · 2026-01-02 03:04 · model CNN.pt" in shown
    assert "advised: 20,000 images/s" in shown
    assert {"torch on cpu in fp32", "0 workers", "2 workers", "64", "1,024"} <= set(shown)
    # 2.0 s + N / 20,000 is less than 0.5 s + N / 10,000 from 30,000 on.
    assert "from 30,000 images: torch on cpu in fp32" in shown
    # An image takes 50 or 100 µs, and 0.05 + 0.1 + 0.05 + 1.0 times as much work.
    assert {"50 µs", "100 µs", "60 µs", "120 µs"} <= set(shown)
    assert any("over 1,000 images, each point the median of 3 samples" in text for text in shown)


def test_speed_without_parity_is_not_drawn(tmp_path: Path) -> None:
    hidden = point(TORCH, [77_777.0], parity=None)
    failed = failed_point(ENGINES[2], "there is no bf16 here")
    for name in ("plot.svg", "plot.html", "plot.png"):
        with pytest.raises(BatchdigitError, match="nothing to draw"):
            draw(measurement(hidden, failed), tmp_path / name)
    assert list(tmp_path.iterdir()) == []
    shown = texts(drawn(measurement(point(ONNX), hidden, failed), tmp_path, "plot.svg"))
    assert not any("77,777" in text for text in shown)
    assert any("(2 of 3)" in text for text in shown)


HOSTILE = (
    "<script src='http://evil.example/x.js'>alert(1)</script>\"&amp;$\\frac{$\x00\x1b[2J\ud800字]]>"
    "{{ 7 * 7 }}{% raw %}"
)


def hostile() -> Measurement:
    setting = Setting(HOSTILE, "cuda" + "x" * 500, "$x^2$")
    measured = measurement(
        point(setting, [1e4, 2e4]), point(TORCH, [1e3]), failed_point(ENGINES[2], HOSTILE)
    )
    return replace(
        measured,
        started=HOSTILE,
        machine={"processor": HOSTILE, HOSTILE: {HOSTILE: [HOSTILE, None, True, 3]}},
        model={"path": HOSTILE},
        source={"path": HOSTILE},
    )


def test_names_are_text_and_nothing_else(tmp_path: Path) -> None:
    svg = drawn(hostile(), tmp_path, "plot.svg").decode()
    page = drawn(hostile(), tmp_path, "plot.html").decode()
    for text in (svg, page):
        assert "<script" not in text
        assert "\x00" not in text
        assert "\x1b" not in text
        assert "&lt;script" in text
    assert any("<script" in text for text in texts(svg.encode()))
    assert "script" not in Page(page).tags
    assert "{{ 7 * 7 }}" in page
    drawn(hostile(), tmp_path, "plot.png")


def test_same_measurement_gives_the_same_bytes(tmp_path: Path) -> None:
    for suffix in FORMATS:
        first, second = (drawn(CASES["one engine"], tmp_path, f"plot{suffix}") for _ in range(2))
        assert first == second


@pytest.mark.parametrize("name", ["plot.pdf", "plot", "plot.jpg", ".html", "plot.svgz"])
def test_other_extensions_are_refused_before_anything_is_measured(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(UsageError, match=r"end it in one of \.html, \.png, \.svg"):
        check_plot_path(tmp_path / name)
    with pytest.raises(UsageError, match=re.escape(name)):
        draw(CASES["one point"], tmp_path / name)


def test_plot_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="create its folder first"):
        draw(CASES["one point"], tmp_path / "missing" / "plot.svg")
    with pytest.raises(UsageError, match=f"{tmp_path} is a folder; name a file in it"):
        check_plot_path(tmp_path)
    (tmp_path / "plot.svg").mkdir()
    with pytest.raises(OutputError, match="it is a folder; name a file in it"):
        check_plot_path(tmp_path / "plot.svg")


def test_extension_may_be_in_capitals(tmp_path: Path) -> None:
    assert drawn(CASES["one point"], tmp_path, "PLOT.PNG").startswith(b"\x89PNG")


DRAW = """
import logging, sys
from pathlib import Path
logging.basicConfig(level=logging.WARNING)
from batchdigit.bench.views.plot import draw
from tests.support.measurements import sweep
try:
    draw(sweep(1, (64,), (2,)), Path(sys.argv[1]))
except Exception as error:
    print(type(error).__name__, error)
"""


def draw_in_a_process(path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "always", "-c", DRAW, str(path)],
        env=os.environ | environment, capture_output=True, text=True, check=True,
    )  # fmt: skip


def test_drawing_needs_neither_a_home_nor_a_display_nor_anyones_settings(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("text.usetex: True\nnonsense\naxes.grid: perhaps\n")
    done = draw_in_a_process(
        tmp_path / "plot.svg",
        HOME=str(file / "home"), MPLCONFIGDIR=str(file / "settings"), MATPLOTLIBRC=str(file),
        MPLBACKEND="module://of_a_notebook", DISPLAY="",
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("", "")
    assert texts((tmp_path / "plot.svg").read_bytes())


@pytest.mark.parametrize("chosen", [None, "of the user"])
def test_drawing_leaves_the_environment_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: str | None
) -> None:
    monkeypatch.delenv("MPLCONFIGDIR", raising=False)
    if chosen:
        monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path / chosen))
    before = dict(os.environ)
    draw(CASES["one point"], tmp_path / "plot.svg")
    assert dict(os.environ) == before


@pytest.mark.parametrize(
    ("package", "what", "name"),
    [
        ("matplotlib", "matplotlib, which draws plots", "plot.svg"),
        ("matplotlib", "matplotlib, which draws plots", "plot.html"),
        ("jinja2", "jinja2, which fills pages", "plot.html"),
    ],
)
def test_missing_package_is_one_line_with_its_remedy(
    tmp_path: Path, package: str, what: str, name: str
) -> None:
    (tmp_path / f"{package}.py").write_text("raise ImportError('no such thing')")
    paths = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    done = draw_in_a_process(tmp_path / name, PYTHONPATH=paths)
    assert done.stderr == ""
    assert done.stdout == (
        f"BatchdigitError cannot load {what}: no such thing; pip install 'batchdigit[plot]'\n"
    )
    assert not (tmp_path / name).exists()


def test_picture_needs_no_jinja2(tmp_path: Path) -> None:
    (tmp_path / "jinja2.py").write_text("raise ImportError('no such thing')")
    paths = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    assert draw_in_a_process(tmp_path / "plot.svg", PYTHONPATH=paths).stdout == ""
    assert texts((tmp_path / "plot.svg").read_bytes())


def test_packages_for_plots_are_imported_only_for_drawing_and_never_pyplot() -> None:
    modules = ("matplotlib", "matplotlib.pyplot", "jinja2")
    assert imported_by("import batchdigit.bench.views.plot", modules) == set()
    code = (
        "from pathlib import Path; import batchdigit.bench.views.plot as plot; "
        "plot.check_plot_path(Path('plot{}'))"
    )
    assert imported_by(code.format(".svg"), modules) == {"matplotlib"}
    assert imported_by(code.format(".html"), modules) == {"matplotlib", "jinja2"}


# --- in a browser

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)

# What Chromium asks its maker, whatever page it shows: the time, and the like.
OF_THE_BROWSER = re.compile(r"(http://)?[a-z0-9.-]+\.(google|googleapis|gvt1)\.com(:443$|/)")


class Requests(ThreadingHTTPServer):
    """The browser's proxy for all hosts, itself included, which refuses every request."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Refusal)
        self.seen: list[str] = []


class _Refusal(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.seen.append(self.path)  # type: ignore[attr-defined]
        self.send_error(502)

    do_CONNECT = do_POST = do_GET

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def requests() -> Iterator[Requests]:
    with Requests() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def browse(path: Path, requests: Requests, folder: Path) -> tuple[np.ndarray, str]:
    """What Chromium shows of a file, and what it writes to its console.

    All its network requests go to ``requests``, which is its proxy.
    """
    picture = folder / "screenshot.png"
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
        "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", "--disable-extensions",
        f"--user-data-dir={folder / 'profile'}", "--window-size=1200,1600",
        f"--proxy-server=127.0.0.1:{requests.server_address[1]}", "--proxy-bypass-list=<-loopback>",
        "--enable-logging=stderr", "--virtual-time-budget=2000", f"--screenshot={picture}",
        path.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=120,
        env=os.environ | {"HOME": str(folder)},
    )  # fmt: skip
    said = "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)
    with Image.open(picture) as image:
        return np.asarray(image.convert("RGB")), said


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize("suffix", [".html", ".svg"])
@pytest.mark.parametrize("case", ["sixty points", "hostile"])
def test_browser_shows_the_plot_and_asks_no_one(
    tmp_path: Path, requests: Requests, suffix: str, case: str
) -> None:
    path = tmp_path / f"plot{suffix}"
    draw(CASES[case] if case in CASES else hostile(), path)
    pixels, said = browse(path, requests, tmp_path)
    assert said == ""
    assert [one for one in requests.seen if not OF_THE_BROWSER.match(one)] == []
    assert pixels.shape == (1600, 1200, 3)
    assert_not_blank(pixels[:1100])


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_what_a_page_asks_for_would_be_seen(tmp_path: Path, requests: Requests) -> None:
    """Its errors would be seen too; otherwise the test above would prove nothing."""
    path = tmp_path / "page.html"
    path.write_text(
        "<img src='http://elsewhere.example/pixel.png'><img src='http://127.0.0.1:8999/local.png'>"
        "<script>console.error('something is wrong')</script>"
    )
    _, said = browse(path, requests, tmp_path)
    assert "something is wrong" in said
    assert any("elsewhere.example/pixel.png" in one for one in requests.seen)
    assert any("127.0.0.1:8999/local.png" in one for one in requests.seen)


@pytest.mark.parametrize("suffix", FORMATS)
def test_only_plots_of_ours_are_replaced(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"plot{suffix}"
    if suffix == ".png":
        Image.new("RGB", (9, 9)).save(path)
    else:
        path.write_text("<p>my notes on batchdigit bench</p>")
    mine = path.read_bytes()
    for write in (check_plot_path, lambda path: draw(CASES["one point"], path)):
        with pytest.raises(OutputError, match="not a plot.*--force"):
            write(path)
    assert path.read_bytes() == mine
    draw(CASES["one point"], path, force=True)
    check_plot_path(path)
    draw(CASES["one batch size"], path)
