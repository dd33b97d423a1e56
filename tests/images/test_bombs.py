"""Images that would take any amount of memory or time take little of either."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.limits import Spent, spend
from tests.support.platforms import needs_linux
from tests.support.tagged import avif, gif, jpeg, overlapping, png, segment, tagged

MAX_BYTES = 2_500_000_000  # what SECURITY.md says that an image may take
MAX_SECONDS = 20  # that a run allows

M = 1_000_000
BOMBS: dict[str, Callable[[], bytes]] = {
    "column": lambda: png(width=1, height=100 * M, grey_and_alpha=True),
    "orientation in PNG": lambda: png(tagged(6, 60 * M, number=274)),
    "values beside it": lambda: png(tagged(3, 30 * M, tag274=(3, 1, 6))),
    "values below it": lambda: png(tagged(3, 30 * M, below=34665, tag274=(3, 1, 6))),
    "tags of TIFF": lambda: tagged(6, 100 * M, number=700, pixels=b"\xff" * 784),
    "tags below those of TIFF": lambda: tagged(6, 60 * M, below=34665, pixels=b"\xff" * 784),
    "resolution in JPEG": lambda: jpeg(tagged(6, 64 * M, number=296)),
    "comments in GIF": lambda: gif(60 * M),
    "segments in JPEG": lambda: jpeg(segments=segment(0xE5, b"") * (20 * M)),
    "orientation in AVIF": lambda: avif(tagged(6, 60 * M, number=274)),
    "one place, in PNG": lambda: png(overlapping(20_000, 300_000)),
}
# Those that newer versions of Pillow are safe from, too.
OF_OLD_PILLOW = ("one place, in PNG",)

SETUP = """
import io, warnings
from pathlib import Path
from PIL import Image, ImageOps
from batchdigit.errors import ImageError
from batchdigit.images.decode import decode_image, decode_plain_png, strict_pillow
from batchdigit.images.preprocess import ENOUGH_PIXELS, to_model_input
import numpy, cv2
Image.MAX_IMAGE_PIXELS = None
warnings.simplefilter("ignore")
data = Path(sys.argv[1]).read_bytes()
"""
OURS = """
try:
    with strict_pillow():
        image = decode_plain_png(data)
        if image is None:
            image = decode_image(data, enough=ENOUGH_PIXELS)
        to_model_input(image)
except ImageError as error:
    return f"{error.stage}: {error.message}"
"""
CARELESS = """
image = Image.open(io.BytesIO(data))
image.load()
ImageOps.exif_transpose(image, in_place=True)
rgba = image.convert("RGBA")
paper = Image.new("RGBA", rgba.size, "white")
return Image.alpha_composite(paper, rgba).convert("L").size
"""


@needs_linux("a limit of a process's memory")
@pytest.mark.slow
@pytest.mark.parametrize("name", BOMBS)
def test_bomb_takes_little_of_both(tmp_path: Path, name: str) -> None:
    path = tmp_path / "digit.png"
    path.write_bytes(BOMBS[name]())
    spent = spend(SETUP, OURS, path, memory=MAX_BYTES // 2, seconds=100)
    assert spent.outcome.startswith(("decode: more than", "decode: tags that", "too-large: a side"))
    assert spent.seconds < MAX_SECONDS / 2
    assert spent.bytes < MAX_BYTES / 2
    if name not in OF_OLD_PILLOW:
        careless = spend(SETUP, CARELESS, path, memory=MAX_BYTES, seconds=MAX_SECONDS)
        assert careless == Spent(""), "the attack itself does not work"
