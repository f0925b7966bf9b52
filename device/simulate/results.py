"""Results of the real runtime at every level, measured once and then looked up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from device.policy.simple import Look
from shared.errors import UsageError
from shared.model.bundle import Bundle
from shared.model.exits import (
    NEVER,
    ExitCalibration,
    margin_threshold,
    margins,
    read_calibration,
)
from shared.packed import CloudHalf, DeviceHalf
from shared.protocol import looks as protocol
from shared.protocol.codec import FeatureCodec

IMAGES_AT_A_TIME = 500
BATCH = 16  # samples in a payload, for measuring the effect of coalescing


@dataclass(frozen=True)
class Totals:
    """Totals of ``samples`` samples.

    right, stayed              number of right answers, and of answers by the exit head
    sent, again                number of first looks that were sent, and of second looks
    first_bytes, second_bytes  bytes sent for these
    """

    samples: int
    right: int
    stayed: int
    sent: int
    again: int
    first_bytes: int
    second_bytes: int

    @property
    def payload_bytes(self) -> int:
        """Bytes sent for all looks."""
        return self.first_bytes + self.second_bytes


@dataclass
class LevelResults:
    """Results of one device level for N images, in their order.

    payload_bytes (N,)              bytes of each sample sent alone
    batched_bytes                   mean bytes of a sample among BATCH
    cloud_right, cloud_margin (N,)  whether the cloud's answer is right, and its margin
    exit_right, margin (N,)         the same for the exit head; None without one
    temperature                     temperature of the exit head
    """

    payload_bytes: npt.NDArray[np.int64]
    batched_bytes: float
    cloud_right: npt.NDArray[np.bool_]
    cloud_margin: npt.NDArray[np.int64]
    exit_right: npt.NDArray[np.bool_] | None
    margin: npt.NDArray[np.int64] | None
    temperature: float = 1.0
    _sums: dict[tuple[Look, ...], npt.NDArray[np.int64]] = field(default_factory=dict)


def totals(
    results: Sequence[LevelResults], looks: tuple[Look, ...], first: int, samples: int
) -> Totals:
    """Return the totals of ``samples`` images from index ``first`` on, in a loop over all images.

    All thresholds of ``looks`` must be set.
    """
    level = results[looks[0].level]
    if looks not in level._sums:
        level._sums[looks] = _prefix(results, looks)
    sums = level._sums[looks]
    size = len(level.cloud_right)
    start, stop = first % size, first % size + samples
    rounds, rest = divmod(stop, size)
    return Totals(samples, *(rounds * sums[-1] + sums[rest] - sums[start]).tolist())


def _prefix(results: Sequence[LevelResults], looks: tuple[Look, ...]) -> npt.NDArray[np.int64]:
    """Return running totals (N + 1, 6) of the fields of ``Totals``, without ``samples``."""
    look, level = looks[0], results[looks[0].level]
    nobody = np.zeros(len(level.cloud_right), np.bool_)
    stays, escalated, right = nobody, nobody, level.cloud_right
    if level.margin is not None and level.exit_right is not None:
        threshold = NEVER if look.exit_threshold is None else look.exit_threshold
        stays = level.margin >= margin_threshold(threshold, level.temperature)
        right = np.where(stays, level.exit_right, right)
        if len(looks) > 1:
            least = margin_threshold(look.escalate_below, level.temperature)
            escalated = ~stays & (level.margin < least)
    sent, again = ~stays & ~escalated, nobody
    first_bytes = np.where(sent, level.payload_bytes, 0)
    second_bytes = np.zeros_like(first_bytes)
    if len(looks) > 1:
        wide = results[looks[1].level]
        again = escalated | (sent & (level.cloud_margin < (look.ask_below or 0)))
        right = np.where(again, wide.cloud_right, right)
        second_bytes = np.where(again, wide.payload_bytes, 0)
    rows = np.stack([right, stays, sent, again, first_bytes, second_bytes], axis=1)
    sums = np.zeros((len(rows) + 1, rows.shape[1]), dtype=np.int64)
    np.cumsum(rows, axis=0, out=sums[1:])
    return sums


def measure(
    bundle: Bundle,
    images: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.int64],
    on_level: Callable[[int], None] | None = None,
) -> tuple[LevelResults, ...]:
    """Run every image (N, H, W, C) at every device level, with the cloud at full width.

    ``labels`` is (N,). ``bundle`` must hold the cloud part. ``on_level`` is called after each
    level.
    """
    if not any(name.startswith("cloud.") for name in bundle.tensors):
        raise UsageError(f"--model: {bundle.metadata.name} has no cloud part to simulate with")
    device, cloud, codec = DeviceHalf(bundle), CloudHalf(bundle), FeatureCodec(bundle)
    calibration = read_calibration(bundle)
    results = []
    for level in range(len(bundle.architecture.device_levels)):
        results.append(_level(device, cloud, codec, calibration, images, labels, level))
        if on_level:
            on_level(level)
    return tuple(results)


def _level(
    device: DeviceHalf,
    cloud: CloudHalf,
    codec: FeatureCodec,
    calibration: ExitCalibration | None,
    images: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.int64],
    level: int,
) -> LevelResults:
    widest = len(device.architecture.cloud_levels) - 1
    starts = range(0, len(images), IMAGES_AT_A_TIME)
    features = np.concatenate([device.run(images[s : s + IMAGES_AT_A_TIME], level) for s in starts])
    logits = np.concatenate(
        [cloud.run(features[s : s + IMAGES_AT_A_TIME], level, widest) for s in starts]
    )
    payloads = [len(codec.encode(features[i : i + 1], level).payload) for i in range(len(images))]
    batches = range(0, max(len(images) - BATCH, 0) + 1, BATCH)
    together = [codec.encode(features[i : i + BATCH], level) for i in batches]
    exit_right = margin = None
    temperature = calibration.temperature[level] if calibration else 1.0
    if device.architecture.exit_head:
        exits = device.exit_logits(features, level)
        margin = margins(exits)
        exit_right = exits.argmax(axis=1) == labels
    return LevelResults(
        payload_bytes=np.array(payloads, dtype=np.int64),
        batched_bytes=sum(len(f.payload) for f in together) / sum(f.samples for f in together),
        cloud_right=logits.argmax(axis=1) == labels,
        cloud_margin=protocol.margins(logits),
        exit_right=exit_right,
        margin=margin,
        temperature=temperature,
    )
