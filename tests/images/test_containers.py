"""What surrounds the pixels is counted, whatever the format; what is broken is left to Pillow."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchdigit.errors import ImageError
from batchdigit.images.containers import (
    MAX_COMMENTS,
    MAX_EXIF,
    MAX_PARTS,
    check_container,
    check_exif,
    check_png,
)
from tests.support.tagged import (
    chunk,
    gif,
    jpeg,
    overlapping,
    png,
    saved,
    segment,
    tagged,
)

PIXELS = 100_000_000


def refusal(data: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        check_container(data, PIXELS)
    return caught.value.message


def many(data: bytes, count: int = MAX_PARTS + 1) -> bytes:
    return data * count


TOO_MUCH = {
    "chunks": (lambda: png(chunks=many(chunk(b"prVt", b""))), "more than 100000 chunks"),
    "texts": (lambda: png(chunks=many(chunk(b"tEXt", b"k\0"))), "more than 100000 chunks"),
    "segments": (lambda: jpeg(segments=many(segment(0xE5, b""))), "more than 100000 segments"),
    "segments behind an end": (
        lambda: jpeg(segments=b"\xff\xd9" + many(segment(0xFE, b""))),
        "more than 100000 segments",
    ),
    "fill bytes": (lambda: jpeg(segments=many(b"\xff") + segment(0xE5, b"")), "100000 segments"),
    "blocks": (lambda: gif(MAX_PARTS + 1), "more than 100000 blocks"),
    "junk": (lambda: b"GIF89a" + bytes(7) + many(b"x"), "more than 100000 blocks"),
    "EXIF data": (lambda: jpeg(bytes(MAX_EXIF + 1)), "16777216 bytes of EXIF data"),
    "values": (lambda: jpeg(tagged(6, 400_000)), "values in its tags"),
    "values of TIFF": (lambda: tagged(3, 400_000, pixels=bytes(784)), "values in its tags"),
    "one place": (lambda: jpeg(overlapping(300, 60_000)), "claim the same bytes"),
    "pictures": (
        lambda: jpeg(segments=segment(0xE2, b"MPF\0" + overlapping(50, 60_000))),
        "claim the same bytes",
    ),
    "tile": (
        lambda: tagged(3, 1, pixels=bytes(784), tag322=(4, 1, 65_520), tag323=(4, 1, 32_768)),
        "a tile of more than",
    ),
    "comments": (lambda: b"P1\n1000 1000\n" + many(b"#\n", MAX_COMMENTS + 1), "10000 comments"),
    "comments far behind": (
        lambda: b"P2\n300 300\n255\n" + b" " * 100_000 + many(b"#\n", MAX_COMMENTS + 1),
        "10000 comments",
    ),
}


@pytest.mark.parametrize("name", TOO_MUCH)
def test_more_than_any_image_needs_is_refused(name: str) -> None:
    make, said = TOO_MUCH[name]
    assert said in refusal(make())


@pytest.mark.parametrize(
    "data",
    [
        png(tagged(3, 1_000), chunks=many(chunk(b"prVt", b""), 1_000)),
        jpeg(tagged(3, 1_000), segments=many(segment(0xE5, b"note"), 1_000)),
        gif(1_000, 255),
        tagged(7, 1_000_000, pixels=bytes(784)),
        b"P1\n# a comment\n2 2\n0 1 0 1\n",
        *(saved(form) for form in ("PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP", "PPM")),
    ],
)
def test_as_much_as_people_write_passes(data: bytes) -> None:
    check_container(data, PIXELS)


@pytest.mark.parametrize("form", ["JPEG", "GIF", "TIFF", "WEBP", "PPM", "BMP"])
def test_what_is_cut_is_left_to_pillow(form: str) -> None:
    data = saved(form)
    for length in range(len(data)):
        check_container(data[:length], PIXELS)


@given(
    st.sampled_from([b"\xff\xd8", b"GIF89a", b"II*\0\x08\0\0\0", b"P2 "]), st.binary(max_size=300)
)
def test_any_bytes_pass_or_are_refused(start: bytes, data: bytes) -> None:
    with contextlib.suppress(ImageError):
        check_container(start + data, PIXELS)


def as_text(exif: bytes) -> str:
    return f"\nexif\n{len(exif):8}\n{exif.hex()}\n"


@pytest.mark.parametrize("name", ["exif", "Raw profile type exif"])
def test_exif_data_that_pillow_found_are_looked_through(name: str) -> None:
    def found(exif: bytes) -> dict[str, bytes | str]:
        return {name: exif if name == "exif" else as_text(exif)}

    check_exif(found(tagged(3, 1_000)))
    check_exif({})
    with pytest.raises(ImageError, match="values in its tags"):
        check_exif(found(tagged(6, 400_000)))
    with pytest.raises(ImageError, match="bytes of EXIF data"):
        check_exif(found(bytes(MAX_EXIF + 1)))


def test_text_that_is_no_exif_data_is_left_to_pillow() -> None:
    check_exif({"exif": "a text chunk of that name"})
    check_exif({"Raw profile type exif": "\n\n\nnot hexadecimal"})


class TestCheckPng:
    def test_whole_file_passes(self) -> None:
        check_png(saved("PNG"))

    def test_what_follows_the_end_is_ignored(self) -> None:
        check_png(saved("PNG") + b"trailing")

    def test_every_single_flipped_bit_is_found(self) -> None:
        data = saved("PNG")
        for position in range(8, len(data)):
            damaged = bytearray(data)
            damaged[position] ^= 1 << position % 8
            with pytest.raises(ImageError):
                check_png(bytes(damaged))

    def test_every_truncation_is_found(self) -> None:
        data = saved("PNG")
        for length in range(8, len(data)):
            with pytest.raises(ImageError, match="truncated"):
                check_png(data[:length])
