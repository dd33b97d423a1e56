"""How a worker process starts."""

from __future__ import annotations

import contextlib
import multiprocessing
import threading

import cv2

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]
import sys

from batchdigit.system.processes import (
    discard_output,
    end_with_parent,
    limit_memory,
    obey_parent,
)
from batchdigit.system.shared_setting import SharedSetting

# Worker processes share the cores, so one thread each is enough. They are forked while this is set,
# because a fork of a process whose OpenCV has threads waits for ever for threads that it does not
# have. For the same reason a fork must not set the number, not even to one; SharedSetting leaves a
# number alone that is one already. (OpenCV says 0 where it never has threads.)
one_thread = SharedSetting(lambda: max(cv2.getNumThreads(), 1), cv2.setNumThreads, 1)


def settle_in(memory: int | None = None) -> None:
    """Call it first in a worker process: ignore the run's signals, and end with the run.

    It may take ``memory`` bytes beyond those that it begins with; None sets no limit.
    """
    obey_parent()
    # A process that nothing can end must not keep the run's output streams open.
    discard_output()
    # When memory runs out, the kernel should kill a process that can be replaced.
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")
    if resource is not None:  # no core dumps: a crash would write gigabytes
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    one_thread.set()
    if memory is not None:
        limit_memory(memory)
    # Needed where the kernel does not help (see obey_parent). The thread alone would not do:
    # it does not run while C code holds the interpreter.
    threading.Thread(target=end_with_parent, daemon=True).start()


def choose_start_method(asked: str | None) -> str:
    """How worker processes start from this one: ``fork``, or ``spawn`` for those that begin afresh.

    ``asked`` is what the user wants, if anything. ``forkserver`` is ``spawn``: without modules
    that it imports beforehand, a forkserver has nothing that a new process could take over.

    A fork saves imports, which take a new process a third of a second. But it copies the locks of
    all threads in whatever state they are, and does not copy a CUDA context, and multiprocessing
    lets no daemonic process fork. So it is chosen on Linux while this process is no daemon, runs
    one Python thread and has not touched CUDA.

    Processes that replace others are forked as the first ones were, although threads compute by
    then. They only read images, and touch neither the library of those threads nor anything that
    the threads could have locked.
    """
    if multiprocessing.current_process().daemon:
        return "spawn"
    if asked is not None:
        return "fork" if asked == "fork" else "spawn"
    if sys.platform != "linux":
        return "spawn"
    torch = sys.modules.get("torch")  # without it nothing has touched CUDA
    if threading.active_count() > 1 or (torch and torch.cuda.is_initialized()):
        return "spawn"
    return "fork"
