"""What the program asks of the system: cores, signals, processes, locks, whole files."""
