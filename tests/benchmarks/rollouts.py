"""Simulates roll-outs: how often an equal model is stopped, and how often a worse one passes.

200 devices replay recorded outputs of real bundles on the 10,000 MNIST test images, a random image
for each sample, with the decisions of ``cloud.fleet rollout``. The worse model has the outputs of
``mnist-binary-paper`` on as many images as make it 1.5 points worse, and those of ``mnist-binary``
on the others, both at fractions d = 0.3 and c = 0.5 without exits. Without labels an exit head is
needed, which only one bundle has: the worse model is then ``mnist-binary`` at d = 0.125, c = 0.25.

    python -m tests.benchmarks.rollouts --record DATA_FOLDER    records the outputs anew
    python -m tests.benchmarks.rollouts --rollouts 1000
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cloud.fleet.rollout.core import Evidence, Observation, step
from cloud.fleet.rollout.record import Phase, plan
from cloud.fleet.state import DeviceState
from cloud.telemetry.sums import Sums
from shared.fleet.messages import DeviceSettings, Reported
from shared.fleet.scenario import Rollout

RECORDED = Path(__file__).parent / "rollout_outputs.npz"
DEVICES = 200
SAMPLES = 30  # number of samples of a device in a period of a minute
MOST_PERIODS = 200
WORSE = 0.015
AUDIT_RATE = 0.05
LOCAL_MS, CLOUD_MS, LOCAL_J, CLOUD_J = 2.0, 15.0, 0.0004, 0.003
RULES = Rollout.model_validate({"model": "new", "watch": "10m"})
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Outputs:
    """The outputs of a model for each test image."""

    right: Bools  # whether the answer of device or cloud is right
    local: Bools  # whether the exit head answers
    agrees: Bools  # whether exit head and cloud have the same answer
    confidence: npt.NDArray[np.float64]  # that of the exit head; nan without one


def mixed(first: Outputs, other: Outputs, take: Bools) -> Outputs:
    """Return the outputs of ``other`` on the images of ``take``, and of ``first`` on the rest."""
    names = ("right", "local", "agrees", "confidence")
    return Outputs(**{n: np.where(take, getattr(other, n), getattr(first, n)) for n in names})


def made_worse(first: Outputs, other: Outputs, by: float) -> Outputs:
    """Return ``first`` with outputs of ``other`` on as many images as make it worse ``by``."""
    order = np.random.default_rng(0).permutation(len(first.right))
    loss = np.cumsum(first.right[order].astype(int) - other.right[order]) / len(order)
    count = int(np.argmax(loss >= by)) + 1
    take = np.zeros(len(order), bool)
    take[order[:count]] = True
    return mixed(first, other, take)


class Replay:
    """The devices of one roll-out and their telemetry so far."""

    def __init__(self, old: Outputs, new: Outputs, labels: bool, seed: int) -> None:
        self._models = {"old": old, "new": new}
        self._labels = labels
        self._chance = np.random.default_rng(seed)
        self.names = [f"device-{number:05d}" for number in range(DEVICES)]
        self.desired: dict[str, str | None] = dict.fromkeys(self.names)
        self.sums: dict[str, dict[str, Sums]] = {"old": {}, "new": {}}
        self._counts = {name: np.zeros((DEVICES, 6)) for name in self._models}
        self._periods = 0  # number of periods since the last ``forget``

    def forget(self) -> None:
        """Set all counts to 0."""
        for counts in self._counts.values():
            counts[:] = 0
        self._periods = 0

    def model(self, name: str) -> str:
        """Return the name of the model that a device works with."""
        return self.desired[name] or "old"

    def period(self) -> None:
        """Let every device work for a minute."""
        self._periods += 1
        images = self._chance.integers(0, len(self._models["old"].right), (DEVICES, SAMPLES))
        audits = self._chance.random((DEVICES, SAMPLES)) < AUDIT_RATE
        has_new = np.array([self.model(name) == "new" for name in self.names])
        for kind, outputs in self._models.items():
            mine = has_new if kind == "new" else ~has_new
            chosen, heard = images[mine], outputs.local[images[mine]]
            audited = audits[mine] & heard
            sure = outputs.confidence[chosen]
            columns = (
                outputs.right[chosen], heard & ~audited, audited,
                audited & outputs.agrees[chosen], ~np.isnan(sure), np.nan_to_num(sure),
            )  # fmt: skip
            counts = self._counts[kind]
            counts[mine] += np.stack([column.sum(axis=1) for column in columns], axis=1)
        self.sums = {kind: self._summed(counts, has_new == (kind == "new"))
                     for kind, counts in self._counts.items()}  # fmt: skip

    def _summed(self, counts: npt.NDArray[np.float64], mine: Bools) -> dict[str, Sums]:
        found = {}
        for place in np.flatnonzero(mine):
            right, local, audited, agreed, asked, sure = counts[place].tolist()
            total = self._periods * SAMPLES
            cloud = total - local
            found[self.names[place]] = Sums(
                messages=self._periods,
                answered_device=int(local),
                answered_cloud=int(cloud),
                labelled=total if self._labels else 0,
                right=int(right) if self._labels else 0,
                audited=int(audited),
                agreed=int(agreed),
                exits_asked=int(asked),
                confidence=sure,
                waited_ms=LOCAL_MS * local + CLOUD_MS * cloud,
                energy_j=LOCAL_J * local + CLOUD_J * cloud,
            )
        return found


def simulate(old: Outputs, new: Outputs, labels: bool, seed: int) -> tuple[Phase, int]:
    """Return how a roll-out ended, and after how many periods."""
    replay = Replay(old, new, labels, seed)
    devices = [DeviceState(name) for name in replay.names]
    for one in devices:
        one.reported = Reported(one.name, 1, 0, DeviceSettings(model="old"), model_version="1")
    record = plan("default", seed, RULES, devices, 0.0)
    for period in range(1, MOST_PERIODS):
        replay.period()
        mark_s = record.progress.mark_s
        models = {name: replay.model(name) for name in replay.names}
        seen = {name: Observation(True, True, replay.desired[name], model, model)
                for name, model in models.items()}  # fmt: skip
        evidence = Evidence(60.0 * period, replay.sums["new"], replay.sums["old"])
        result = step(record, seen, evidence, 60.0 * period)
        record = result.record
        if record.progress.mark_s != mark_s:
            replay.forget()
        if record.progress.phase is not Phase.RUNNING:
            return record.progress.phase, period
        replay.desired.update(result.orders)
    return Phase.PAUSED, MOST_PERIODS


def read() -> dict[str, Outputs]:
    """Return the recorded outputs by name: ``binary``, ``paper``, ``exits`` and ``narrow``."""
    with np.load(RECORDED) as stored:
        sure = {name: np.where(stored[f"{name}_confidence"] == 0, np.nan,
                               stored[f"{name}_confidence"] / 255)
                for name in ("binary", "paper", "exits", "narrow")}  # fmt: skip
        bits = {name: np.unpackbits(stored[name], axis=1).astype(bool) for name in sure}
    return {name: Outputs(bits[name][0], bits[name][1], bits[name][2], sure[name]) for name in sure}


def rates(rollouts: int) -> dict[str, float]:
    """Return how often an equal model is stopped and a worse one passes, with and without
    labels.
    """
    recorded = read()
    worse = made_worse(recorded["binary"], recorded["paper"], WORSE)
    cases = {
        "false_stop": (recorded["binary"], recorded["binary"], True),
        "missed": (recorded["binary"], worse, True),
        "false_stop_unlabelled": (recorded["exits"], recorded["exits"], False),
        "missed_unlabelled": (recorded["exits"], recorded["narrow"], False),
    }
    found: dict[str, float] = {}
    for name, (old, new, labels) in cases.items():
        ends = [simulate(old, new, labels, seed) for seed in range(rollouts)]
        stopped = sum(phase is Phase.GOING_BACK for phase, _ in ends) / rollouts
        passed = sum(phase is Phase.SPREADING for phase, _ in ends) / rollouts
        found[name] = stopped if name.startswith("false") else passed
        found[f"{name}_undecided"] = 1 - stopped - passed
        found[f"{name}_minutes"] = float(np.mean([periods for _, periods in ends]))
    return found


def record(folder: Path) -> None:
    """Compute the outputs of the bundles on the MNIST test images in ``folder``, and store them."""
    from cloud.training.data.datasets import load
    from shared.bundles import bundle_path
    from shared.model.bundle import read_bundle
    from shared.model.exits import local_answer, read_calibration
    from shared.packed import CloudHalf, DeviceHalf

    data = load("mnist", folder, "test")
    kept: dict[str, npt.NDArray[np.uint8]] = {}
    for name, model, level, cloud_level, exits in (
        ("binary", "mnist-binary", 2, 1, False), ("paper", "mnist-binary-paper", 2, 1, False),
        ("exits", "mnist-binary", 2, 3, True), ("narrow", "mnist-binary", 0, 0, True),
    ):  # fmt: skip
        bundle = read_bundle(bundle_path(model))
        device, cloud = DeviceHalf(bundle), CloudHalf(bundle)
        features = device.run(data.images, level)
        answer = cloud.run(features, level, cloud_level).argmax(axis=1)
        sure = np.zeros(len(answer))
        local = agrees = np.zeros(len(answer), bool)
        calibration = read_calibration(bundle)
        if exits and calibration is not None:
            logits = device.exit_logits(features, level)
            said = [local_answer(row.tolist(), calibration.temperature[level]) for row in logits]
            own = np.array([one.label for one in said])
            sure = np.array([one.confidence for one in said])
            local, agrees = sure >= calibration.threshold[level], own == answer
            answer = np.where(local, own, answer)
        right = answer == np.asarray(data.labels)
        kept[name] = np.packbits(np.stack([right, local, agrees]), axis=1)
        kept[f"{name}_confidence"] = np.ceil(255 * sure).astype(np.uint8)
    np.savez_compressed(RECORDED, allow_pickle=False, **kept)


def main() -> None:
    """Record outputs, or simulate and print the rates."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rollouts", type=int, default=1000)
    parser.add_argument("--record", type=Path, metavar="DATA_FOLDER")
    given = parser.parse_args()
    if given.record is not None:
        record(given.record)
        return
    for name, value in rates(given.rollouts).items():
        sys.stdout.write(f"{name:32} {value:.4g}\n")


if __name__ == "__main__":
    main()
