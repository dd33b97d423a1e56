"""What Pillow writes is recognised by its first bytes, and what only looks like it is not."""

import io

import pytest
from PIL import Image

from batchdigit.sources.signatures import HEAD, format_of

WRITTEN = ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP", "PPM", "AVIF", "JPEG2000", "ICO")


@pytest.mark.parametrize("form", WRITTEN)
def test_image_is_recognised(form: str) -> None:
    file = io.BytesIO()
    Image.new("L", (28, 28), 255).save(file, form)
    assert format_of(file.getvalue()[:HEAD]) == form


@pytest.mark.parametrize(
    ("head", "form"),
    [
        (b"\xff\x4f\xff\x51\0\x2f", "JPEG2000"),
        (b"8BPS\0\1", "PSD"),
        (b"\0\0\0\x24ftypheic\0\0\0\0mif1MiHEmiafheic", "HEIC"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf", "AVIF"),
        (b"\0\0\0\x10ftypmif1\0\0\0\0", "HEIC"),
        (b"\0\0\0\x14ftypisom\0\0\0\0heic", "HEIC"),
        (b"\0\0\0\x10ftypisom\0\0\0\0heic", ""),  # behind the box
        (b"\0\0\0\x18ftypmp42\0\0\0\0isommp42", ""),  # a film
        (b"\xff\x0a\xfa\x7f", "JPEG XL"),
        (b"P4 # by hand\n28 28\n", "PPM"),
        (b"P5\n28 28\n255\n", "PPM"),
        (b"P5, and what it means", ""),
        (b"BMW, a maker of cars", ""),
        (b"\0\0\1\0\0\0\0\0\0\0", ""),
        (b"%PDF-1.7", ""),
        (b"<html>", ""),
        (b"", ""),
    ],
)
def test_what_starts_like_this_is(head: bytes, form: str) -> None:
    assert format_of(head) == form
