"""The split client: device half, codec and link put together."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from device.battery import Battery
from device.link import Link
from device.policy import Policy
from shared.bundle import Bundle
from shared.codec import FeatureCodec
from shared.packed import DeviceHalf


@dataclass(frozen=True)
class SampleResult:
    """The answer for one image and what it took.

    ``fraction`` and ``cloud_fraction`` are the levels used; ``channels`` is the number that left
    the device; ``candidates`` are (label, probability) if asked for; times in milliseconds.
    """

    index: int
    label: int
    class_name: str
    source: str
    fraction: float
    cloud_fraction: float
    channels: int
    payload_bytes: int
    latency_ms: float
    candidates: tuple[tuple[int, float], ...] = ()


class SplitClient:
    """Classifies images: lower layers here, upper layers at the other end of ``link``."""

    def __init__(
        self, bundle: Bundle, link: Link, policy: Policy, battery: Battery, top_k: int = 0
    ) -> None:
        self._bundle = bundle
        self._link = link
        self._policy = policy
        self._battery = battery
        self._top_k = top_k
        self._half = DeviceHalf(bundle)
        self._codec = FeatureCodec(bundle)

    async def classify(self, image: npt.NDArray[np.uint8], index: int = 0) -> SampleResult:
        """Classify one image (H, W, C) uint8. Raises ``LinkError`` or ``RequestError``."""
        started = time.perf_counter()
        architecture = self._bundle.architecture
        level = self._policy.level(self._battery.charge())
        frame = self._codec.encode(self._half.run(image[None], level), level)
        response = await self._link.infer(frame, self._top_k)
        answer = response.answers[0]
        return SampleResult(
            index=index,
            label=answer.label,
            class_name=self._bundle.metadata.class_names[answer.label],
            source="cloud",
            fraction=architecture.device_levels[level],
            cloud_fraction=architecture.cloud_levels[response.cloud_level],
            channels=architecture.sent_shape(level).channels,
            payload_bytes=len(frame.payload),
            latency_ms=1000 * (time.perf_counter() - started),
            candidates=answer.candidates,
        )
