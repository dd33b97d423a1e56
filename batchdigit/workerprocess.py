"""Life in a process that reads: deaf to the run's signals, and never longer than it is wanted."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time

from batchdigit.signals import STOP_SIGNALS

SECONDS_BETWEEN_LOOKS = 0.5


def settle_in(watchdog: Watchdog) -> None:
    """To be called first in a process that reads."""
    if hasattr(signal, "pthread_sigmask"):  # a forkserver's children inherit from that server
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    # When memory runs out, the kernel shall end a process that can be replaced.
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")
    watchdog.start()


class Watchdog(threading.Thread):
    """Ends its own process when the parent is gone, or when one file takes too long.

    ``on_file()`` says that the next file is begun, ``on_file(begun=False)`` that none is.
    """

    def __init__(self, seconds: float | None = None) -> None:
        super().__init__(name="watchdog", daemon=True)
        self._seconds = seconds
        self._since: float | None = None
        self._parent = os.getppid()

    def on_file(self, *, begun: bool = True) -> None:
        """Start the time allowed for one file, or stop it."""
        self._since = time.monotonic() if begun else None

    def run(self) -> None:
        """Look twice a second."""
        while not (self._is_orphan() or self._is_late()):
            time.sleep(SECONDS_BETWEEN_LOOKS)
        os._exit(1)

    def _is_orphan(self) -> bool:
        # The first tells at once for forked processes, the second for a forkserver's.
        parent = multiprocessing.parent_process()
        return os.getppid() != self._parent or (parent is not None and not parent.is_alive())

    def _is_late(self) -> bool:
        since = self._since
        return bool(self._seconds and since and time.monotonic() - since > self._seconds)
