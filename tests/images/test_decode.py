import os
import re
import socket
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from batchdigit.errors import ImageError
from batchdigit.images.decode import (
    _canvases,
    decode_image,
    decode_plain_png,
    strict_pillow,
)
from batchdigit.images.preprocess import ENOUGH_PIXELS
from batchdigit.sources.contents import read_file
from tests.support.odd_png import odd_png
from tests.support.platforms import needs_linux

GREY = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)


def encoded(form: str = "PNG", **options: object) -> bytes:
    buffer = BytesIO()
    Image.fromarray(GREY).save(buffer, form, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def refused(data: bytes) -> ImageError:
    with strict_pillow(), pytest.raises(ImageError) as caught:
        decode_image(data)
    return caught.value


class TestReadFile:
    def test_contents_are_returned(self, tmp_path: Path) -> None:
        path = tmp_path / "a.png"
        path.write_bytes(b"x" * 100_000)
        assert read_file(os.fsencode(path)) == b"x" * 100_000

    def test_missing_file_is_an_image_error(self, tmp_path: Path) -> None:
        with pytest.raises(ImageError, match="No such file") as caught:
            read_file(os.fsencode(tmp_path / "a.png"))
        assert caught.value.stage == "read"

    def test_fifo_neither_hangs_nor_is_read(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "a.png")
        with pytest.raises(ImageError, match="FIFO"):
            read_file(os.fsencode(tmp_path / "a.png"))

    def test_socket_is_not_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)  # a socket's path may have at most 107 bytes
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("a.png")
            with pytest.raises(ImageError) as caught:
                read_file(b"a.png")
        assert caught.value.stage == "read"

    @pytest.mark.parametrize("special", ["/dev/zero", "/"])
    def test_device_and_folder_are_not_read(self, special: str) -> None:
        with pytest.raises(ImageError, match="not a regular file"):
            read_file(os.fsencode(special))

    def test_link_is_read_only_when_asked(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").write_bytes(b"x")
        os.symlink("a.png", tmp_path / "b.png")
        link = os.fsencode(tmp_path / "b.png")
        with pytest.raises(ImageError, match="--follow-symlinks"):
            read_file(link)
        assert read_file(link, follow_symlinks=True) == b"x"

    def test_file_over_the_limit_is_not_read(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").write_bytes(b"x" * 11)
        with pytest.raises(ImageError, match="11 bytes") as caught:
            read_file(os.fsencode(tmp_path / "a.png"), max_bytes=10)
        assert caught.value.stage == "too-large"

    @pytest.mark.parametrize(("change", "word"), [(-1, "grew"), (1, "shrank")])
    def test_file_that_changes_while_it_is_read_is_an_error(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: int, word: str
    ) -> None:
        path = tmp_path / "a.png"
        path.write_bytes(b"x" * 1000)
        fstat = os.fstat

        def other_size(descriptor: int) -> os.stat_result:
            fields = list(fstat(descriptor))
            fields[6] += change
            return os.stat_result(fields)

        monkeypatch.setattr(os, "fstat", other_size)
        with pytest.raises(ImageError, match=word):
            read_file(os.fsencode(path))

    def test_file_that_is_written_to_while_it_is_read_is_an_error(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "a.png"
        path.write_bytes(b"x" * 1000)
        read = os.read

        def read_and_write(descriptor: int, size: int) -> bytes:
            data = read(descriptor, size)
            path.write_bytes(b"y" * 1000)
            os.utime(path, ns=(0, 0))
            return data

        monkeypatch.setattr(os, "read", read_and_write)
        with pytest.raises(ImageError, match="changed while it was being read"):
            read_file(os.fsencode(path))

    def test_short_reads_are_put_together(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "a.png"
        path.write_bytes(bytes(range(250)))
        read = os.read
        monkeypatch.setattr(os, "read", lambda descriptor, size: read(descriptor, min(size, 7)))
        assert read_file(os.fsencode(path)) == bytes(range(250))

    @needs_linux("/proc")
    def test_no_descriptor_is_left_open(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").write_bytes(b"x")
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            read_file(os.fsencode(tmp_path / "a.png"))
            with pytest.raises(ImageError):
                read_file(os.fsencode(tmp_path / "b.png"))
        assert len(os.listdir("/proc/self/fd")) == before


class TestDecodeImage:
    @pytest.mark.parametrize("form", ["PNG", "BMP", "GIF", "TIFF", "PPM"])
    def test_lossless_formats_keep_the_pixels(self, form: str) -> None:
        with strict_pillow():
            assert np.array_equal(np.asarray(decode_image(encoded(form)).convert("L")), GREY)

    @pytest.mark.parametrize("form", ["JPEG", "WEBP"])
    def test_lossy_formats_are_decoded(self, form: str) -> None:
        with strict_pillow():
            assert decode_image(encoded(form)).size == (28, 28)

    def test_format_follows_the_contents_not_the_name(self, tmp_path: Path) -> None:
        (tmp_path / "really-a-jpeg.png").write_bytes(encoded("JPEG"))
        with strict_pillow():
            data = read_file(os.fsencode(tmp_path / "really-a-jpeg.png"))
            assert decode_image(data).format == "JPEG"

    @pytest.mark.parametrize("form", ["SPIDER", "PCX", "TGA", "SGI", "PDF"])
    def test_formats_outside_the_list_are_refused(self, form: str) -> None:
        assert refused(encoded(form)).stage == "decode"

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS .*; run `git lfs pull`"),
            (b"<!DOCTYPE html><title>Sign in</title>", "a web page; download the file itself"),
            (b"%PDF-1.7\n", "a PDF; export its pages"),
            (b'{"error": "expired"}', "a JSON document; see what it says"),
        ],
    )
    def test_what_is_no_image_says_what_it_is(self, data: bytes, message: str) -> None:
        error = refused(data)
        assert error.stage == "decode"
        assert re.search(message, error.message)

    def test_broken_image_is_not_called_something_else(self) -> None:
        # These bytes are text, too.
        assert "not a whole image" in refused(b"GIF89a text").message

    def test_empty_file_is_refused(self) -> None:
        assert "empty" in refused(b"").message

    @pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM"])
    def test_every_truncation_is_refused(self, form: str) -> None:
        data = encoded(form, **({"quality": 90} if form == "JPEG" else {}))
        # GIF and JPEG end in a marker that comes after all pixels.
        whole = len(data) - {"GIF": 2, "JPEG": 2}.get(form, 0)
        for length in range(1, whole, 7):
            refused(data[:length])

    @pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM"])
    def test_file_with_its_end_missing_says_what_it_was(self, form: str) -> None:
        message = refused(encoded(form)[:-100]).message
        assert re.match(f"(truncated|damaged) {form}(:|$)", message)

    def test_what_pillow_does_not_know_is_not_called_damaged(self) -> None:
        data = bytearray(encoded("BMP"))
        data[28] = 5  # bits of a pixel
        assert refused(bytes(data)).message.startswith("BMP: Unsupported BMP pixel depth")

    def test_truncated_file_is_refused_though_the_process_tolerates_them(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
        refused(encoded("JPEG")[:-100])
        assert ImageFile.LOAD_TRUNCATED_IMAGES is True

    @pytest.mark.parametrize("factor", [1.5, 3])  # Pillow warns from 1 and raises from 2
    def test_too_many_pixels_are_refused_before_they_are_decoded(self, factor: float) -> None:
        limit = int(28 * 28 / factor)
        with strict_pillow(limit), pytest.raises(ImageError, match=f"{limit} pixels") as caught:
            decode_image(encoded())
        assert caught.value.stage == "too-large"

    def test_bomb_is_refused_by_its_header_alone(self) -> None:
        header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0)
        data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"x")
        assert refused(data + chunk(b"IEND", b"")).stage == "too-large"

    def test_message_is_the_same_each_time(self) -> None:
        assert refused(b"nothing known").message == refused(b"nothing known").message
        assert "0x" not in refused(b"nothing known").message

    @pytest.mark.parametrize(
        "error", [OSError, ValueError, SyntaxError, struct.error, ZeroDivisionError]
    )
    def test_whatever_pillow_raises_is_an_image_error(
        self, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
    ) -> None:
        def fail(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr(Image, "open", fail)
        assert refused(encoded("BMP")).stage == "decode"

    @pytest.mark.parametrize(
        "text", ["decoder error -9", "out of memory error when reading image file"]
    )
    def test_too_little_memory_is_not_called_damage(
        self, monkeypatch: pytest.MonkeyPatch, text: str
    ) -> None:
        def fail(*_: object, **__: object) -> None:
            raise OSError(text)

        monkeypatch.setattr(Image, "open", fail)
        with strict_pillow(), pytest.raises(MemoryError):
            decode_image(encoded("BMP"))

    def test_warnings_are_not_shown(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def warn(*_: object, **__: object) -> Image.Image:
            warnings.warn("odd metadata", UserWarning, stacklevel=1)
            return Image.fromarray(GREY)

        monkeypatch.setattr(Image, "open", warn)
        with strict_pillow():  # pytest is set to raise on any warning that gets out
            decode_image(encoded("BMP"))

    def test_c_code_prints_nothing_about_a_damaged_tiff(
        self, capfd: pytest.CaptureFixture[str]
    ) -> None:
        data = encoded("TIFF", compression="tiff_lzw")
        damaged = data[:20] + b"\xff" * 40 + data[60:]
        with Image.open(BytesIO(damaged)) as image, pytest.raises(OSError, match="-2"):
            image.load()
        assert capfd.readouterr().err  # the control: libtiff does print
        refused(damaged)
        assert capfd.readouterr().err == ""


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def plain_png(pixels: np.ndarray, **options: object) -> bytes:
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", **options)
    return buffer.getvalue()


def png_of(header: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG with the right checksums, whatever its chunks hold."""
    parts = [(b"IHDR", header), *chunks, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, body) for kind, body in parts)


def png_of_four_bits() -> bytes:
    """A grey PNG with two pixels in a byte, which Pillow before 13 cannot write."""
    header = struct.pack(">IIBBBBB", 28, 28, 4, 0, 0, 0, 0)
    return png_of(header, (b"IDAT", zlib.compress(bytes((1 + 14) * 28))))


def damaged_png(random: np.random.Generator) -> bytes:
    """A small PNG in which something is odd or wrong: a byte, its stream, header or rows."""

    def number(*bounds: int) -> int:
        return int(random.integers(*bounds))

    def altered(data: bytes) -> bytes:
        changed = bytearray(data)
        for _ in range(number(1, 4)):
            changed[number(len(changed))] ^= 1 << number(8)
        return bytes(changed[: number(len(changed))] if number(4) == 0 else changed)

    h, w = number(1, 40), number(1, 40)
    rows = random.integers(0, 256 if number(2) else 3, (h, w + 1), dtype=np.uint8)
    rows[:, 0] = random.integers(0, 5 if number(3) else 7, h)  # filters; there are five
    header = struct.pack(">IIBBBBB", w, h, 8, 0, 0, 0, 0)
    stream = rows.tobytes()
    body, cut = zlib.compress(stream), number(10)
    extra = (b"tRNS", b"\0\7"), (b"gAMA", b"\0\0\1\0"), (b"eXIf", b"MM"), (b"IDAT", b"")
    kinds = (
        lambda: altered(png_of(header, (b"IDAT", body))),
        lambda: png_of(header, (b"IDAT", altered(body))),
        lambda: png_of(altered(header), (b"IDAT", body)),
        lambda: png_of(header, (b"IDAT", zlib.compress(stream[: number(len(stream) + 1)]))),
        lambda: png_of(header, (b"IDAT", zlib.compress(stream + random.bytes(number(100))))),
        lambda: png_of(header, (b"IDAT", body + random.bytes(number(9)))),
        lambda: png_of(header, (b"IDAT", body[:cut]), (b"IDAT", body[cut:])),
        lambda: png_of(header, extra[number(4)], (b"IDAT", body)),
    )
    return kinds[number(len(kinds))]()


class TestDecodePlainPng:
    @pytest.mark.parametrize("size", [(28, 28), (1, 1), (3, 200), (200, 300)])
    @pytest.mark.parametrize("level", [0, 1, 9])
    def test_pixels_are_those_that_went_in(self, size: tuple[int, int], level: int) -> None:
        pixels = np.random.default_rng(1).integers(0, 256, size, dtype=np.uint8)
        pixels[: size[0] // 2] //= 64  # other rows, other filters
        with strict_pillow():
            decoded = decode_plain_png(plain_png(pixels, compress_level=level))
        assert decoded is not None
        assert np.array_equal(decoded, pixels)

    @pytest.mark.parametrize("count", [5_000, pytest.param(100_000, marks=pytest.mark.slow)])
    def test_pixels_if_any_are_those_of_decode_image(self, count: int) -> None:
        random = np.random.default_rng(3)
        taken = 0
        with strict_pillow(1_000_000):  # a damaged size within the usual limit may take gigabytes
            for _ in range(count):
                data = damaged_png(random)
                pixels = decode_plain_png(data)
                if pixels is not None:
                    taken += 1
                    image = decode_image(data)
                    assert image.mode == "L"
                    assert not image.info
                    assert np.array_equal(np.asarray(image), pixels)
        assert taken > count / 10

    def test_image_that_ends_early_shows_nothing_of_the_one_before(self) -> None:
        header = struct.pack(">IIBBBBB", 28, 28, 8, 0, 0, 0, 0)
        early = png_of(header, (b"IDAT", zlib.compress((b"\0" + b"\x07" * 28) * 10)))
        with strict_pillow():
            for shape in ((28, 28), (28, 28), (10, 70)):
                assert decode_plain_png(plain_png(np.full(shape, 255, np.uint8))) is not None
                pixels = decode_plain_png(early)
                assert pixels is not None
                assert np.array_equal(pixels, np.asarray(decode_image(early)))
                assert pixels.max() == 7

    def test_images_do_not_share_their_pixels(self) -> None:
        black, white = (plain_png(np.full((28, 28), grey, np.uint8)) for grey in (0, 255))
        with strict_pillow():
            first = decode_plain_png(black)
            assert decode_plain_png(white) is not None
        assert first is not None
        assert not first.any()

    def test_threads_do_not_share_what_they_decode_into(self) -> None:
        files = [plain_png(np.full((28, 28), grey, np.uint8)) for grey in range(0, 256, 32)]

        def greys(place: int) -> set[int]:
            found: set[int] = set()
            with strict_pillow():
                for _ in range(2000):
                    pixels = decode_plain_png(files[place])
                    assert pixels is not None
                    found.update(np.unique(pixels).tolist())
            return found

        with ThreadPoolExecutor(len(files)) as pool:
            assert list(pool.map(greys, range(8))) == [{grey} for grey in range(0, 256, 32)]

    def test_pillow_need_not_share_its_memory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        frombuffer = Image.frombuffer
        monkeypatch.setattr(Image, "frombuffer", lambda *args: frombuffer(*args).copy())
        _canvases.of_size.cache_clear()
        with strict_pillow():
            pixels = decode_plain_png(encoded())
        _canvases.of_size.cache_clear()
        assert pixels is not None
        assert np.array_equal(pixels, GREY)

    @pytest.mark.parametrize(
        "odd",
        [
            png_of_four_bits(),
            plain_png(GREY, transparency=0),
            plain_png(GREY, dpi=(72, 72)),
            plain_png(GREY.astype(np.uint16)),
            plain_png(np.dstack([GREY, GREY, GREY])),
            plain_png(GREY > 9),
            encoded("JPEG"),
            b"",
            b"\x89PNG\r\n\x1a\n",
        ],
        ids=[
            "4 bits",
            "transparent",
            "dpi",
            "16 bits",
            "colour",
            "1 bit",
            "JPEG",
            "empty",
            "start",
        ],
    )
    def test_anything_out_of_the_ordinary_is_left_to_decode_image(self, odd: bytes) -> None:
        with strict_pillow():
            assert decode_plain_png(odd) is None

    def test_limit_on_pixels_holds(self) -> None:
        with strict_pillow(783):
            assert decode_plain_png(encoded()) is None
        with strict_pillow(784):
            assert decode_plain_png(encoded()) is not None


def test_large_jpeg_is_decoded_smaller() -> None:
    buffer = BytesIO()
    Image.new("L", (4000, 3000), 200).save(buffer, "JPEG")
    with strict_pillow():
        assert decode_image(buffer.getvalue()).size == (4000, 3000)
        assert decode_image(buffer.getvalue(), enough=ENOUGH_PIXELS).size == (1000, 750)
    buffer = BytesIO()
    Image.new("L", (6000, 10), 200).save(buffer, "JPEG")
    with strict_pillow():
        assert min(decode_image(buffer.getvalue(), enough=ENOUGH_PIXELS).size) >= 1


@pytest.mark.parametrize("count", [3_000, pytest.param(300_000, marks=pytest.mark.slow)])
def test_short_way_sees_what_the_long_way_sees(count: int) -> None:
    """Canvases are used from file to file, on purpose: nothing of one may show in the next."""
    accepted = 0
    with strict_pillow():
        for seed in range(count):
            data = odd_png(seed)
            short = decode_plain_png(data)
            try:
                long = decode_image(data)
            except ImageError:
                assert short is None, seed
                continue
            if short is not None:
                accepted += 1
                assert long.mode == "L", seed
                assert np.array_equal(np.asarray(long), short), seed
                assert not long.info, seed
    assert accepted > 0.2 * count
