"""The entry point of ``batchdigit`` and ``python -m batchdigit``."""

import atexit
import gc
import os
import signal
import sys


def main() -> None:
    """Run the program and exit."""
    # Until the program handles Ctrl-C itself, let it end the program without a traceback.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    gc.disable()  # imports leave no garbage, and looking for it takes a tenth of the start
    from batchdigit.cli import app  # takes a tenth of a second

    try:
        app.main()
    except SystemExit as ending:
        _exit(ending)


def _exit(ending: SystemExit) -> None:
    """Exit as Python does, but without taking PyTorch apart, which would take 0.3 s."""
    if not isinstance(ending.code, int | None):
        raise ending  # with a message, which Python prints
    code = ending.code or 0
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            code = code or 1
    os._exit(code)


if __name__ == "__main__":
    main()
