"""One sample: the device's output for it, and its result."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from device.split.coalesce import CloudAnswer
from device.split.pipeline import Features, Pipeline
from shared.model.exits import LocalAnswer

DEVICE = "device"
CLOUD = "cloud"


@dataclass(frozen=True)
class SampleResult:
    """The answer for one image and its costs.

    source           ``cloud`` or ``device``, whichever gave the answer
    fraction         device fraction of the look that gave the answer
    channels         number of channels sent at that fraction
    looks            fractions of the looks that were taken, in order
    requests         number of looks that were sent
    first_look       whether the first look gave the answer because the second got none
    cloud_fraction   the cloud's fraction; 0 if it had no part
    payload_bytes    bytes sent for the sample; its share of requests with several samples
    candidates       (label, probability) pairs, if requested
    confidence       probability of the answer; None if the server sent none
    exit_confidence  confidence of the exit head, to which ``--exit-threshold`` applies; None if it
                     was not run
    exit_label       answer of the exit head
    audited          whether the cloud checked a confident answer of the exit head
    kept             whether the sample waits in the spool for the cloud's answer
    number           its number in the spool
    device_ms, encode_ms, cloud_ms   parts of the latency; the rest is transport
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
    confidence: float | None = None
    kept: bool = False
    number: int | None = None
    exit_confidence: float | None = None
    exit_label: int | None = None
    audited: bool = False
    device_ms: float = 0.0
    encode_ms: float = 0.0
    cloud_ms: float = 0.0
    looks: tuple[float, ...] = ()
    requests: int = 0
    first_look: bool = False


class NextLook(NamedTuple):
    """The look at ``image`` that the cloud may request if its margin is below ``ask_below``."""

    image: npt.NDArray[np.uint8]
    level: int
    ask_below: int | None


@dataclass(frozen=True)
class DeviceOutput:
    """The output of the device half for one sample.

    image      (H, W, C) uint8
    features   packed bits (1, bytes) of device level ``level``
    local      the exit head's answer, None if it was not run
    started_s  start time on the clock ``time.perf_counter``
    levels     device levels of all looks so far, in order
    coming     the look that may follow; None if none may
    """

    index: int
    image: npt.NDArray[np.uint8]
    level: int
    features: Features
    local: LocalAnswer | None
    started_s: float
    device_s: float
    levels: tuple[int, ...]
    coming: NextLook | None = None


def device_result(
    pipeline: Pipeline, output: DeviceOutput, top_k: int, number: int | None = None
) -> SampleResult:
    """Return the result by the exit head, which is run if it has not been yet.

    ``number`` is the sample's number in the spool; None if it does not wait there.
    """
    local = output.local or pipeline.answer(output.features, output.level)
    chances = sorted(enumerate(local.probabilities), key=lambda pair: -pair[1])
    return SampleResult(
        index=output.index,
        label=local.label,
        class_name=pipeline.class_names[local.label],
        source=DEVICE,
        fraction=pipeline.architecture.device_levels[output.level],
        cloud_fraction=0.0,
        channels=pipeline.channels[output.level],
        payload_bytes=0,
        latency_ms=1000 * (time.perf_counter() - output.started_s),
        candidates=tuple(chances[:top_k]),
        confidence=local.confidence,
        kept=number is not None,
        number=number,
        exit_confidence=local.exit_confidence,
        exit_label=local.label,
        device_ms=1000 * output.device_s,
        looks=_fractions(pipeline, output.levels),
    )


def cloud_result(
    pipeline: Pipeline, output: DeviceOutput, cloud: CloudAnswer, top_k: int
) -> SampleResult:
    """Return the result by the cloud."""
    answer, response = cloud.answer, cloud.response
    architecture = pipeline.architecture
    return SampleResult(
        index=output.index,
        label=answer.label,
        class_name=pipeline.class_names[answer.label],
        source=CLOUD,
        fraction=architecture.device_levels[cloud.level],
        cloud_fraction=architecture.cloud_levels[response.cloud_level],
        channels=pipeline.channels[cloud.level],
        payload_bytes=cloud.payload_bytes,
        latency_ms=1000 * (time.perf_counter() - output.started_s),
        candidates=answer.candidates[:top_k],
        confidence=answer.candidates[0][1] if answer.candidates else None,
        exit_confidence=output.local.exit_confidence if output.local else None,
        exit_label=output.local.label if output.local else None,
        device_ms=1000 * (output.device_s + cloud.device_s),
        encode_ms=1000 * cloud.encode_s,
        cloud_ms=cloud.cloud_us / 1000,
        looks=_fractions(pipeline, (*output.levels, *cloud.again)),
        requests=1 + len(cloud.again),
        first_look=cloud.first_look,
    )


def _fractions(pipeline: Pipeline, levels: tuple[int, ...]) -> tuple[float, ...]:
    return tuple(pipeline.architecture.device_levels[level] for level in levels)
