"""What the ending of a file's name says about it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

COMMON = (
    *(b".png", b".jpg", b".jpeg", b".jpe", b".jfif", b".bmp", b".gif"),
    *(b".tif", b".tiff", b".webp", b".pgm", b".ppm"),
)
EXTENSIONS = (
    *COMMON,
    *(b".heic", b".heif", b".avif", b".jp2", b".j2k", b".pbm", b".pnm"),
    *(b".dib", b".apng", b".ico", b".tga", b".psd", b".dng"),
)
"""The endings of the names of images, in lower or upper case; the COMMON ones come first."""

HEIC_ENDINGS = (b".heic", b".heif")

OTHER = frozenset(
    b"." + ending
    for line in (
        # documents and pictures made of shapes
        b"pdf ps eps ai svg svgz txt text md rst tex log rtf doc docx odt pages xls xlsx ods ppt",
        b"pptx odp key epub html htm xhtml mhtml css eml msg bib",
        # data and settings
        b"csv tsv json jsonl ndjson geojson yaml yml toml ini cfg conf xml parquet feather arrow",
        b"db sqlite sqlite3 sql npy npz mat h5 hdf5 pkl pickle avro orc rda rds sav dta lock pid",
        b"url webloc desktop ics vcf",
        # models
        b"pt pth ckpt onnx safetensors pb tflite keras caffemodel weights gguf joblib",
        # archives and images of disks
        b"zip tar gz tgz bz2 tbz2 xz txz zst lz4 lzma 7z rar jar whl egg deb rpm apk iso img dmg",
        b"cab",
        # programs
        b"py pyc pyi ipynb c cc cpp h hpp cu rs go java kt js mjs ts jsx tsx rb pl php r m jl sh",
        b"bash zsh ps1 bat cmd lua swift scala vue exe dll so dylib o a lib bin class wasm",
        # sound and moving pictures
        b"mp3 wav flac ogg oga m4a aac wma opus mid midi mp4 m4v mov avi mkv webm mpg mpeg wmv",
        b"flv 3gp mts",
        # fonts, sums, and what is half done
        b"ttf otf woff woff2 md5 sha1 sha256 sha512 asc sig pem crt bak tmp temp part crdownload",
        b"swp old orig",
    )
    for ending in line.split()
)
"""Endings that are known as those of something else, in lower case: such files are not opened."""

NONE, REST = "none", "other"  # which are no endings, as these start with a dot
MAX_ENDINGS = 20
_PLAIN = re.compile(rb"\.[0-9a-z_+~-]{1,12}")


def ending_of(name: bytes) -> bytes:
    """What a path ends in, in lower case, from its last dot on; empty if there is none."""
    last = name[name.rfind(b"/") + 1 :]
    dot = last.rfind(b".")
    return last[dot:].lower() if dot > 0 else b""


def count_endings(names: Iterable[bytes]) -> dict[str, int]:
    """How many names have each ending, the most frequent first, and of two as frequent by name.

    The keys are endings in lower case, NONE, and REST for whatever is beyond the first MAX_ENDINGS
    or looks like no ending.
    """
    counts = Counter(map(_shown, map(ending_of, names)))
    rest = counts.pop(REST, 0)
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    rest += sum(count for _, count in ranked[MAX_ENDINGS:])
    return dict(ranked[:MAX_ENDINGS]) | ({REST: rest} if rest else {})


def left_out(counts: Mapping[str, int]) -> str:
    """The counts in words, ``left out: 99 .pdf, 1 without ending``; empty if there are none."""
    words = {NONE: "without ending", REST: "with other endings"}
    said = [f"{count} {words.get(ending, ending)}" for ending, count in counts.items()]
    return f"left out: {', '.join(said)}" if said else ""


def _shown(ending: bytes) -> str:
    if not ending:
        return NONE
    return ending.decode() if _PLAIN.fullmatch(ending) else REST
