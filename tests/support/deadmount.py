"""A file system in which some files never answer, as on a server that is gone.

``python -m tests.support.deadmount MOUNTPOINT FOLDER`` mounts a copy of the files of FOLDER, prints
``mounted``, and serves until it is killed, which frees every process that waits. Reading a file
whose name starts with ``dead`` is never answered; whenever somebody tries, it prints ``asked``. A
process that waits for such an answer survives even SIGKILL, which is the point. Needs root and
/dev/fuse. Structures and numbers are those of Linux's ``include/uapi/linux/fuse.h``.
"""

import contextlib
import ctypes
import errno
import os
import stat
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

LOOKUP, FORGET, GETATTR, OPEN, READ, RELEASE = 1, 2, 3, 14, 15, 18
FLUSH, INIT, OPENDIR, READDIR, RELEASEDIR, INTERRUPT, BATCH_FORGET = 25, 26, 27, 28, 29, 36, 42
OPENED = struct.pack("<QII", 0, 0, 0)
ANSWERS: dict[int, bytes | None] = {
    INIT: struct.pack("<4I2H2I2H8I", 7, 31, 65536, 0, 16, 12, 65536, 1, 16, *[0] * 9),
    **dict.fromkeys((OPEN, OPENDIR), OPENED),
    **dict.fromkeys((FLUSH, RELEASE, RELEASEDIR), b""),
    **dict.fromkeys((FORGET, BATCH_FORGET, INTERRUPT), None),
}
ROOT = 1
MNT_DETACH = 2

needs_fuse = pytest.mark.skipif(
    not (hasattr(os, "geteuid") and os.geteuid() == 0 and os.access("/dev/fuse", os.W_OK)),
    reason="needs root and /dev/fuse",
)


@contextlib.contextmanager
def dead_mount(mountpoint: Path, folder: Path) -> Iterator[Callable[[], None]]:
    """Mount the files of ``folder`` at ``mountpoint``; afterwards nobody waits for them any more.

    Yields a function that waits until somebody asks for contents that never come.
    """
    mountpoint.mkdir()
    command = [sys.executable, "-m", "tests.support.deadmount", mountpoint, folder]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            said = server.stdout.readline
            assert said() == "mounted\n"
            yield lambda: said() == "asked\n" or pytest.fail("the server has ended")
        finally:
            server.kill()
            server.wait()
            ctypes.CDLL(None).umount2(bytes(mountpoint), MNT_DETACH)


class DeadMount:
    """The files of a folder, by their numbers; number one is the folder itself."""

    def __init__(self, folder: Path) -> None:
        files = sorted(folder.iterdir())
        self.names = [b"", b".", *(os.fsencode(file.name) for file in files)]
        self.contents = [b"", b"", *(file.read_bytes() for file in files)]

    def attributes(self, node: int) -> bytes:
        size = len(self.contents[node])
        mode = stat.S_IFDIR | 0o755 if node == ROOT else stat.S_IFREG | 0o644
        times = (1_700_000_000,) * 3
        return struct.pack("<6Q10I", node, size, 1, *times, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)

    def answer(self, opcode: int, node: int, body: bytes) -> bytes | int | None:
        """The answer to a request, an error's number, or None for no answer."""
        if opcode == LOOKUP:
            return self.look_up(body.rstrip(b"\0"))
        if opcode == GETATTR:
            return struct.pack("<QII", 60, 0, 0) + self.attributes(node)
        if opcode == READ:
            if self.names[node].startswith(b"dead"):
                say("asked")
                return None
            _, offset, size = struct.unpack_from("<QQI", body)
            return self.contents[node][offset : offset + size]
        if opcode == READDIR:
            _, offset, size = struct.unpack_from("<QQI", body)
            return self.entries(offset, size)
        return ANSWERS.get(opcode, errno.ENOSYS)

    def look_up(self, name: bytes) -> bytes | int:
        if name not in self.names:
            return errno.ENOENT
        node = self.names.index(name)
        return struct.pack("<4Q2I", node, 0, 60, 60, 0, 0) + self.attributes(node)

    def entries(self, offset: int, size: int) -> bytes:
        listing = b""
        for node in range(max(offset + 1, ROOT + 1), len(self.names)):
            name = self.names[node]
            entry = struct.pack("<QQII", node, node, len(name), stat.S_IFREG >> 12) + name
            entry += bytes(-len(entry) % 8)
            if len(listing) + len(entry) > size:
                break
            listing += entry
        return listing

    def serve(self, device: int) -> None:
        while True:
            with contextlib.suppress(InterruptedError):
                request = os.read(device, 1 << 20)
                _, opcode, unique, node = struct.unpack_from("<IIQQ", request)
                answer = self.answer(opcode, node, request[40:])
                if answer is None:
                    continue
                error = answer if isinstance(answer, int) else 0
                body = b"" if isinstance(answer, int) else answer
                os.write(device, struct.pack("<IiQ", 16 + len(body), -error, unique) + body)


def say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def main(mountpoint: Path, folder: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
    if libc.mount(b"deadmount", bytes(mountpoint), b"fuse", 0, options):
        raise OSError(ctypes.get_errno(), "cannot mount")
    say("mounted")
    DeadMount(folder).serve(device)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
