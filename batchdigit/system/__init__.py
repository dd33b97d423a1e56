"""What is asked of the system: cores, signals, processes, locks, files that appear whole."""
