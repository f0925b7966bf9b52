"""``python -m tests.benchmarks.training``: from a folder of pictures to a bundle, and its memory.

The pictures are digits of the shipped sample, shifted and scaled so that no two are alike. By
default few are imported, to see that it works; ``--full`` imports 100,000 and trains on 8,000 of
64x64 for ten epochs, as the targets say, which takes half an hour.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from shared.data.sample import sample_digits
from tests.benchmarks.harness import Check, Report, main, table
from tests.support.processes import ROOT, environment

FEW, MANY = 2_000, 100_000
OWN_TASK_PICTURES, OWN_TASK_CLASSES, OWN_TASK_SIDE, OWN_TASK_EPOCHS = 8_000, 4, 64, 10
IMPORT_TARGET_MB, OWN_TASK_TARGET_MINUTES = 400, 20


def run(full: bool) -> Report:
    """Import, and with ``full`` train and export too."""
    report = Report()
    with tempfile.TemporaryDirectory() as place:
        memory(report, Path(place), MANY if full else FEW)
        minutes = own_task(report, Path(place)) if full else None
    target = OWN_TASK_TARGET_MINUTES
    report.checks.append(Check("own_task_minutes", minutes, "minutes", target, "lower"))
    return report


def memory(report: Report, place: Path, count: int) -> None:
    """Peak memory of the import of ``count`` pictures; the target is for 100,000."""
    pictures = place / "pictures" / "many"
    write_pictures(pictures, count, 10, 28)
    words = ["import", str(pictures), "--size", "28x28", "--grey"]
    seconds, peak_mb = measured("cloud.training.datasets", *words, "--data-dir", str(place))
    rate = count / seconds
    report.results["import"] = {"pictures": count, "peak_mb": peak_mb, "pictures_a_second": rate}
    value = round(peak_mb, 1) if count == MANY else None
    report.checks.append(Check("import_mb", value, "MB", IMPORT_TARGET_MB, "lower"))
    rows = [[str(count), f"{peak_mb:.0f} MB", f"{rate:.0f}"]]
    report.tables.append(table("Import", ("pictures", "peak memory", "pictures a second"), rows))


def own_task(report: Report, place: Path) -> float:
    """Minutes from class folders of 64x64 pictures to a bundle, on two cores."""
    pictures = place / "pictures" / "own"
    write_pictures(pictures, OWN_TASK_PICTURES, OWN_TASK_CLASSES, OWN_TASK_SIDE)
    side = f"{OWN_TASK_SIDE}x{OWN_TASK_SIDE}"
    data = ("--data-dir", str(place))
    import_s, _ = measured(
        "cloud.training.datasets", "import", str(pictures), "--size", side, *data
    )
    output = str(place / "own.safetensors")
    flags = ("--network", "colour", "--data", "own", "--output", output, "--threads", "2")
    train_s, peak_mb = measured(
        "cloud.training.train", *flags, "--epochs", str(OWN_TASK_EPOCHS), *data
    )
    report.results["own_task"] = {"import_s": import_s, "train_s": train_s, "peak_mb": peak_mb}
    return round((import_s + train_s) / 60, 1)


def write_pictures(folder: Path, count: int, classes: int, side: int) -> None:
    """PNG files in class folders, all different."""
    images, labels = sample_digits()
    random = np.random.default_rng(1)
    for label in range(classes):
        (folder / str(label)).mkdir(parents=True)
    rows = [np.flatnonzero(labels == label) for label in range(classes)]
    for number in range(count):
        label = number % classes
        digit = images[rows[label][number // classes % len(rows[label])]]
        moved = np.roll(digit, random.integers(-3, 4, 2), (0, 1)).astype(np.int16)
        noisy = (moved + random.integers(0, 8, digit.shape)).clip(0, 255).astype(np.uint8)
        picture = Image.fromarray(noisy).resize((side, side))
        picture.save(folder / str(label) / f"{number}.png", compress_level=1)


def measured(module: str, *words: str) -> tuple[float, float]:
    """Seconds and peak memory in MB of one command."""
    begin = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", module, *words],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{module} ended with {process.returncode}")
    return time.perf_counter() - begin, usage.ru_maxrss / 1024


if __name__ == "__main__":
    main("training", (__doc__ or "").split("\n")[0], run)
