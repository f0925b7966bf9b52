"""``python -m tests.benchmarks.training``: memory and time from a folder of pictures to a bundle.

The pictures are digits of the shipped sample, shifted and scaled so that no two are equal. By
default a few are imported and used for a calibration, as a trial, and the training step is compared
with an earlier one (``earlier_step``). ``--full`` imports 100,000 pictures, calibrates on 8,192 of
160x120, and trains on 8,000 of 64x64 for ten epochs, as the targets require; this takes half an
hour. ``--only import|calibration|step|own`` measures one part.
"""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import open_memmap
from PIL import Image

from cloud.training.split.architectures import colour
from cloud.training.split.pairs import draw_pairs
from cloud.training.split.processor import CPU
from cloud.training.split.settings import Settings
from cloud.training.split.steps import Stepper
from shared.data.sample import sample_digits
from shared.model.architecture import Shape
from shared.networks.binarynet import BinaryNet
from tests.benchmarks.earlier_step import EarlierStep
from tests.benchmarks.harness import Check, Report, main, ratio, table
from tests.support.processes import ROOT, environment, start_server

FEW, MANY = 2_000, 100_000
OWN_TASK_PICTURES, OWN_TASK_CLASSES, OWN_TASK_SIDE, OWN_TASK_EPOCHS = 8_000, 4, 64, 10
OWN_TASK_BUDGET = ("--device-mmac", "20", "--payload", "300")
IMPORT_TARGET_MB, OWN_TASK_TARGET_MINUTES = 400, 20
CALIBRATED_FEW, CALIBRATED, CALIBRATED_SIZE = 64, 8_192, (120, 160, 3)
CALIBRATION_TARGET_MB = 1_500
STEP_TARGET, STEP_BATCH, STEP_ROUNDS, STEPS_A_ROUND = 1.3, 128, 5, 4
LEARNING_RATE = 0.0025


def run(full: bool, only: str = "") -> Report:
    """Measure everything, or one part; with ``full`` at the sizes of the targets."""
    os.sched_setaffinity(0, range(os.cpu_count() or 1))  # training uses all cores
    report = Report()
    with tempfile.TemporaryDirectory() as place:
        if only in ("", "import"):
            memory(report, Path(place), MANY if full else FEW)
        if only in ("", "calibration"):
            calibration(report, Path(place), CALIBRATED if full else CALIBRATED_FEW)
        if only in ("", "step"):
            step(report)
        if only in ("", "own"):
            minutes = own_task(report, Path(place)) if full else None
            target = OWN_TASK_TARGET_MINUTES
            report.checks.append(Check("own_task_minutes", minutes, "minutes", target, "lower"))
    return report


def calibration(report: Report, place: Path, count: int) -> None:
    """Measure the peak memory of a calibration at 160x120; the target is for 8,192 pictures."""
    folder = place / "calibrated"
    folder.mkdir()
    shape = (count, *CALIBRATED_SIZE)
    images = open_memmap(folder / "train-images.npy", "w+", np.uint8, shape)
    generator = np.random.default_rng(1)
    for start in range(0, count, 64):
        part = images[start : start + 64]
        part[:] = generator.integers(0, 256, part.shape, np.uint8)
    images.flush()
    del images
    seconds, peak_mb = measured("tests.benchmarks.calibrating", str(folder), str(count))
    report.results["calibration"] = {"pictures": count, "peak_mb": peak_mb, "seconds": seconds}
    value = round(peak_mb, 1) if count == CALIBRATED else None
    report.checks.append(Check("calibration_mb", value, "MB", CALIBRATION_TARGET_MB, "lower"))
    rows = [[str(count), f"{peak_mb:.0f} MB", f"{seconds:.0f} s"]]
    report.tables.append(table("Calibration", ("pictures", "peak memory", "time"), rows))


def step(report: Report) -> None:
    """Measure a step of ``colour`` on 32x32 by the sandwich rule, and the earlier step.

    An epoch has the same number of steps in both, so the ratio of epochs is that of steps.
    """
    made = colour(Shape(32, 32, 3), 10)
    settings = Settings(pairs="sandwich", batch=STEP_BATCH, learning_rate=LEARNING_RATE)
    generator = random.Random(1)
    drawn = [draw_pairs(made, settings, generator, falling=True) for _ in range(STEPS_A_ROUND)]
    torch.manual_seed(1)
    images = torch.randint(0, 256, (STEP_BATCH, 3, 32, 32)).float()
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (STEP_BATCH,))
    net = BinaryNet(made).train()
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    stepper = Stepper(net, settings, CPU)
    stepper.set_rate(LEARNING_RATE)
    earlier = EarlierStep(BinaryNet(made).train(), LEARNING_RATE)
    times: dict[str, list[float]] = {"now": [], "before": []}
    for warm in (True, *[False] * STEP_ROUNDS):
        for name, once in (
            ("now", lambda pairs: stepper.step(images, labels, pairs, None)),
            ("before", lambda pairs: earlier.step(images, labels, pairs)),
        ):
            begin = time.perf_counter()
            for pairs in drawn:
                once(pairs)
            if not warm:
                times[name].append((time.perf_counter() - begin) / len(drawn))
    medians = {name: statistics.median(found) for name, found in times.items()}
    report.results["step_s"] = medians
    value = round(ratio(times["before"], times["now"]), 2)
    report.checks.append(Check("epoch_vs_before", value, "times", STEP_TARGET, "higher"))
    rows = [[name, f"{1000 * seconds:.0f} ms"] for name, seconds in medians.items()]
    report.tables.append(table("Step of colour, batch 128", ("", "median"), rows))


def memory(report: Report, place: Path, count: int) -> None:
    """Measure the peak memory of the import of ``count`` pictures; the target is for 100,000."""
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
    """Measure minutes from class folders of 64x64 pictures to a server with the bundle, on two
    cores.

    The network is the one that docs/own-task.md suggests for pictures of that size.
    """
    pictures = place / "pictures" / "own"
    write_pictures(pictures, OWN_TASK_PICTURES, OWN_TASK_CLASSES, OWN_TASK_SIDE)
    side = f"{OWN_TASK_SIDE}x{OWN_TASK_SIDE}"
    data = ("--data-dir", str(place))
    import_s, _ = measured(
        "cloud.training.datasets", "import", str(pictures), "--size", side, *data
    )
    network, output = str(place / "own.toml"), str(place / "own.safetensors")
    wanted = ("--size", side, "--classes", str(OWN_TASK_CLASSES), *OWN_TASK_BUDGET)
    suggest_s, _ = measured("cloud.training.architecture", "suggest", *wanted, "--output", network)
    flags = ("--architecture", network, "--data", "own", "--output", output, "--threads", "2")
    train_s, peak_mb = measured(
        "cloud.training.train", *flags, "--epochs", str(OWN_TASK_EPOCHS), *data
    )
    begin = time.perf_counter()
    with start_server("--model", output):
        serve_s = time.perf_counter() - begin
    seconds = {"import_s": import_s, "suggest_s": suggest_s, "train_s": train_s, "serve_s": serve_s}
    report.results["own_task"] = {**seconds, "peak_mb": peak_mb}
    return round(sum(seconds.values()) / 60, 1)


def write_pictures(folder: Path, count: int, classes: int, side: int) -> None:
    """Write PNG files in class folders, all different."""
    images, labels = sample_digits()
    generator = np.random.default_rng(1)
    for label in range(classes):
        (folder / str(label)).mkdir(parents=True)
    rows = [np.flatnonzero(labels == label) for label in range(classes)]
    for number in range(count):
        label = number % classes
        digit = images[rows[label][number // classes % len(rows[label])]]
        moved = np.roll(digit, generator.integers(-3, 4, 2), (0, 1)).astype(np.int16)
        noisy = (moved + generator.integers(0, 8, digit.shape)).clip(0, 255).astype(np.uint8)
        picture = Image.fromarray(noisy).resize((side, side))
        picture.save(folder / str(label) / f"{number}.png", compress_level=1)


def measured(module: str, *words: str) -> tuple[float, float]:
    """Return seconds and peak memory in MB of one command."""
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


def only() -> str:
    """Return the value of ``--only``, which the harness does not parse."""
    if "--only" not in sys.argv:
        return ""
    at = sys.argv.index("--only")
    _, value = sys.argv[at : at + 2]
    del sys.argv[at : at + 2]
    return value


if __name__ == "__main__":
    main("training", (__doc__ or "").split("\n")[0], partial(run, only=only()))
