"""``python -m tests.benchmarks.cuts``: compares earlier cuts of the network with plans of looks.

A sample could be sent after any stage, or as a picture before the first, and get the same answer,
since the stages are the same on both sides. For every earlier cut, codec tables are trained on the
features there; the energy model is that of the plans. ``--full`` also measures cifar10-binary.
"""

from __future__ import annotations

import io
import math
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from cloud.training.data.datasets import DATA_DIR_VARIABLE, load
from cloud.training.split.context import ContextSettings, train_context
from cloud.training.split.evaluate import device_features
from device.policy.operating_points import Conditions, level_tables, one_look_plans, operating_point
from shared.bundles import bundle_path
from shared.energy.hardware import HARDWARE
from shared.energy.model import EnergyModel, device_work
from shared.model.architecture import Architecture
from shared.model.bundle import Bundle, read_bundle
from shared.model.exits import NEVER
from shared.model.looks import plans_on_test
from shared.packed import DeviceHalf
from shared.protocol.codec import FeatureCodec
from tests.benchmarks.harness import Check, Report, main, table

SUBJECTS = (("mnist-binary", "mnist", 3000), ("cifar10-binary", "cifar10", 600))
TESTED = 500  # images
RATE_PER_S = 1.0
LOSSES = (0.001, 0.005)


@dataclass(frozen=True)
class Option:
    """A way to classify: its mean costs of a sample, and the share of right answers."""

    name: str
    accuracy: float
    payload_bytes: float
    energy_j: dict[str, float]

    def price(self, title: str) -> float:
        """Return the bytes, or the millijoules of the hardware ``title``."""
        return self.payload_bytes if title == "bytes" else 1000 * self.energy_j[title]


def run(full: bool) -> Report:
    """Compare earlier cuts with the plans of the bundle, at equal accuracy."""
    report = Report()
    folder = Path(os.environ.get(DATA_DIR_VARIABLE, "data"))
    for name, data, images in SUBJECTS if full else SUBJECTS[:1]:
        bundle = read_bundle(bundle_path(name))
        learnt = load(data, folder, "train").images[:images]
        test = load(data, folder, "test").images[:TESTED]
        cuts = [_picture(bundle, test)]
        cuts += [
            option
            for stages in range(1, len(bundle.architecture.device))
            for option in _cut(bundle, stages, learnt, test)
        ]
        plans = _plans(bundle)
        report.results[name] = {
            kind: [vars(option) for option in options]
            for kind, options in (("cuts", cuts), ("plans", plans))
        }
        _compare(report, bundle, cuts, plans)
    return report


def _cut(bundle: Bundle, stages: int, learnt: np.ndarray, test: np.ndarray) -> list[Option]:
    """Measure the levels of ``bundle`` with only ``stages`` stages on the device."""
    whole = bundle.architecture
    architecture = replace(
        whole,
        device=whole.device[:stages],
        cloud=(*whole.device[stages:], *whole.cloud),
        exit_head=False,
    )
    short = Bundle(replace(bundle.metadata, architecture=architecture), bundle.tensors)
    half, levels = DeviceHalf(short), range(len(whole.device_levels))
    rows = [device_features(half, learnt, level) for level in levels]
    settings = ContextSettings(steps=800)
    tables = train_context(rows, architecture, settings, lambda *_: None)
    network = {n: t for n, t in bundle.tensors.items() if not n.startswith("codec.")}
    codec = FeatureCodec(Bundle(short.metadata, network | tables))
    options = []
    for level in levels:
        features = device_features(half, test, level)
        size = float(np.mean([len(codec.encode(row[None], level).payload) for row in features]))
        options.append(
            Option(
                f"cut after {whole.device[stages - 1].name}, d = {whole.device_levels[level]:g}",
                bundle.metadata.accuracy[level][-1],
                size,
                {h.name: _energy(EnergyModel(h), architecture, level, size)
                 for h in HARDWARE.values()},
            )
        )  # fmt: skip
    return options


def _picture(bundle: Bundle, test: np.ndarray) -> Option:
    """Measure no stage on the device: a PNG is sent, whose encoding is not counted."""
    sizes = []
    for image in test:
        file = io.BytesIO()
        picture = image[..., 0] if image.shape[2] == 1 else image
        Image.fromarray(picture).save(file, "PNG", optimize=True)
        sizes.append(len(file.getvalue()))
    size = float(np.mean(sizes))
    energy_j = {}
    for hardware in HARDWARE.values():
        model = EnergyModel(hardware)
        energy_j[hardware.name] = model.picture_j(RATE_PER_S) + model.exchange_j(size)
    return Option("picture, PNG", bundle.metadata.accuracy[-1][-1], size, energy_j)


def _energy(model: EnergyModel, architecture: Architecture, level: int, size: float) -> float:
    work = model.compute_j(device_work(architecture, level))
    return model.picture_j(RATE_PER_S) + work + model.exchange_j(size)


def _plans(bundle: Bundle) -> list[Option]:
    """Measure plans of one look at each level, and of two looks, with exits and without."""
    tables = level_tables(bundle)
    conditions = Conditions(RATE_PER_S)
    options = []
    plans = [*one_look_plans(tables, NEVER), *one_look_plans(tables), *plans_on_test(bundle)]
    for plan in plans:
        points = {
            name: operating_point(plan, tables, 0.0, EnergyModel(hardware), conditions)
            for name, hardware in HARDWARE.items()
        }
        point = next(iter(points.values()))
        looks = f"{point.fraction:g}" + ("" if point.then is None else f":{point.then:g}")
        exits = f", exit at {plan.exit_threshold:g}" if plan.has_exit else ""
        energy_j = {name: one.energy_j for name, one in points.items()}
        options.append(Option(looks + exits, plan.accuracy, point.payload_bytes, energy_j))
    return options


def _compare(report: Report, bundle: Bundle, cuts: list[Option], plans: list[Option]) -> None:
    """Compare the best cut with the best plan, by bytes and by each hardware's energy."""
    full = bundle.metadata.accuracy[-1][-1]
    name, rows = bundle.metadata.name, []
    prices = ("bytes", *HARDWARE)
    for loss in LOSSES:
        for title in prices:
            cut, plan = (
                min(
                    (one for one in options if one.accuracy >= full - loss),
                    key=lambda one: one.price(title),
                )
                for options in (cuts, plans)
            )
            least = plan.price(title)  # no bytes at all, if the exit head answers everything
            ratio = cut.price(title) / least if least else math.inf
            rows.append(
                (f"{100 * loss:g}", title, plan.name, f"{plan.price(title):.3g}",
                 cut.name, f"{cut.price(title):.3g}", f"{ratio:.2f}")
            )  # fmt: skip
            check = f"cut_{name.split('-')[0]}_{title.replace('-', '_')}_{1000 * loss:g}"
            report.checks.append(Check(check, ratio, "x", 0.9, "lower"))
    headings = ("points lost", "by", "plan", "bytes, mJ", "cut", "bytes, mJ", "ratio")
    report.tables.append(table(name, headings, rows))


if __name__ == "__main__":
    main("cuts", __doc__ or "", run)
