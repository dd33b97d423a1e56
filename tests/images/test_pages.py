"""Which files have more pages than the first; Pillow counts them, where it counts pages alone."""

import io
import struct
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from PIL import Image, features

from batchdigit.images.pages import has_more_pages
from tests.support.tagged import PAGE, chunk, directory

RANDOM = np.random.default_rng(0)
FRAMES = [
    Image.fromarray(RANDOM.integers(0, 256, (40, 30), dtype=np.uint8)).convert("RGB")
    for _ in range(3)
]
FORMATS = ["TIFF", "GIF", "PNG", "WEBP"]


def saved(form: str, frames: Sequence[Image.Image], **options: object) -> bytes:
    buffer = io.BytesIO()
    first, *others = (frame.copy() for frame in frames)  # Pillow leaves options on them
    more = {"save_all": True, "append_images": others} if others else {}
    first.save(buffer, form, **more, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def frames_in(data: bytes) -> int:
    with Image.open(io.BytesIO(data)) as image:
        return int(getattr(image, "n_frames", 1))


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_pages_and_frames_are_what_pillow_counts(form: str, count: int) -> None:
    data = saved(form, FRAMES[:count])
    assert frames_in(data) == count
    assert has_more_pages(data) == (count > 1)


@pytest.mark.parametrize("options", [{"big_tiff": True}, {"compression": "tiff_lzw"}])
@pytest.mark.parametrize("count", [1, 2])
def test_every_kind_of_tiff_is_looked_through(options: Mapping[str, object], count: int) -> None:
    assert has_more_pages(saved("TIFF", FRAMES[:count], **options)) == (count > 1)


def test_big_endian_tiff_is_looked_through() -> None:
    empty = struct.pack(">H", 1) + struct.pack(">HHII", 256, 4, 1, 28)
    one = b"MM\0*" + struct.pack(">I", 8) + empty + struct.pack(">I", 0)
    two = b"MM\0*" + struct.pack(">I", 8) + empty + struct.pack(">I", 26)
    assert not has_more_pages(one)
    assert has_more_pages(two + empty + struct.pack(">I", 0))


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
@pytest.mark.parametrize("count", [1, 2])
def test_avif_that_moves_has_more_frames(count: int) -> None:
    assert has_more_pages(saved("AVIF", FRAMES[:count])) == (count > 1)


def test_still_image_before_an_animation_is_not_all() -> None:
    data = saved("PNG", FRAMES[:2], default_image=True)
    with Image.open(io.BytesIO(data)) as image:
        assert image.default_image  # type: ignore[attr-defined]
    assert has_more_pages(data)


def test_animation_of_one_frame_has_no_more() -> None:
    still = saved("PNG", FRAMES[:1])
    control = chunk(b"acTL", struct.pack(">II", 1, 0)) + chunk(b"fcTL", b"\0" * 26)
    assert not has_more_pages(still[:33] + control + still[33:])


def test_second_image_of_a_phones_jpeg_is_no_page() -> None:
    data = saved("MPO", FRAMES[:2])
    assert frames_in(data) == 2
    assert not has_more_pages(data)


def test_sizes_of_an_icon_are_no_pages() -> None:
    assert not has_more_pages(saved("ICO", FRAMES[:1], sizes=[(16, 16), (24, 24)]))


def chain(*kinds: Mapping[int, tuple[int, int, int]], back: bool = False) -> bytes:
    """A TIFF with a directory for each of ``kinds``, which are tags; the last may lead ``back``."""
    parts, at = [b"II*\0" + struct.pack("<I", 8)], 8
    for number, tags in enumerate(kinds, 1):
        body = directory(PAGE | tags)
        at += len(body)
        following = at if number < len(kinds) else 8 * back
        parts.append(body[:-4] + struct.pack("<I", following))
    return b"".join(parts)


COPIES = {
    "reduced": {254: (4, 1, 1)},
    "mask": {254: (4, 1, 4)},
    "reduced mask": {254: (4, 1, 5)},
    "reduced, in old files": {255: (3, 1, 2)},
    "thumbnail of a camera": {513: (4, 1, 8), 514: (4, 1, 8)},
}


@pytest.mark.parametrize("kind", COPIES)
def test_copies_in_a_tiff_are_no_pages(kind: str) -> None:
    assert not has_more_pages(chain({}, COPIES[kind]))
    assert has_more_pages(chain({}, COPIES[kind], {}))
    assert has_more_pages(chain(COPIES[kind], {}))


@pytest.mark.parametrize("tags", [{254: (4, 1, 0)}, {254: (4, 1, 2)}, {255: (3, 1, 3)}])
def test_what_says_that_it_is_a_page_is_one(tags: Mapping[int, tuple[int, int, int]]) -> None:
    assert has_more_pages(chain(tags, tags))


def test_chain_that_leads_back_has_an_end() -> None:
    assert not has_more_pages(chain({}, back=True))
    assert not has_more_pages(chain({}, *[COPIES["reduced"]] * 3, back=True))


def test_chain_of_copies_is_not_followed_for_ever() -> None:
    assert not has_more_pages(chain({}, *[COPIES["reduced"]] * 2_000, {}))


def test_directory_without_a_width_is_no_page() -> None:
    second = directory({300: (4, 1, 1)})
    assert not has_more_pages(chain({})[:-4] + struct.pack("<I", len(chain({}))) + second)


@pytest.mark.parametrize("form", ["PPM"])
@pytest.mark.parametrize("mode", ["1", "L", "RGB", "I;16"])
def test_netpbm_images_may_follow_each_other(form: str, mode: str) -> None:
    data = saved(form, [FRAMES[0].convert(mode)] if mode != "I;16" else [Image.new(mode, (9, 9))])
    assert not has_more_pages(data)
    assert not has_more_pages(data + b"\n")
    assert has_more_pages(data + data)
    commented = data.replace(b"\n", b"\n# written by hand\n", 1)
    assert has_more_pages(commented + data)


@pytest.mark.parametrize("form", [*FORMATS, "PPM", "BMP", "JPEG"])
def test_broken_files_are_no_error(form: str) -> None:
    data = saved(form, FRAMES[:2] if form in FORMATS else FRAMES[:1])
    for length in range(0, len(data), 3):
        has_more_pages(data[:length])
    for _ in range(2_000):
        changed = bytearray(data)
        for place in RANDOM.integers(0, min(len(data), 400), 4):
            changed[place] = RANDOM.integers(0, 256)
        has_more_pages(bytes(changed))


def test_blocks_without_end_are_not_all_looked_at() -> None:
    whole = saved("GIF", FRAMES[:1])
    empty = b"!\xfe\0" * 1_000_000
    assert not has_more_pages(whole[:-1] + empty + whole[13:])
