"""Benchmarks: ``python -m tests.benchmarks.NAME [--json]`` prints numbers, whatever they are."""

import os

# Read when numpy and torch load, which is after this package: one thread for everything.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
