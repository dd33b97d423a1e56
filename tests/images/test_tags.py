"""Tags that claim more than any image needs are refused; all others are left to Pillow."""

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from batchdigit.errors import ImageError
from batchdigit.images.tags import MAX_TAGS, MAX_VALUES, check_tags
from tests.support.tagged import SIZES, directory, overlapping, saved, tagged

NUMBERS = [kind for kind in SIZES if kind not in (1, 2, 7)]


@pytest.mark.parametrize("kind", NUMBERS)
@pytest.mark.parametrize("below", [None, 34665, 34853, 40965])
@pytest.mark.parametrize("pixels", [b"", b"\xff" * 784])
def test_many_values_are_refused(kind: int, below: int | None, pixels: bytes) -> None:
    check_tags(tagged(kind, MAX_VALUES - 100, below=below, pixels=pixels))
    with pytest.raises(ImageError, match="more than 300000 values in its tags"):
        check_tags(tagged(kind, MAX_VALUES + 1, below=below, pixels=pixels))


def test_marks_before_exif_are_taken_off_as_pillow_does() -> None:
    exif = b"Exif\0\0" * 2 + tagged(3, MAX_VALUES + 1, number=274)
    found = Image.Exif()
    found.load(exif)
    assert 274 in found  # the control: Pillow reads what is behind both
    with pytest.raises(ImageError, match="more than 300000 values in its tags"):
        check_tags(exif)


@pytest.mark.parametrize("kind", [1, 2, 7])
def test_bytes_and_text_may_be_long(kind: int) -> None:
    """Pillow keeps them as they are."""
    check_tags(tagged(kind, 5_000_000))


def test_bytes_may_not_be_claimed_again_and_again() -> None:
    check_tags(overlapping(10, 100_000))
    with pytest.raises(ImageError, match="claim the same bytes"):
        check_tags(overlapping(12, 100_000))


def test_tile_is_limited() -> None:
    tile = tagged(3, 1, tag322=(4, 1, 1_000), tag323=(4, 1, 1_000))
    check_tags(tile, 1_000_000)
    check_tags(tile)
    with pytest.raises(ImageError, match="a tile of more than 999999 pixels") as caught:
        check_tags(tile, 999_999)
    assert caught.value.stage == "too-large"


def test_number_of_tags_is_limited_in_big_tiff() -> None:
    start = b"II+\0\x08\0\0\0" + struct.pack("<Q", 16)
    check_tags(start + struct.pack("<Q", MAX_TAGS))
    with pytest.raises(ImageError, match=f"more than {MAX_TAGS} tags"):
        check_tags(start + struct.pack("<Q", MAX_TAGS + 1))


def test_big_tiff_is_walked() -> None:
    entry = struct.pack("<HHQQ", 50_000, 3, MAX_VALUES + 1, 16)
    data = b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 1) + entry + bytes(2 * MAX_VALUES)
    with pytest.raises(ImageError, match="values in its tags"):
        check_tags(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"II*\0",
        b"II*\0\xff\xff\xff\xff",
        b"II*\0\x08\0\0\0\xff\xff",  # the tags are not there
        b"II*\0\x08\0\0\0" + directory({34665: (4, 1, 8)}),  # which refers to itself
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01" + bytes(12),
        b"II*\0\x08\0\0\0" + directory({274: (3, 4_000_000_000, 8)}),  # more than there is
        b"II*\0\x08\0\0\0" + directory({274: (99, 10, 8)}),  # of an unknown type
        b"another format",
    ],
)
def test_what_is_broken_is_left_to_pillow(data: bytes) -> None:
    check_tags(data, 100)


@given(st.binary(max_size=200), st.sampled_from([b"II*\0", b"MM\0*", b"II+\0", b"Exif\0\0II*\0"]))
def test_any_bytes_are_looked_through(data: bytes, start: bytes) -> None:
    with contextlib.suppress(ImageError):
        check_tags(start + data, 100)


def test_what_pillow_writes_passes() -> None:
    exif = Image.Exif()
    exif[274] = 6
    exif[0x010E] = "a digit"
    check_tags(exif.tobytes())
    check_tags(saved("TIFF", exif=exif.tobytes()), 784)


@pytest.mark.parametrize("kind", [3, 4, 6, 8, 9, 13])
def test_directory_below_is_found_whatever_type_its_place_has(kind: int) -> None:
    """Pillow takes any integer for the place of a directory."""
    data = bytearray(tagged(3, MAX_VALUES + 1, below=34665))
    assert data[10 + 2 : 10 + 4] == struct.pack("<H", 4)
    data[10 + 2 : 10 + 4] = struct.pack("<H", kind)
    with pytest.raises(ImageError, match="values in its tags"):
        check_tags(bytes(data))


def test_largest_of_several_sizes_of_a_tile_counts() -> None:
    tags = [(322, 3, 1, 32_000), (323, 3, 1, 32_000), (322, 3, 1, 16), (323, 3, 1, 16)]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    data = b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4)
    with pytest.raises(ImageError, match="a tile of more than"):
        check_tags(data, 100_000_000)
    inner = struct.pack("<H", 2) + entries[24:]
    outer = [*tags[:2], (34665, 4, 1, 8 + 2 + 36 + 4)]
    first = struct.pack("<H", 3) + b"".join(struct.pack("<HHII", *tag) for tag in outer) + bytes(4)
    with pytest.raises(ImageError, match="a tile of more than"):
        check_tags(b"II*\0\x08\0\0\0" + first + inner, 100_000_000)
