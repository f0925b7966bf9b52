"""A model of the energy and time of a sample: computing, memory traffic and radio.

The radio follows the linear model of Feeney and Nilsson (INFOCOM 2001): a cost per packet and a
cost per byte. For the few dozen bytes of a sample the cost per packet dominates, so it pays to send
several samples in one packet.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from shared.energy.hardware import Hardware
from shared.model.architecture import Architecture, Kind, Shape, Stage, kernel_size

ANSWER_BYTES = 6  # bytes of one result inside a response
REQUEST_BYTES = 14  # bytes of a request's fields besides its payload


@dataclass(frozen=True)
class Work:
    """Operations and memory traffic of a part of the network for one image."""

    binary_macs: int
    pixel_macs: int
    memory_bytes: int

    def __add__(self, other: Work) -> Work:
        return Work(
            self.binary_macs + other.binary_macs,
            self.pixel_macs + other.pixel_macs,
            self.memory_bytes + other.memory_bytes,
        )


def device_work(architecture: Architecture, level: int) -> Work:
    """Return the work of the device stages at device level index ``level``."""
    total = Work(0, 0, 0)
    for stage, before, after in architecture.device_shapes(level):
        total += _stage_work(stage, before, after)
    return total


def exit_work(architecture: Architecture, level: int) -> Work:
    """Return the work of the exit head at ``level``; none for a network without exit head."""
    stage = architecture.exit_stage
    if stage is None:
        return Work(0, 0, 0)
    return _stage_work(stage, architecture.sent_shape(level), Shape(1, 1, architecture.classes))


def _stage_work(stage: Stage, before: Shape, after: Shape) -> Work:
    height, width = kernel_size(stage, before)
    pixels = 1 if stage.kind is Kind.BINARY_LINEAR else before.height * before.width
    weights = height * width * before.channels * after.channels
    image = stage.kind is Kind.IMAGE_CONV
    # Weights and the map are read once, the result is written once; 2 bytes of threshold per
    # channel.
    moved = -(-weights // 8) + (before.size if image else before.packed_bytes)
    moved += after.packed_bytes + 2 * after.channels
    macs = pixels * weights
    return Work(0 if image else macs, macs if image else 0, moved)


@dataclass(frozen=True)
class EnergyModel:
    """Energy and time on one kind of ``hardware``."""

    hardware: Hardware

    def compute_j(self, work: Work) -> float:
        """Return the joules of ``work``, including memory traffic."""
        hardware = self.hardware
        return (
            work.binary_macs * hardware.binary_mac_j
            + work.pixel_macs * hardware.pixel_mac_j
            + work.memory_bytes * hardware.memory_byte_j
        )

    def compute_s(self, work: Work) -> float:
        """Return the seconds of ``work``."""
        hardware = self.hardware
        return work.binary_macs * hardware.binary_mac_s + work.pixel_macs * hardware.pixel_mac_s

    def picture_j(self, rate_per_s: float) -> float:
        """Return the joules of one picture at ``rate_per_s``; at high rates the camera is always
        on.
        """
        hardware = self.hardware
        apart_s = math.inf if rate_per_s <= 0 else 1 / rate_per_s
        return hardware.sensor_w * min(hardware.sensor_s, apart_s)

    def exchange_j(
        self, payload_bytes: float, samples: float = 1.0, round_trip_s: float | None = None
    ) -> float:
        """Return the joules of a request with ``samples`` and their ``payload_bytes``, and its
        answer.
        """
        hardware = self.hardware
        wait_s = hardware.round_trip_s if round_trip_s is None else round_trip_s
        sent = payload_bytes + REQUEST_BYTES + hardware.header_bytes
        received = samples * ANSWER_BYTES + hardware.header_bytes
        return (
            self._packets(sent) * hardware.sent_packet_j
            + sent * hardware.sent_byte_j
            + self._packets(received) * hardware.received_packet_j
            + received * hardware.received_byte_j
            + wait_s * hardware.listen_w
        )

    def _packets(self, size_bytes: float) -> int:
        return max(math.ceil(size_bytes / self.hardware.packet_bytes), 1)
