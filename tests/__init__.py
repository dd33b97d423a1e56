"""The tests. Several processes run them at the same time, so threads that wait must not spin."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when PyTorch is imported
