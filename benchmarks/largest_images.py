"""How much memory the largest images take that the limits allow, by format and mode.

    python -m benchmarks.largest_images

Each image is decoded and fitted in a process of its own; what is shown is the most memory that it
took beyond what it had before. The last line compares that with what a worker process may take.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageDraw

from batchdigit.reading.dataset import DigitImages
from batchdigit.sources.folder import open_folders

SHAPES = ((10_000, 10_000), (65_535, 1_525))
FORMATS = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "TIFF": ("1", "L", "LA", "RGB", "RGBA", "CMYK", "I;16", "I", "F"),
    "JPEG": ("L", "RGB", "CMYK"),
    "BMP": ("1", "L", "RGB"),
    "GIF": ("L", "P"),
    "WEBP": ("RGB", "RGBA"),
    "JPEG2000": ("L", "RGB"),  # of more channels, tiles are smaller
    "AVIF": ("RGB", "RGBA"),
}
# Largest sides of formats, and as much as 256 MB of BMP hold.
OTHER_SHAPES = {
    "JPEG": ((10_000, 10_000), (65_500, 1_526)),
    "WEBP": ((16_383, 6_100),),
    "BMP": ((9_000, 9_000),),
    "JPEG2000": ((10_000, 10_000),),
    "AVIF": ((10_000, 10_000),),
}
CHILD = """
import json, sys
from pathlib import Path
from PIL import Image, ImageOps
from batchdigit.errors import ImageError
from batchdigit.images.decode import decode_image, decode_plain_png, strict_pillow
from batchdigit.images.preprocess import ENOUGH_PIXELS, to_model_input
import cv2

def peak():
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) << 10

path, how = sys.argv[1:]
with strict_pillow():
    Path("/proc/self/clear_refs").write_text("5")
    before = peak()
    data = Path(path).read_bytes()
    try:
        image = decode_plain_png(data)
        if image is None:
            image = decode_image(data, enough=None if how == "exact" else ENOUGH_PIXELS)
        to_model_input(image, how)
        outcome = "read"
    except ImageError as error:
        outcome = f"{error.stage}: {error.message}"
print(json.dumps([outcome, peak() - before]))
"""


def drawn(mode: str, size: tuple[int, int]) -> Image.Image:
    """A zero in black on white."""
    grey = Image.new("L", size, 255)
    side = min(size)
    box = (size[0] // 2 - side // 4, side // 8, size[0] // 2 + side // 4, side * 7 // 8)
    ImageDraw.Draw(grey).ellipse(box, outline=0, width=side // 12)
    if mode == "I;16":
        return grey.convert("I").point(lambda level: level * 257).convert("I;16")
    return grey.convert(mode)


def main() -> None:
    largest = 0
    exif = Image.Exif()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "image")
        for form, modes in FORMATS.items():
            for mode in modes:
                for shape in OTHER_SHAPES.get(form, SHAPES):
                    image = drawn(mode, shape)
                    for orientation in (1, 6):
                        exif[274] = orientation
                        options = {"compression": "tiff_adobe_deflate"} if form == "TIFF" else {}
                        if form in ("PNG", "TIFF", "JPEG", "WEBP"):
                            options["exif"] = exif.tobytes()
                        image.save(path, form, **options)
                        for how in ("auto", "exact"):
                            largest = max(largest, measured(path, how, form, mode, orientation))
        allowed = DigitImages(open_folders([folder])).memory(1)
    print(f"the most: {largest / 1e6:,.0f} MB; a worker process may take {allowed / 1e6:,.0f} MB")


def measured(path: Path, how: str, form: str, mode: str, orientation: int) -> int:
    command = [sys.executable, "-c", CHILD, str(path), how]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    outcome, taken = json.loads(done.stdout)
    size = path.stat().st_size
    print(
        f"{form:5} {mode:5} {size:>11,} bytes, orientation {orientation}, {how:6}"
        f"{taken / 1e6:>9,.0f} MB  {outcome}",
        flush=True,
    )
    return int(taken)


if __name__ == "__main__":
    Image.MAX_IMAGE_PIXELS = None
    main()
