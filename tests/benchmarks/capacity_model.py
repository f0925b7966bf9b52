"""Computes what a million devices need from what a request, a message and a connection cost.

Measured and assumed values are kept apart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

GB = 1e9
MONTH_S = 730 * 3600.0
PACKET_HEADERS = 52  # IPv4 20 + TCP 20 + timestamps 12
PACKETS_EACH_WAY = 2  # one with the message, one that acknowledges the answer


@dataclass(frozen=True)
class Measured:
    """Costs on this machine: CPU in microseconds of one core, memory in bytes.

    request_us, proxied_us   server, one sample on a device's own stream, at full load: directly,
                             and behind the proxy
    sparse_us                server, one sample, directly, if requests come singly and each wakes
                             the server
    proxy_us                 proxy, one sample
    connect_us               server, a new connection with its first request
    connection_bytes, proxy_connection_bytes, broker_connection_bytes   memory for one device
    message_us, keeping_us   broker, and controller with its store, for one message of telemetry
    up_bytes, down_bytes     bytes of one sample on the socket
    leave_share              share of the samples that the exit head does not answer on the device
    """

    request_us: float
    proxied_us: float
    sparse_us: float
    proxy_us: float
    connect_us: float
    connection_bytes: float
    proxy_connection_bytes: float
    message_us: float
    keeping_us: float
    broker_connection_bytes: float
    up_bytes: float
    down_bytes: float
    leave_share: float


@dataclass(frozen=True)
class Assumed:
    """Values that are assumed, not measured.

    use               share of a core that is planned to be busy; if one zone of three is lost, it
                      is 0.9 in the other two
    replica_cores     cores of one server replica (with as many ``--workers``), or of one proxy
    replica_bytes     memory of one replica or proxy
    core_month, gb_month, egress_gb   unit prices in dollars, similar to the list prices of public
                      clouds; replace them by your own
    """

    telemetry_s: float = 60.0
    use: float = 0.6
    replica_cores: int = 8
    replica_bytes: float = 32 * GB
    core_month: float = 25.0
    gb_month: float = 3.0
    egress_gb: float = 0.05


@dataclass(frozen=True)
class Part:
    """One part of the deployment.

    cores, gigabytes   total need units              number of machines, or of processes if a
    process cannot use a second core devices_a_unit     number of devices that fill one unit;
    ``limit`` names the resource that is full
    """

    name: str
    cores: float
    gigabytes: float
    units: int
    devices_a_unit: float
    limit: str


@dataclass(frozen=True)
class Plan:
    """What ``devices`` need; with bits a second of all devices together, and dollars a month."""

    devices: int
    samples_per_s: float
    parts: tuple[Part, ...]
    up_bits_per_s: float
    down_bits_per_s: float
    storm_s: float
    cost: dict[str, float]

    @property
    def first(self) -> Part:
        """Return the part whose unit is full with the fewest devices."""
        return min(self.parts, key=lambda part: part.devices_a_unit)


def plan(
    measured: Measured,
    assumed: Assumed,
    devices: int,
    per_device: float,
    share: float,
    proxied: bool = True,
) -> Plan:
    """Compute what ``devices`` need; each sends ``share`` of its ``per_device`` samples a
    second.
    """
    rate = devices * per_device * share
    messages = devices / assumed.telemetry_s
    request_us = measured.proxied_us if proxied else measured.request_us
    held = 0.0 if proxied else measured.connection_bytes
    machines = (assumed.replica_cores, assumed.replica_bytes)
    parts = [_part("cloud server", rate * request_us, devices, held, assumed, *machines)]
    if proxied:
        held = measured.proxy_connection_bytes
        parts.append(_part("proxy", rate * measured.proxy_us, devices, held, assumed, *machines))
    alone = (1, assumed.replica_bytes)  # mosquitto and a fleet's controller use one core each
    held = measured.broker_connection_bytes
    parts.append(_part("broker", messages * measured.message_us, devices, held, assumed, *alone))
    kept = messages * measured.keeping_us
    parts.append(_part("controller and store", kept, devices, 0.0, assumed, *alone))
    down = rate * (measured.down_bytes + PACKETS_EACH_WAY * PACKET_HEADERS)
    up = rate * (measured.up_bytes + PACKETS_EACH_WAY * PACKET_HEADERS)
    servers = parts[0].units * assumed.replica_cores
    return Plan(
        devices=devices,
        samples_per_s=rate,
        parts=tuple(parts),
        up_bits_per_s=8 * up,
        down_bits_per_s=8 * down,
        storm_s=devices * measured.connect_us * 1e-6 / servers,
        cost={
            **{part.name: _dollars(part, assumed) for part in parts},
            "egress": down * MONTH_S / GB * assumed.egress_gb,
        },
    )


def _part(
    name: str,
    busy_us: float,
    devices: int,
    connection_bytes: float,
    assumed: Assumed,
    unit_cores: int,
    unit_bytes: float,
) -> Part:
    cores = busy_us * 1e-6 / assumed.use
    memory = devices * connection_bytes
    by_cpu = unit_cores * devices / cores if cores else math.inf
    by_memory = unit_bytes * devices / memory if memory else math.inf
    fits = min(by_cpu, by_memory)
    limit = "CPU" if by_cpu <= by_memory else "memory"
    return Part(name, cores, memory / GB, math.ceil(devices / fits), fits, limit)


def _dollars(part: Part, assumed: Assumed) -> float:
    """Return the monthly price. Whole cores are paid for, and memory by the byte."""
    return math.ceil(part.cores) * assumed.core_month + part.gigabytes * assumed.gb_month
