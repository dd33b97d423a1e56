"""Which decoder gets a file, and what is said where there is none for it."""

import struct
import sys
from io import BytesIO

import numpy as np
import pillow_heif
import pytest
from PIL import AvifImagePlugin, BmpImagePlugin, Image, ImageDraw, features

from batchdigit.errors import ImageError
from batchdigit.images import decoders
from batchdigit.images.decode import decode_image, strict_pillow
from batchdigit.images.decoders import FORMATS, RECOGNISED, decoder_of, opened

PICTURE = Image.new("L", (64, 48), 255)
ImageDraw.Draw(PICTURE).ellipse((10, 5, 50, 40), outline=0, width=6)
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


@pytest.fixture(autouse=True)
def _nothing_is_remembered() -> None:
    decoders._heif.cache_clear()
    decoders._has.cache_clear()


def written(form: str, image: Image.Image = PICTURE, **options: object) -> bytes:
    file = BytesIO()
    image.save(file, form, **options)  # type: ignore[arg-type]
    return file.getvalue()


def decoded(data: bytes, name: bytes = b"", **options: int) -> Image.Image:
    with strict_pillow():
        return decode_image(data, name=name, **options)


def refusal(data: bytes, name: bytes = b"") -> str:
    with pytest.raises(ImageError) as caught:
        decoded(data, name)
    return f"{caught.value.stage}: {caught.value.message}"


@pytest.mark.parametrize(
    ("form", "name", "options"),
    [
        ("JPEG2000", b"a", {}),
        ("JPEG2000", b"a.j2k", {"no_jp2": True}),
        ("DIB", b"a.DIB", {}),
        ("TGA", b"b/a.tga", {}),
        ("TGA", b"a.tga", {"compression": "tga_rle"}),
        ("ICO", b"a.ico", {"sizes": [(64, 48)]}),
        ("ICO", b"a.ico", {"sizes": [(64, 48)], "bitmap_format": "bmp"}),
        ("PPM", b"a.pnm", {}),
    ],
)
def test_lossless_formats_keep_the_pixels(
    form: str, name: bytes, options: dict[str, object]
) -> None:
    assert np.array_equal(decoded(written(form, **options), name).convert("L"), PICTURE)


def test_avif_keeps_the_picture() -> None:
    apart = np.subtract(decoded(written("AVIF")).convert("L"), PICTURE, dtype=np.int64)
    assert np.abs(apart).mean() < 3


def test_first_frame_of_a_moving_picture_is_taken() -> None:
    data = written("PNG", save_all=True, append_images=[PICTURE.rotate(90)])
    assert np.array_equal(decoded(data, b"a.apng").convert("L"), PICTURE)


@pytest.mark.parametrize("form", ["DIB", "TGA"])
def test_formats_that_nothing_tells_are_tried_only_where_the_name_says_so(form: str) -> None:
    assert decoder_of(written(form), b"a.png") == ""
    assert refusal(written(form), b"a.png").startswith("decode: not a whole image in PNG")
    assert refusal(written("TGA"), b"a.dib").startswith("decode: ")


def test_first_bytes_count_more_than_the_name() -> None:
    assert np.array_equal(decoded(written("PNG"), b"a.tga"), PICTURE)
    assert np.array_equal(decoded(written("JPEG2000"), b"a.dng"), PICTURE)


@pytest.mark.parametrize("form", [form for form in RECOGNISED if form != "PSD"])
def test_truncated_file_is_an_error(form: str) -> None:
    data = written(form)
    name = f"a.{form.lower()}".encode()
    footer = 26 if form == "TGA" else 0
    for end in (len(data) // 3, len(data) - footer - 2):
        assert refusal(data[:end], name).startswith("decode: ")


@pytest.mark.parametrize(
    ("data", "name", "message"),
    [
        (written("TIFF"), b"a.DNG", "DNG, raw data; convert it to PNG or JPEG"),
        (b"\xff\x0a and so on", b"a", "JPEG XL; convert it to PNG or JPEG"),
        (b"DDS \x7c\0\0\0", b"a.dds", "DDS; convert it to PNG or JPEG"),
    ],
)
def test_what_nothing_decodes_says_what_it_is(data: bytes, name: bytes, message: str) -> None:
    assert refusal(data, name) == f"unsupported: {message}"


@pytest.mark.parametrize(
    ("form", "feature"), [("AVIF", "avif"), ("JPEG2000", "jpg_2000"), ("WEBP", "webp")]
)
def test_what_pillow_lacks_is_named(
    monkeypatch: pytest.MonkeyPatch, form: str, feature: str
) -> None:
    monkeypatch.setattr(features, "check", lambda name: name != feature)
    assert refusal(written(form)) == f"unsupported: {form}; pip install --upgrade pillow"


def test_heic_without_its_package_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    assert refusal(HEIC, b"a.jpg") == 'unsupported: HEIC; pip install "batchdigit[heif]"'


def test_nothing_but_heic_imports_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "pillow_heif", raising=False)
    for form in FORMATS:
        if form != "PSD":
            decoded(written(form), f"a.{form.lower()}".encode())
    assert "pillow_heif" not in sys.modules


def test_heic_is_decoded_by_its_package_and_nothing_is_left_set() -> None:
    before = {name: value for name, value in vars(pillow_heif.options).items() if name.isupper()}
    image = pillow_heif.from_pillow(PICTURE.convert("RGB"))
    file = BytesIO()
    image.save(file, quality=-1, chroma=444)
    apart = np.subtract(decoded(file.getvalue(), enough=8).convert("L"), PICTURE, dtype=np.int64)
    assert np.abs(apart).max() <= 3
    assert before == {
        name: value for name, value in vars(pillow_heif.options).items() if name.isupper()
    }
    for end in range(64, len(file.getvalue()), 9):
        assert refusal(file.getvalue()[:end]).startswith("decode: ")


def test_thumbnail_is_not_taken_for_the_picture() -> None:
    image = pillow_heif.from_pillow(PICTURE.convert("RGB").resize((512, 384)))
    image.info["thumbnails"] = [128]
    file = BytesIO()
    image.save(file)
    assert pillow_heif.open_heif(file).info["thumbnails"] == [128]  # the control
    assert decoded(file.getvalue(), enough=50).size == (512, 384)


def test_tiles_that_are_missing_from_a_photo_are_noticed() -> None:
    file = BytesIO()
    pillow_heif.from_pillow(PICTURE.convert("RGB").resize((512, 384))).save(file, tile_size=128)
    assert decoded(file.getvalue()).size == (512, 384)
    assert refusal(file.getvalue()[:-200]) == "decode: truncated: parts of the image are missing"


def test_size_that_only_decoding_shows_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    load = BmpImagePlugin.BmpImageFile.load

    def grow(self: BmpImagePlugin.BmpImageFile) -> object:
        pixels = load(self)
        self._size = (1_000, 1_001)
        return pixels

    monkeypatch.setattr(BmpImagePlugin.BmpImageFile, "load", grow)  # as pillow-heif's does
    with strict_pillow(1_000_000), pytest.raises(ImageError, match="more than 1000000 pixels"):
        decode_image(written("BMP"))


def test_one_thread_decodes() -> None:
    with opened(written("AVIF"), "AVIF") as image:
        assert AvifImagePlugin.DEFAULT_MAX_THREADS == 1
        image.load()
    assert AvifImagePlugin.DEFAULT_MAX_THREADS == 0


def psd(channels: int, *, bits: int = 8, layers: bytes = b"", resources: bytes = b"") -> bytes:
    """A red picture; of what its fourth channel says, nothing is opaque."""
    head = b"8BPS" + struct.pack(">H6xHIIHH", 1, channels, 4, 5, bits, 3)
    sections = b"".join(struct.pack(">I", len(part)) + part for part in (b"", resources, layers))
    planes = [b"\xff", b"\0", b"\0", b"\0"][:channels]
    return head + sections + b"\0\0" + b"".join(plane * 20 for plane in planes)


SECTION_OF_LAYERS = struct.pack(">Ih", 2, -1)


def test_layers_of_a_photoshop_file_are_one_picture() -> None:
    image = decoded(psd(3))
    assert (image.mode, image.getpixel((0, 0))) == ("RGB", (255, 0, 0))
    assert refusal(psd(3)[:-1]) == "decode: truncated PSD"


def test_selection_that_somebody_saved_is_no_transparency() -> None:
    for layers in (b"", struct.pack(">Ih", 2, 1)):
        assert decoded(psd(4, layers=layers)).mode == "RGB"
    assert decoded(psd(4, layers=SECTION_OF_LAYERS)).mode == "RGBA"


def test_photoshop_file_of_sixteen_bits_says_so() -> None:
    message = "unsupported: PSD of 16 bits a channel; save it as PNG"
    assert refusal(psd(3, bits=16)) == message


def test_image_resources_are_counted() -> None:
    one = b"8BIM\x04\x04\0\0\0\0\0\0"
    assert decoded(psd(3, resources=one * 99)).size == (5, 4)
    assert refusal(psd(3, resources=one * 100_002)) == "decode: more than 100000 image resources"


def test_fourth_byte_of_a_targa_file_is_transparency_only_if_it_says_so() -> None:
    image = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    data = bytearray(written("TGA", image))
    assert decoded(bytes(data), b"a.tga").mode == "RGBA"
    data[17] &= 0xF0
    assert decoded(bytes(data), b"a.tga").getpixel((0, 0)) == (255, 0, 0)


def test_largest_image_of_an_icon_is_taken_with_the_care_of_its_format() -> None:
    data = written("ICO", PICTURE.resize((256, 256)), sizes=[(16, 16), (256, 256), (32, 32)])
    assert decoded(data).size == (256, 256)
    place = data.rindex(b"IDAT") + 9
    damaged = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
    assert refusal(damaged) == "decode: damaged PNG: wrong checksum in its chunk IDAT"


def test_icon_is_held_to_the_length_of_a_side() -> None:
    data = bytearray(written("ICO", PICTURE, sizes=[(64, 48)], bitmap_format="bmp"))
    data[22 + 8 : 22 + 12] = struct.pack("<i", 2 * 70_000)
    assert refusal(bytes(data)) == "too-large: a side of more than 65535 pixels"
    assert refusal(written("ICO")[:15]).startswith("decode: truncated")
