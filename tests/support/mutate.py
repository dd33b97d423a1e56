"""Load random mutations of a good model file, and count the outcomes.

    python -m tests.support.mutate FILE SEED COUNT [EXACT]

Prints one JSON object. Each mutation must load exactly the weights of FILE or be refused; with
EXACT 0, for formats without checksums, it may also load others. Any other exception ends the
program with its traceback. Run it as a process of its own, so that its exit code shows a crash.
"""

import json
import random
import resource
import sys
import time
from collections import Counter
from pathlib import Path

import torch

from batchdigit import CheckpointError, load_checkpoint


def flip_bits(data: bytearray, places: range, chance: random.Random) -> bytearray:
    for _ in range(chance.choice((1, 1, 1, 2, 8))):
        data[chance.choice(places)] ^= 1 << chance.randrange(8)
    return data


def set_bytes(data: bytearray, places: range, chance: random.Random) -> bytearray:
    """Overwrite a few bytes, with extreme values twice as often as with random ones."""
    place, length = chance.choice(places), chance.choice((1, 2, 4, 8))
    value = chance.choice((b"\0" * length, b"\xff" * length, chance.randbytes(length)))
    data[place : place + length] = value
    return data


def truncate(data: bytearray, places: range, chance: random.Random) -> bytearray:
    del data[chance.choice(places) :]
    return data


def cut_out(data: bytearray, places: range, chance: random.Random) -> bytearray:
    place = chance.choice(places)
    del data[place : place + chance.choice((1, 4, 30, 64, 1000))]
    return data


def splice(data: bytearray, places: range, chance: random.Random) -> bytearray:
    """Put one part of ``places`` over, or into, another of them."""
    start, target = chance.choice(places), chance.choice(places)
    part = data[start : start + chance.choice((4, 22, 30, 46, 200))]
    end = target + (len(part) if chance.random() < 0.5 else 0)
    data[target:end] = part
    return data


MUTATIONS = (flip_bits, flip_bits, set_bytes, truncate, cut_out, splice)


def headers(data: bytes) -> list[range]:
    """Where the file describes itself, rather than holding numbers."""
    ends = (range(min(12_000, len(data))), range(max(0, len(data) - 4_000), len(data)))
    local = [
        place
        for place in range(0, len(data), 4096)
        if data.find(b"PK\x03\x04", place, place + 4096) >= 0
    ]
    return [*ends, *(range(place, min(place + 4096, len(data))) for place in local)]


def peak_bytes() -> int:
    """The most memory that this program has used.

    On Linux, getrusage also counts the size of the process that started it: that outlives ``exec``.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return int(status.read_text().partition("VmHWM:")[2].split()[0]) * 1024


def main(path: Path, seed: int, count: int, exact: bool) -> None:
    good = path.read_bytes()
    weights = load_checkpoint(path).state
    chance = random.Random(seed)
    outcomes: Counter[str] = Counter()
    slowest = 0.0
    described = headers(good)
    everywhere = range(len(good))
    mutated = Path(sys.argv[1] + f".mutated-{seed}")
    for _ in range(count):
        places = chance.choice(described) if chance.random() < 0.8 else everywhere
        data = chance.choice(MUTATIONS)(bytearray(good), places, chance)
        mutated.write_bytes(data)
        started = time.monotonic()
        try:
            state = load_checkpoint(mutated).state
        except CheckpointError as error:
            assert error.remedy
            assert "weights_only" not in str(error)
            outcomes["refused"] += 1
        else:
            same = state.keys() == weights.keys() and all(
                torch.equal(state[name], tensor) for name, tensor in weights.items()
            )
            outcomes["equal" if same else "other"] += 1
            if exact and not same:
                Path(sys.argv[1] + ".counterexample").write_bytes(data)
                raise AssertionError("other weights were loaded")
        slowest = max(slowest, time.monotonic() - started)
    mutated.unlink()  # a mutation that crashes this program stays
    print(json.dumps(outcomes | {"slowest_seconds": slowest, "peak_bytes": peak_bytes()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:] != ["0"])
