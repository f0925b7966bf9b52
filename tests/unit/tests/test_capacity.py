"""The arithmetic and the simulation behind the capacity figures."""

from __future__ import annotations

import dataclasses

import pytest

from tests.benchmarks.capacity_model import Assumed, Measured, plan
from tests.benchmarks.queueing import expected_mean_s, simulate

MEASURED = Measured(
    request_us=200,
    proxied_us=100,
    sparse_us=300,
    proxy_us=50,
    connect_us=400,
    connection_bytes=50_000,
    proxy_connection_bytes=20_000,
    message_us=30,
    keeping_us=120,
    broker_connection_bytes=2_000,
    up_bytes=50,
    down_bytes=40,
    leave_share=0.1,
)


@pytest.mark.parametrize(("use", "requests"), [(0.3, 50_000), (0.6, 50_000), (0.9, 200_000)])
def test_the_simulation_agrees_with_the_formula(use: float, requests: int) -> None:
    service_s = 150e-6
    found = simulate(use / service_s, service_s, requests=requests)
    assert found.use == pytest.approx(use, rel=0.02)
    assert found.mean_s == pytest.approx(expected_mean_s(use / service_s, service_s), rel=0.08)


def test_taking_what_has_come_together_costs_less_the_more_there_is() -> None:
    rare = simulate(500.0, 100e-6, batch_s=100e-6)
    often = simulate(8000.0, 100e-6, batch_s=100e-6)
    assert rare.use == pytest.approx(500 * 200e-6, rel=0.1)
    assert often.use < 1  # though 8,000 turns of 200 us would be 1.6 cores


def test_a_plan_by_hand() -> None:
    made = plan(MEASURED, Assumed(), 1_000_000, 1.0, 1.0)
    server, proxy, broker, controller = made.parts
    assert server.cores == pytest.approx(1e6 * 100e-6 / 0.6)
    assert server.units == 21  # 167 cores, 8 in each
    assert proxy.cores == pytest.approx(1e6 * 50e-6 / 0.6)
    assert proxy.gigabytes == pytest.approx(20)
    assert broker.cores == pytest.approx(1e6 / 60 * 30e-6 / 0.6)
    assert broker.units == 1
    assert controller.cores == pytest.approx(1e6 / 60 * 120e-6 / 0.6)
    assert controller.units == 4
    assert made.up_bits_per_s == pytest.approx(8e6 * (50 + 104))
    assert made.first is server
    assert made.first.limit == "CPU"


def test_memory_can_be_the_limit_and_fewer_samples_need_fewer_cores() -> None:
    idle = plan(MEASURED, Assumed(), 1_000_000, 0.001, 1.0, proxied=False)
    assert idle.parts[0].limit == "memory"
    assert idle.parts[0].units == 2  # 50 GB, 32 in each
    all_sent = plan(MEASURED, Assumed(), 1_000_000, 1.0, 1.0)
    some = plan(MEASURED, Assumed(), 1_000_000, 1.0, MEASURED.leave_share)
    assert some.parts[0].cores == pytest.approx(0.1 * all_sent.parts[0].cores)
    cheaper = plan(MEASURED, dataclasses.replace(Assumed(), core_month=1.0), 10**6, 1.0, 1.0)
    assert cheaper.cost["cloud server"] < all_sent.cost["cloud server"]
