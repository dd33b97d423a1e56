"""How a process that reads begins."""

from __future__ import annotations

import contextlib
import os
import threading

import cv2

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]
import sys

from batchdigit.system.processes import discard_output, end_with_parent, obey_parent
from batchdigit.system.shared_setting import SharedSetting

# Readers share the cores, so one thread each is enough. They are forked while this is set, because
# a copy of a process whose OpenCV has threads waits for ever for threads that it does not have. For
# the same reason a forked process must not set even one, which SharedSetting doesn't where there is
# one already. (OpenCV says 0 where it never has threads.)
one_thread = SharedSetting(lambda: max(cv2.getNumThreads(), 1), cv2.setNumThreads, 1)


def settle_in() -> None:
    """To be called first in a process that reads: be deaf to the run's signals, and end with it."""
    obey_parent()
    # A process that nothing can end must not keep open what the run writes to.
    discard_output()
    # When memory runs out, the kernel shall end a process that can be replaced.
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")
    if resource is not None:  # a decoder that crashes shall not leave gigabytes of memory on disk
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    one_thread.set()
    # Beside the kernel, which knows nothing of the parent of those that a forkserver starts; the
    # thread alone would not do, for it does not run while C code holds the interpreter.
    threading.Thread(target=end_with_parent, args=(os.getppid(),), daemon=True).start()


def default_start_method() -> str:
    """The cheapest safe way to start workers in this process.

    ``fork`` needs no second import of torch (seconds for each worker) but copies the locks of
    every thread in whatever state they are, and a CUDA context not at all; so it is chosen on
    Linux as long as this process runs one Python thread and has not touched CUDA. Processes that
    replace others are forked as the first were, beside threads that compute: they only read files,
    and touch neither those threads' library nor anything that these could have locked.
    """
    if sys.platform != "linux":
        return "spawn"
    torch = sys.modules.get("torch")  # without it nobody has touched CUDA
    if threading.active_count() > 1 or (torch and torch.cuda.is_initialized()):
        return "forkserver"
    return "fork"
