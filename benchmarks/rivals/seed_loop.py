"""The plain loop: ``python -m benchmarks.rivals.seed_loop FOLDER OUT.csv``."""

import sys
from pathlib import Path

from benchmarks.rivals.common import WEIGHTS, write_csv
from tests.support.oracle import seed_loop

if __name__ == "__main__":
    folder, out = sys.argv[1:]
    paths = sorted(Path(folder).glob("*.png"))
    rows = zip(paths, seed_loop(paths, WEIGHTS), strict=True)
    write_csv(out, ((path.name, row.prediction, max(row.probs)) for path, row in rows))
