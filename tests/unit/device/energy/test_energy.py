"""The energy model: Feeney's packets, work from the network's own cost, options and exits."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

import shared.energy.hardware
from device.policy.operating_points import (
    Conditions,
    at_threshold,
    frontier,
    level_tables,
    operating_points,
)
from shared.energy.hardware import HARDWARE, MCU_BLE, MCU_LTEM, PI_WIFI, find_hardware
from shared.energy.model import ANSWER_BYTES, REQUEST_BYTES, EnergyModel, device_work, exit_work
from shared.errors import BundleError, UsageError
from shared.model.bundle import make_bundle
from shared.model.exits import NEVER, ONE, ExitPoint, local_answer, read_calibration
from tests.support.clouds import tiny_architecture, tiny_bundle


def test_radio_is_the_linear_model_of_feeney_and_nilsson() -> None:
    model = EnergyModel(PI_WIFI)
    sent = 100 + REQUEST_BYTES + PI_WIFI.header_bytes
    received = ANSWER_BYTES + PI_WIFI.header_bytes
    expected = 1.9e-6 * sent + 420e-6 + 0.42e-6 * received + 330e-6
    assert model.exchange_j(100) == pytest.approx(expected)


def test_packets_dominate_small_payloads_so_coalescing_pays() -> None:
    for hardware in HARDWARE.values():
        model = EnergyModel(hardware)
        alone, together = model.exchange_j(60), model.exchange_j(16 * 60, 16) / 16
        assert together < 0.7 * alone, hardware.name
    ltem = EnergyModel(MCU_LTEM)
    assert ltem.exchange_j(10 * 60, 10) / 10 < 0.2 * ltem.exchange_j(60)


def test_long_payloads_take_more_packets() -> None:
    model = EnergyModel(MCU_BLE)
    extra = model.exchange_j(3 * MCU_BLE.packet_bytes) - model.exchange_j(1)
    assert extra > 3 * MCU_BLE.sent_packet_j


def test_work_is_the_networks_own_cost() -> None:
    architecture = tiny_architecture()
    for level in range(3):
        work = device_work(architecture, level)
        assert work.binary_macs + work.pixel_macs == architecture.device_macs(level)
        assert work.pixel_macs > 0
        assert work.memory_bytes > architecture.input_shape.size
    assert exit_work(architecture, 2).binary_macs == 4 * 4 * 8 * 5
    assert exit_work(tiny_architecture(exit_head=False), 2).binary_macs == 0


def test_narrower_levels_cost_less() -> None:
    model = EnergyModel(MCU_BLE)
    costs = [model.compute_j(device_work(tiny_architecture(), level)) for level in range(3)]
    assert costs == sorted(costs)
    assert model.compute_s(device_work(tiny_architecture(), 0)) > 0


def test_every_constant_is_a_number_and_the_docstring_cites_sources() -> None:
    for hardware in HARDWARE.values():
        for name, value in vars(hardware).items():
            if name not in ("name", "title"):
                assert math.isfinite(value), (hardware.name, name)
                assert value >= 0, (hardware.name, name)
    text = shared.energy.hardware.__doc__ or ""
    for source in ("[FN]", "[NR]", "[ES]", "[CX]", "[N9]", "[HO]"):
        assert source in text


def test_unknown_hardware_is_refused_with_what_is_known() -> None:
    with pytest.raises(UsageError, match=r"--hardware.*mcu-ble"):
        find_hardware("toaster")


def test_local_answer_is_a_softmax() -> None:
    answer = local_answer([1 * ONE, 3 * ONE, 2 * ONE])
    assert answer.label == 1
    assert sum(answer.probabilities) == pytest.approx(1.0)
    assert answer.confidence == pytest.approx(1 / (1 + math.exp(-1) + math.exp(-2)))
    two = [1 * ONE, 3 * ONE]
    assert local_answer(two, temperature=10).confidence < local_answer(two).confidence
    assert local_answer([10_000 * ONE, -10_000 * ONE]).confidence == 1.0


def test_calibration_of_a_bundle() -> None:
    calibration = read_calibration(tiny_bundle())
    assert calibration is not None
    assert calibration.curve[0][1] == ExitPoint(0.5, 0.8, 0.95, 0.93)
    assert read_calibration(tiny_bundle(exit_head=False)) is None
    assert read_calibration(tiny_bundle(curve=False)) is None


@pytest.mark.parametrize(
    "exits",
    [
        None,
        {},
        {"temperature": [1], "threshold": [1], "curve": [[]]},
        {"temperature": [0] * 3, "threshold": [1] * 3, "curve": [[]] * 3},
        {"temperature": [1] * 3, "threshold": ["x"] * 3, "curve": [[]] * 3},
        {"temperature": [1] * 3, "threshold": [1] * 3, "curve": [[[1, 2]]] * 3},
        {"temperature": [1] * 3, "threshold": [math.nan] * 3, "curve": [[]] * 3},
    ],
)
def test_calibration_that_cannot_be_used(exits: object) -> None:
    bundle = tiny_bundle()
    broken = make_bundle(replace(bundle.metadata, extra={"exit": exits}), bundle.tensors)
    with pytest.raises(BundleError, match="exit calibration"):
        read_calibration(broken)


def test_points_between_measured_thresholds() -> None:
    curve = (ExitPoint(0.0, 1.0, 0.9, 0.9), ExitPoint(1.0, 0.0, 1.0, 0.98))
    assert at_threshold(curve, 0.25).rate == pytest.approx(0.75)
    assert at_threshold(curve, 0.25).combined == pytest.approx(0.92)
    assert at_threshold(curve, 2.0) == curve[1]


def test_frontier_has_no_dominated_option() -> None:
    tables = level_tables(tiny_bundle())
    model = EnergyModel(MCU_BLE)
    options = operating_points(tables, model, Conditions(rate_per_s=10, max_wait_s=0.5))
    best = frontier(options)
    for option in options:
        beaten = any(b.energy_j <= option.energy_j and b.accuracy >= option.accuracy for b in best)
        assert beaten
    assert [b.energy_j for b in best] == sorted(b.energy_j for b in best)
    assert [b.accuracy for b in best] == sorted(b.accuracy for b in best)
    assert any(b.batch > 1 for b in best)


def test_deadline_keeps_fast_options_only() -> None:
    tables = level_tables(tiny_bundle())
    model = EnergyModel(MCU_BLE)
    conditions = Conditions(rate_per_s=10, max_wait_s=0.5, deadline_s=0.1)
    options = operating_points(tables, model, conditions)
    assert {option.wait_s for option in options if option.stays < 1} == {0.0}
    impossible = replace(conditions, deadline_s=1e-9)
    assert len(operating_points(tables, model, impossible)) == 1


def test_pinned_threshold_is_the_only_one() -> None:
    tables = level_tables(tiny_bundle())
    model = EnergyModel(MCU_BLE)
    pinned = operating_points(tables, model, Conditions(), pinned_threshold=0.7)
    assert {option.exit_threshold for option in pinned} == {0.7}
    never = operating_points(tables, model, Conditions(), pinned_threshold=NEVER)
    assert {option.stays for option in never} == {0.0}


def test_a_camera_is_not_on_twice_at_a_time() -> None:
    """Half a second of a Pi's camera for one picture, and never more than its whole power."""
    model = EnergyModel(PI_WIFI)
    assert model.picture_j(0.1) == pytest.approx(0.45)
    assert model.picture_j(30) * 30 == pytest.approx(0.9)
    assert model.picture_j(0) == pytest.approx(0.45)


def test_idling_keeps_the_link() -> None:
    """An LTE-M modem wakes every 60 s for MQTT, an ESP32 for its access point."""
    assert MCU_LTEM.idle_w == pytest.approx(0.105 / 60, rel=0.01)
    assert HARDWARE["mcu-wifi"].idle_w == pytest.approx(2.33e-3 * 3.3)
