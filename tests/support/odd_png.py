"""PNG files of every kind that a decoder may take for plain ones: whole, damaged, made wrong."""

import random
import struct
import zlib

from tests.support.tagged import chunk

SIDES = (0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 28, 28, 28, 28, 31, 63, 64, 65)
LARGE = (100, 255, 256, 257, 300, 511, 1000, 4096, 4097, 32768, 65535, 65536, 70000)
ODD = (2**31 - 1, 2**31, 2**32 - 1, 10**8, 10**8 + 1)
OTHER_CHUNKS = (b"tEXt", b"tRNS", b"PLTE", b"gAMA", b"eXIf", b"acTL", b"zzZz", b"IHDR", b"IEND")
STRATEGIES = (zlib.Z_DEFAULT_STRATEGY, zlib.Z_FIXED, zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE)


def odd_png(seed: int) -> bytes:
    """A file of the format, or nearly so; the same for the same ``seed``."""
    chance = random.Random(seed)
    width, height = _sides(chance)
    packed = _stream(chance, _rows(chance, width, height))
    header = bytearray(struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    if chance.random() < 0.03:
        header[chance.randrange(8, 13)] = chance.choice((0, 1, 2, 3, 4, 6, 8, 16, 255))
    parts = [chunk(b"IHDR", bytes(header)), chunk(b"IDAT", packed), chunk(b"IEND", b"")]
    kind = chance.randrange(40)
    if kind == 0:  # in several chunks
        cut = chance.randrange(len(packed) + 1)
        parts[1] = chunk(b"IDAT", packed[:cut]) + chunk(b"IDAT", packed[cut:])
    elif kind == 1:
        other = chunk(chance.choice(OTHER_CHUNKS), chance.randbytes(chance.randrange(30)))
        parts.insert(chance.randrange(4), other)
    elif kind == 2:  # with a wrong sum
        place = chance.randrange(3)
        parts[place] = parts[place][:-4] + chance.randbytes(4)
    elif kind == 3:  # with a wrong length
        parts[1] = chance.choice((0, 1, len(packed) + 1, 2**31)).to_bytes(4, "big") + parts[1][4:]
    elif kind == 4:
        parts.append(chance.choice((b"\0", chance.randbytes(20), b"".join(parts))))
    elif kind == 5:
        parts[2] = chunk(b"IEND", chance.randbytes(3))
    data = bytearray(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    if kind == 6:
        del data[chance.randrange(len(data)) :]
    elif kind == 7:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(data)


def _sides(chance: random.Random) -> tuple[int, int]:
    kind = chance.random()
    if kind < 0.998:
        return chance.choice(SIDES), chance.choice(SIDES)
    if kind < 0.9998:
        sides = [chance.choice(SIDES[:12]), chance.choice(LARGE)]
        chance.shuffle(sides)
        return sides[0], sides[1]
    return chance.choice(ODD), chance.choice((0, 1, 1, 1, 2))


def _rows(chance: random.Random, width: int, height: int) -> bytes:
    """Filtered rows, mostly of the right number and length, of filters that there may not be."""
    if width * (height + 10) > 2_000_000 or height > 2_000_000:
        return chance.randbytes(chance.randrange(1000))
    few_or_many = chance.choice((-height, -height // 2, -2, -1, 1, 2, 10))
    count = max(0, height + (few_or_many if chance.random() < 0.2 else 0))
    body = chance.randbytes(width * count) if chance.random() < 0.5 else bytes(width * count)
    filters = 7 if chance.random() < 0.3 else 5  # of which PNG knows five
    data = b"".join(
        bytes([chance.randrange(filters)]) + body[row * width : (row + 1) * width]
        for row in range(count)
    )
    kind = chance.randrange(10)
    if kind == 0:
        return data[: chance.randrange(len(data) + 1)]
    return data + chance.randbytes(chance.choice((1, 2, 100, 5000))) if kind == 1 else data


def _stream(chance: random.Random, data: bytes) -> bytes:
    """A stream of zlib's format, or nearly so."""
    bits = chance.choice((15,) * 30 + (9, 12, -15, 31))  # 31 is gzip, less than 0 has no header
    dictionary = (bytes(40),) if 0 < bits < 16 and chance.random() < 0.03 else ()
    packer = zlib.compressobj(
        chance.choice((0, 1, 6, 9)), zlib.DEFLATED, bits, 8, chance.choice(STRATEGIES), *dictionary
    )
    packed = bytearray()
    step = chance.choice((10, 29, 1000)) if len(data) < 5000 and chance.random() < 0.2 else 100_000
    for start in range(0, len(data), step):
        packed += packer.compress(data[start : start + step])
        if step < 100_000:  # with empty blocks between the parts
            packed += packer.flush(chance.choice((zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH)))
    packed += packer.flush(zlib.Z_SYNC_FLUSH if chance.random() < 0.05 else zlib.Z_FINISH)
    kind = chance.randrange(20)
    if kind == 0 and len(packed) > 4:  # a wrong sum
        packed[-1 - chance.randrange(4)] ^= 1 << chance.randrange(8)
    elif kind == 1:
        del packed[chance.randrange(len(packed) + 1) :]
    elif kind == 2:  # a sum that is cut
        del packed[max(0, len(packed) - chance.randrange(9)) :]
    elif kind == 3:
        packed += chance.choice((b"\0", b"\xff" * 5, bytes(7), bytes(70_000)))
    elif kind == 4:
        packed += zlib.compress(chance.choice((b"", data[:100], bytes(100))))
    elif kind == 5 and packed:
        packed[chance.randrange(len(packed))] ^= 1 << chance.randrange(8)
    elif kind == 6 and len(packed) > 1:
        packed[:2] = bytes([chance.choice((0x78, 0x08, 0x18, 0x79)), chance.randrange(256)])
    return bytes(packed)
