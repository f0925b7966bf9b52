"""Calibrate second looks: measure plans on the validation split and choose the best ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cloud.training.split.evaluate import cloud_logits, device_features
from shared.energy.hardware import HARDWARE
from shared.energy.model import EnergyModel, Work, device_work, exit_work
from shared.energy.plans import plan_energy_j
from shared.model.bundle import Bundle
from shared.model.exits import NEVER, margin_threshold, margins, read_calibration
from shared.model.looks import METADATA_KEY, NO_LOOK, PAYLOADS_KEY, LookPlan, cheapest, to_rows
from shared.packed import CloudHalf, DeviceHalf
from shared.protocol import looks
from shared.protocol.codec import FeatureCodec

# Shares of the samples for which a second look is requested; each gives a threshold.
ASKED = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7)
EXITS = (0.9, 0.95, 0.98)  # confidences from which samples stay, besides the bundle's threshold
# Confidences of the exit head below which the device takes the second look at once. Of these
# samples most would need a second look anyway, so there is no lower limit.
ESCALATED = (0.0, 0.4, 0.5, 0.6)
LOSSES = (0.001, 0.005, 0.002, 0.01)  # losses of accuracy against the widest level
MOST = 13  # plans of a bundle, about 60 bytes each
NO_WORK = Work(0, 0, 0)


@dataclass(frozen=True)
class LevelAnswers:
    """The answers at one device level for N images, with the cloud at full width.

    right (N,)          whether the cloud's answer is right
    margin (N,)         its best logit minus the second best, as in ``shared.protocol.looks``
    payload_bytes (N,)  of each sample sent alone
    device_macs         of one sample
    exit_right, exit_margin (N,)   the same for the exit head, None without one
    temperature, exit_threshold    of the exit head; the threshold is ``NEVER`` if not calibrated
    work, exit_work     work of one sample, for computing energies
    """

    right: npt.NDArray[np.bool_]
    margin: npt.NDArray[np.int64]
    payload_bytes: npt.NDArray[np.int64]
    device_macs: int
    exit_right: npt.NDArray[np.bool_] | None = None
    exit_margin: npt.NDArray[np.int64] | None = None
    temperature: float = 1.0
    exit_threshold: float = NEVER
    work: Work = NO_WORK
    exit_work: Work = NO_WORK


@dataclass(frozen=True)
class Choice:
    """The levels and thresholds of a plan, as in ``LookPlan``."""

    first: int
    second: int = NO_LOOK
    ask_below: int = 0
    exit_threshold: float = NEVER
    escalate_below: float = 0.0


def level_answers(
    bundle: Bundle, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64]
) -> list[LevelAnswers]:
    """Run images (N, H, W, C) through every device level."""
    device, cloud, codec = DeviceHalf(bundle), CloudHalf(bundle), FeatureCodec(bundle)
    architecture, calibration = bundle.architecture, read_calibration(bundle)
    widest = len(architecture.cloud_levels) - 1
    found = []
    for level in range(len(architecture.device_levels)):
        features = device_features(device, images, level)
        logits = cloud_logits(cloud, features, level, widest)
        sizes = [len(codec.encode(row[None], level).payload) for row in features]
        exits = device.exit_logits(features, level) if architecture.exit_head else None
        found.append(
            LevelAnswers(
                right=logits.argmax(axis=1) == labels,
                margin=looks.margins(logits),
                payload_bytes=np.array(sizes, np.int64),
                device_macs=architecture.device_macs(level),
                exit_right=None if exits is None else exits.argmax(axis=1) == labels,
                exit_margin=None if exits is None else margins(exits),
                temperature=calibration.temperature[level] if calibration else 1.0,
                exit_threshold=calibration.threshold[level] if calibration else NEVER,
                work=device_work(architecture, level),
                exit_work=exit_work(architecture, level),
            )
        )
    return found


def measure(
    levels: Sequence[LevelAnswers], choice: Choice
) -> tuple[LookPlan, npt.NDArray[np.bool_]]:
    """Evaluate a choice on the images of ``levels``; return its plan and which answers
    are right.
    """
    one = levels[choice.first]
    nobody = np.zeros(len(one.right), np.bool_)
    stays = escalated = nobody
    right, sent = one.right, one.payload_bytes
    if one.exit_margin is not None and one.exit_right is not None:
        stays = one.exit_margin >= margin_threshold(choice.exit_threshold, one.temperature)
        right = np.where(stays, one.exit_right, right)
        if choice.second != NO_LOOK:
            least = margin_threshold(choice.escalate_below, one.temperature)
            escalated = ~stays & (one.exit_margin < least)
    asked = again = nobody
    sent = np.where(stays | escalated, 0, sent)
    macs = float(one.device_macs)
    if choice.second != NO_LOOK:
        two = levels[choice.second]
        asked = ~stays & ~escalated & (one.margin < choice.ask_below)
        again = asked | escalated
        right = np.where(again, two.right, right)
        sent = sent + np.where(again, two.payload_bytes, 0)
        macs += float(again.mean()) * two.device_macs
    plan = LookPlan(
        choice.first,
        choice.second,
        choice.exit_threshold,
        choice.escalate_below,
        choice.ask_below,
        stays=float(stays.mean()),
        escalated=float(escalated.mean()),
        asked=float(asked.mean()),
        accuracy=float(right.mean()),
        payload_bytes=float(sent.mean()),
        device_macs=macs,
    )
    return plan, right


def _losses(
    levels: Sequence[LevelAnswers], right: npt.NDArray[np.bool_], exits: bool
) -> list[tuple[LookPlan, float]]:
    """Return every plan that is tried, without or with the exit head, and its loss of accuracy.

    ``right`` (N,) tells which answers of the widest level are right. There are so many plans with
    the exit head that some look good by chance, so one standard error is added to their loss.
    """
    found = []
    for choice in choices(levels, exits):
        plan, mine = measure(levels, choice)
        pairs = right.astype(np.int64) - mine
        luck = float(pairs.std()) / len(pairs) ** 0.5 if exits else 0.0
        found.append((plan, float(pairs.mean()) + luck))
    return found


def plans_of(levels: Sequence[LevelAnswers], most: int = MOST) -> list[LookPlan]:
    """Return at most ``most`` plans for a bundle to list; the widest level alone is one of them.

    Each is the cheapest plan, by one of the prices, among those that lose no more than one of
    ``LOSSES``. Plans that another plan of the same kind (with or without exits) beats in accuracy,
    bytes and operations are left out.
    """
    full, right = measure(levels, Choice(len(levels) - 1))
    kept = [full]
    pools = [_losses(levels, right, exits=False)]
    if levels[0].exit_margin is not None:
        pools.append(_losses(levels, right, exits=True))
    for loss in LOSSES:
        for pool in pools:
            enough = [plan for plan, lost in pool if lost <= loss] or [full]
            for price in _prices(levels):
                best = price(enough)
                if len(kept) < most and not any(_no_worse(plan, best) for plan in kept):
                    kept = [plan for plan in kept if plan is full or not _no_worse(best, plan)]
                    kept.append(best)
    return kept


def _no_worse(one: LookPlan, other: LookPlan) -> bool:
    mine, theirs = _costs(one), _costs(other)
    return one.has_exit == other.has_exit and all(a <= b for a, b in zip(mine, theirs, strict=True))


def _costs(plan: LookPlan) -> tuple[float, float, float]:
    return plan.payload_bytes, plan.device_macs, -plan.accuracy


def look_tables(levels: Sequence[LevelAnswers], most: int = MOST) -> dict[str, Any]:
    """Return the looks in a bundle's ``extra``: the plans, and the mean payload of each level."""
    payloads = [round(float(one.payload_bytes.mean()), 1) for one in levels]
    return {METADATA_KEY: to_rows(plans_of(levels, most)), PAYLOADS_KEY: payloads}


def choices(levels: Sequence[LevelAnswers], exits: bool) -> Iterator[Choice]:
    """Yield every choice that is tried, without or with the exit head."""
    for first, one in enumerate(levels):
        staying = sorted({one.exit_threshold, *EXITS} - {NEVER}) if exits else [NEVER]
        for exit_threshold in staying:
            yield Choice(first, exit_threshold=exit_threshold)
            thresholds = [int(margin) for margin in np.quantile(one.margin, ASKED)]
            for second in range(first + 1, len(levels)):
                for escalate_below in ESCALATED if exits else (0.0,):
                    for ask_below in (0, *thresholds) if escalate_below else thresholds:
                        yield Choice(first, second, ask_below, exit_threshold, escalate_below)


def _prices(levels: Sequence[LevelAnswers]) -> list[Callable[[Sequence[LookPlan]], LookPlan]]:
    """Return functions that choose the cheapest plan: by bytes and operations, or by energy."""
    work = [(one.work, one.exit_work) for one in levels]
    sizes = [float(one.payload_bytes.mean()) for one in levels]

    def by_energy(model: EnergyModel) -> Callable[[Sequence[LookPlan]], LookPlan]:
        return lambda plans: min(plans, key=lambda plan: plan_energy_j(plan, work, sizes, model))

    energies = [by_energy(EnergyModel(hardware)) for hardware in HARDWARE.values()]
    return [lambda plans: cheapest(plans, 0.0), *energies]
