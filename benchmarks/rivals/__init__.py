"""What one would write by hand: ``python -m benchmarks.rivals.NAME FOLDER OUT.csv``.

Each reads every PNG file of FOLDER, runs the CNN with the packaged weights, and writes filename,
prediction and confidence in the order of the names.
"""
