"""Results of the real runtime for real images at every level, measured once, then looked up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from shared.errors import UsageError
from shared.model.bundle import Bundle
from shared.model.exits import ExitCalibration, margin_threshold, margins, read_calibration
from shared.packed import CloudHalf, DeviceHalf
from shared.protocol.codec import FeatureCodec

IMAGES_AT_A_TIME = 500
BATCH = 16  # samples whose payload together stands for coalescing


@dataclass(frozen=True)
class Totals:
    """Totals of ``samples`` samples: right answers, answers of the exit head, bytes sent."""

    samples: int
    right: int
    stayed: int
    payload_bytes: int


@dataclass
class LevelResults:
    """One device level over N images, in their order.

    payload_bytes (N,)  of each sample sent alone; ``batched_bytes``: mean of one among BATCH
    cloud_right (N,), exit_right (N,), margin (N,)       the last two are None without an exit head
    temperature         of the exit head
    """

    payload_bytes: npt.NDArray[np.int64]
    batched_bytes: float
    cloud_right: npt.NDArray[np.bool_]
    exit_right: npt.NDArray[np.bool_] | None
    margin: npt.NDArray[np.int64] | None
    temperature: float = 1.0
    _sums: dict[float, npt.NDArray[np.int64]] = field(default_factory=dict)

    def totals(self, first: int, samples: int, threshold: float) -> Totals:
        """Totals of ``samples`` images from number ``first`` on, starting over after the last."""
        sums = self._prefix(threshold)
        size = len(self.cloud_right)
        start, stop = first % size, first % size + samples
        rounds, rest = divmod(stop, size)
        right, stayed, sent = (rounds * sums[-1] + sums[rest] - sums[start]).tolist()
        return Totals(samples, right, stayed, sent)

    def _prefix(self, threshold: float) -> npt.NDArray[np.int64]:
        """Running totals (N + 1, 3) of right answers, samples kept, bytes sent."""
        if threshold not in self._sums:
            if self.margin is None or self.exit_right is None:
                stays = np.zeros(len(self.cloud_right), dtype=np.bool_)
                right = self.cloud_right
            else:
                stays = self.margin >= margin_threshold(threshold, self.temperature)
                right = np.where(stays, self.exit_right, self.cloud_right)
            rows = np.stack([right, stays, np.where(stays, 0, self.payload_bytes)], axis=1)
            totals = np.zeros((len(rows) + 1, 3), dtype=np.int64)
            np.cumsum(rows, axis=0, out=totals[1:])
            self._sums[threshold] = totals
        return self._sums[threshold]


def measure(
    bundle: Bundle,
    images: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.int64],
    on_level: Callable[[int], None] | None = None,
) -> tuple[LevelResults, ...]:
    """Run every image (N, H, W, C) through both halves at every device level, the cloud at full.

    ``bundle`` must hold the cloud part; ``on_level`` is called after each level.
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
        exit_right=exit_right,
        margin=margin,
        temperature=temperature,
    )
