"""What ``batchdigit`` and ``python -m batchdigit`` run."""

import signal


def main() -> None:
    """Run the program and exit."""
    # Until the program handles it itself, Ctrl-C ends it without Python's traceback.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    from batchdigit import cli  # which takes a tenth of a second

    cli.main()


if __name__ == "__main__":
    main()
