"""``batchdigit doctor``: whether everything that a run needs is there."""
