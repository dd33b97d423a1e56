"""``python -m batchdigit``."""

from batchdigit.cli import main

main()
