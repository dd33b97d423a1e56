"""What the directories of a file promise must be there, as decoders fill what is missing."""

import struct
from collections.abc import Callable
from functools import partial
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageDraw

from batchdigit.errors import ImageError
from batchdigit.images import boxes
from batchdigit.images.boxes import check_heif
from batchdigit.images.decode import decode_image, strict_pillow
from batchdigit.job import MAX_PIXELS
from tests.support.tagged import overlapping, tagged

PICTURE = Image.new("RGB", (96, 80), "white")
ImageDraw.Draw(PICTURE).ellipse((20, 10, 70, 70), outline="black", width=8)
check_jpeg2000 = partial(boxes.check_jpeg2000, max_pixels=MAX_PIXELS)
JPEG2000: dict[str, dict[str, object]] = {
    "jp2": {},
    "j2k": {"no_jp2": True},
    "tiles": {"no_jp2": True, "tile_size": (32, 32)},
}


def written(form: str, **options: object) -> bytes:
    file = BytesIO()
    PICTURE.save(file, form, **options)  # type: ignore[arg-type]
    return file.getvalue()


def refusal(check: Callable[[bytes], None], data: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        check(data)
    assert caught.value.stage == "decode"
    return caught.value.message


def box(kind: bytes, *contents: bytes) -> bytes:
    content = b"".join(contents)
    return struct.pack(">I4s", 8 + len(content), kind) + content


def heif(
    *extents: tuple[int, int],
    exif: bytes = b"",
    version: int = 1,
    method: int = 0,
    more: bytes = b"",
) -> bytes:
    """A file with one item of such extents, which is EXIF data if there is any."""
    kind = b"Exif" if exif else b"hvc1"
    start = box(b"ftyp", b"heic\0\0\0\0mif1heic")
    wide = "I" if version == 2 else "H"
    item = struct.pack(f">{wide}", 7) + (struct.pack(">H", method) if version else b"")
    item += struct.pack(">HIH", 0, 0, len(extents))
    item += b"".join(struct.pack(">II", *extent) for extent in extents)
    iloc = box(b"iloc", bytes([version, 0, 0, 0]), b"\x44\x40", struct.pack(f">{wide}", 1), item)
    infe = box(b"infe", b"\2\0\0\0", struct.pack(">HH4s", 7, 0, kind), b"\0")
    iinf = box(b"iinf", b"\0\0\0\0\0\1", infe)
    return start + box(b"meta", b"\0\0\0\0", iinf, iloc, more) + box(b"mdat", exif)


class TestHeif:
    @pytest.mark.parametrize("version", [0, 1, 2])
    def test_parts_must_lie_within_the_file(self, version: int) -> None:
        size = len(heif((0, 1), version=version))
        check_heif(heif((0, size), version=version))
        check_heif(heif((size - 5, 5), version=version))
        for beyond in ((0, size + 1), (size - 5, 6), (size + 1, 0)):
            message = refusal(check_heif, heif(beyond, version=version))
            assert message == "truncated: parts of the image are missing"

    def test_what_is_missing_from_a_file_of_pillows_is_noticed(self) -> None:
        data = written("AVIF")
        check_heif(data)
        assert "missing" in refusal(check_heif, data[:-1])

    def test_exif_is_looked_through_wherever_its_parts_lie(self) -> None:
        exif = b"\0\0\0\0" + tagged(3, 400_000)
        whole = len(heif((0, 1), (0, 1), exif=exif))
        start = whole - len(exif)
        parts = [(start, 9), (start + 9, len(exif) - 9)]
        assert "values in its tags" in refusal(check_heif, heif(*parts, exif=exif))
        check_heif(heif(*reversed(parts), exif=exif))  # which is no EXIF data

    def test_exif_counts_from_where_it_says_and_from_where_it_starts(self) -> None:
        exif = tagged(3, 400_000)
        for before in (b"\0\0\0\0", b"\0\0\0\6Exif\0\0", b"\0\0\0\0Exif\0\0", b"\0\0\0\3abc"):
            size = len(before + exif)
            start = len(heif((0, 1), exif=before + exif)) - size
            data = heif((start, size), exif=before + exif)
            assert "values in its tags" in refusal(check_heif, data)

    def test_exif_may_lie_beside_the_directory(self) -> None:
        exif = b"\0\0\0\0" + overlapping(20, 300_000)
        data = heif((0, len(exif)), exif=b"x", method=1, more=box(b"idat", exif))
        assert "the same bytes" in refusal(check_heif, data)

    def test_parts_and_boxes_are_counted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(boxes, "MAX_BOXES", 5)
        check_heif(heif(*[(0, 1)] * 5))
        assert refusal(check_heif, heif(*[(0, 1)] * 6)) == "more than 5 extents"
        assert refusal(check_heif, box(b"free") * 6) == "more than 5 boxes"

    def test_what_is_broken_is_left_to_the_decoder(self) -> None:
        data = heif((0, 20))
        for end in range(len(data) - 30):
            check_heif(data[:end])
        random = np.random.default_rng(0)
        for _ in range(2_000):
            damaged = bytearray(data)
            damaged[random.integers(8, len(data))] = random.integers(256)
            try:
                check_heif(bytes(damaged))
            except ImageError:
                continue


class TestJpeg2000:
    @pytest.mark.parametrize("name", JPEG2000)
    def test_file_that_ends_anywhere_is_no_image(self, name: str) -> None:
        data = written("JPEG2000", **JPEG2000[name])
        with strict_pillow():
            assert decode_image(data).size == PICTURE.size
        for end in range(13, len(data), 1 if name == "tiles" else 7):
            assert refusal(check_jpeg2000, data[:end]).startswith("truncated")

    def test_tile_that_is_missing_is_noticed_although_pillow_makes_it_black(self) -> None:
        data = written("JPEG2000", **JPEG2000["tiles"])
        place = data.rindex(b"\xff\x90\0\x0a")
        cut = data[:place] + b"\xff\xd9"
        image = Image.open(BytesIO(cut))
        assert image.getpixel((95, 79)) == (0, 0, 0)  # the control: that corner is white
        assert refusal(check_jpeg2000, cut) == "truncated: 1 of 9 tiles are missing"

    def test_last_tile_may_leave_its_length_open(self) -> None:
        data = bytearray(written("JPEG2000", **JPEG2000["j2k"]))
        place = data.index(b"\xff\x90\0\x0a")
        data[place + 6 : place + 10] = bytes(4)
        check_jpeg2000(bytes(data))
        assert refusal(check_jpeg2000, bytes(data[:-2])) == "truncated: it has no end"

    def test_numbers_of_tiles_and_components_are_limited(self) -> None:
        data = bytearray(written("JPEG2000", **JPEG2000["j2k"]))
        many = data.copy()
        many[8:16] = struct.pack(">2I", 60_000, 60_000)
        many[24:32] = struct.pack(">2I", 1, 1)
        assert refusal(check_jpeg2000, bytes(many)) == "more than 16384 tiles"
        many = data.copy()
        many[24:32] = bytes(8)
        assert refusal(check_jpeg2000, bytes(many)) == "tiles without a size"
        many = data.copy()
        many[40:42] = struct.pack(">H", 16_384)
        assert refusal(check_jpeg2000, bytes(many)) == "more than 4 components"
        place = data.index(b"\xff\x90\0\x0a")
        many = data[:place] + b"\xff\x64\0\2" * 100_001 + data[place:]
        assert refusal(check_jpeg2000, bytes(many)) == "more than 100000 segments"

    def test_tile_is_limited(self) -> None:
        data = written("JPEG2000", **JPEG2000["tiles"])  # of 32x32 pixels in three colours
        boxes.check_jpeg2000(data, 32 * 32)
        with pytest.raises(ImageError, match="a tile of more than 3069 numbers") as caught:
            boxes.check_jpeg2000(data, 32 * 32 - 1)
        assert caught.value.stage == "too-large"

    def test_header_may_not_claim_another_size(self) -> None:
        data = written("JPEG2000")
        place = data.index(b"ihdr") + 4
        other = data[:place] + struct.pack(">2I", 28, 28) + data[place + 8 :]
        assert refusal(check_jpeg2000, other) == "its header and its pixels differ in size"
