"""Calibration of second looks: which plans are worth having, measured on the validation split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cloud.training.split.evaluate import cloud_logits, device_features
from shared.model.bundle import Bundle
from shared.model.looks import NO_LOOK, LookPlan
from shared.packed import CloudHalf, DeviceHalf
from shared.protocol.codec import FeatureCodec

# Shares of the samples that are asked again; each gives a threshold.
ASKED = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7)


@dataclass(frozen=True)
class LevelAnswers:
    """What one device level gives for N images, the cloud at full width.

    right (N,)          whether its answer is right
    margin (N,)         its best logit less the next best one
    payload_bytes (N,)  of each sample sent alone
    device_macs         of one sample
    """

    right: npt.NDArray[np.bool_]
    margin: npt.NDArray[np.float32]
    payload_bytes: npt.NDArray[np.int64]
    device_macs: int


def level_answers(
    bundle: Bundle, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64]
) -> list[LevelAnswers]:
    """Run images (N, H, W, C) through every device level."""
    device, cloud, codec = DeviceHalf(bundle), CloudHalf(bundle), FeatureCodec(bundle)
    widest = len(bundle.architecture.cloud_levels) - 1
    found = []
    for level in range(len(bundle.architecture.device_levels)):
        features = device_features(device, images, level)
        logits = cloud_logits(cloud, features, level, widest)
        ordered = np.partition(logits, -2, axis=1)
        sizes = [len(codec.encode(row[None], level).payload) for row in features]
        found.append(
            LevelAnswers(
                right=logits.argmax(axis=1) == labels,
                margin=ordered[:, -1] - ordered[:, -2],
                payload_bytes=np.array(sizes, np.int64),
                device_macs=bundle.architecture.device_macs(level),
            )
        )
    return found


def measure(
    levels: Sequence[LevelAnswers], first: int, second: int, ask_below: float
) -> tuple[LookPlan, npt.NDArray[np.bool_]]:
    """A plan over the images of ``levels``, and which answers are right (N,)."""
    one = levels[first]
    if second == NO_LOOK:
        plan = LookPlan(
            first, second, 0.0, 0.0, *_means(one.right, one.payload_bytes), one.device_macs
        )
        return plan, one.right
    two, asked = levels[second], one.margin < np.float32(ask_below)
    right = np.where(asked, two.right, one.right)
    sent = one.payload_bytes + np.where(asked, two.payload_bytes, 0)
    share = float(asked.mean())
    macs = one.device_macs + share * two.device_macs
    return LookPlan(first, second, ask_below, share, *_means(right, sent), macs), right


def plans_of(levels: Sequence[LevelAnswers]) -> list[LookPlan]:
    """All plans that no other one beats in accuracy, bytes and operations, by their bytes."""
    kept: list[LookPlan] = []
    # A plan that beats another one stands before it.
    for plan in sorted(_candidates(levels), key=_costs):
        if not any(_no_worse(other, plan) for other in kept):
            kept.append(plan)
    return kept


def _candidates(levels: Sequence[LevelAnswers]) -> Iterator[LookPlan]:
    for first, one in enumerate(levels):
        yield measure(levels, first, NO_LOOK, 0.0)[0]
        thresholds = np.quantile(one.margin, ASKED)
        for second in range(first + 1, len(levels)):
            for threshold in thresholds:
                yield measure(levels, first, second, round(float(threshold), 4))[0]


def _costs(plan: LookPlan) -> tuple[float, float, float]:
    return plan.payload_bytes, plan.device_macs, -plan.accuracy


def _no_worse(one: LookPlan, other: LookPlan) -> bool:
    return all(a <= b for a, b in zip(_costs(one), _costs(other), strict=True))


def _means(right: npt.NDArray[np.bool_], sent: npt.NDArray[np.int64]) -> tuple[float, float]:
    return float(right.mean()), float(sent.mean())
