"""``python -m tests.benchmarks.web``: the device half in a browser.

``--full`` runs 1,000 test images of MNIST (fetched before), without it the 200 shipped digits.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from statistics import mean

import numpy as np
import numpy.typing as npt

from cloud.training.data.datasets import DATA_DIR_VARIABLE, load
from shared.bundles import bundle_path
from shared.data.sample import sample_digits
from shared.model.bundle import read_bundle
from tests.benchmarks.harness import Check, Report, main
from tests.support.boards import expected
from tests.support.web_module import build_module, run_in_node

MODEL = "mnist-binary"
MANY = 1000
KIB = 1024


def run(full: bool) -> Report:
    """Measure the module's size and compare its outputs with the packed runtime's."""
    report = Report()
    with tempfile.TemporaryDirectory() as scratch:
        page = build_module(MODEL, Path(scratch))
        size = sum((page / name).stat().st_size for name in ("taper.wasm", f"{MODEL}.blob"))
        pictures = images(full)
        same = {"node": identical_in_node(page, pictures)}
    report.results = {"images": len(pictures), "identical": same}
    report.checks = [
        Check("wasm_kb", round(size / KIB, 1), "KB", 96, "lower"),
        Check("identical_outputs", min(same.values()), "", 1, "higher"),
    ]
    return report


def images(full: bool) -> npt.NDArray[np.uint8]:
    """Digits (N, 28, 28, 1)."""
    if not full:
        return sample_digits()[0][:, :, :, None]
    folder = Path(os.environ.get(DATA_DIR_VARIABLE, "data"))
    return load("mnist", folder, "test").images[:MANY]


def identical_in_node(page: Path, pictures: npt.NDArray[np.uint8]) -> float:
    """Share of pictures and levels whose bits, exit answer and request are the packed runtime's."""
    bundle = read_bundle(bundle_path(MODEL))
    results, _ = run_in_node(page, MODEL, pictures)
    wanted = expected(bundle, range(len(bundle.architecture.device_levels)), pictures)
    return mean(result.equals(one) for result, one in zip(results, wanted, strict=True))


if __name__ == "__main__":
    main("web", __doc__ or "", run)
