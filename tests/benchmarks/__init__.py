"""Benchmarks: ``python -m tests.benchmarks.NAME [--json]`` prints numbers and never fails
on them.
"""

import os

# One thread for everything. numpy and torch read these when they load, which is after this package.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
