"""``batchdigit bench``: how fast runs are on this machine, and what holds them back."""
