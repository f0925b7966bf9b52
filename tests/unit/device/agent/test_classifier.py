"""The classifier: when its battery drains."""

from __future__ import annotations

from dataclasses import replace

import pytest
from msgspec import structs

from device import ClientSettings, SplitClient
from device.agent.classifier import DEFAULTS, Classifier
from device.agent.pace import Pace
from device.agent.supply import ArraySupply
from device.energy.power import SimulatedPower
from device.energy.simulated_battery import Cell, SimulatedBattery
from shared.energy.hardware import MCU_BLE
from shared.energy.model import EnergyModel, device_work
from shared.fleet.messages import DeviceSettings
from shared.model.bundle import Bundle
from shared.protocol.messages import More, Request, Response
from tests.support.clouds import Cloud, free_port, images, serve, tiny_bundle

BUNDLE = tiny_bundle()
DAY_S = 86_400.0


def offline(bundle: Bundle) -> SplitClient:
    """A client without a server: the exit head answers."""
    settings = ClientSettings(
        servers=(f"127.0.0.1:{free_port()}",), start_offline=True, exit_threshold=0.0
    )
    return SplitClient(settings, bundle=bundle)


async def no_other_model(name: str, stale: str) -> Bundle:
    raise AssertionError(name)


async def test_the_battery_runs_empty_between_two_messages_of_telemetry() -> None:
    hardware = replace(MCU_BLE, sensor_w=0.5, sensor_s=1.0, idle_w=0.0)
    power = SimulatedPower(SimulatedBattery(Cell(capacity_j=2.2)))
    classifier = Classifier(
        BUNDLE,
        offline,
        no_other_model,
        EnergyModel(hardware),
        power,
        ArraySupply(images(4)),
        Pace(),
        settings=structs.replace(DEFAULTS, telemetry_s=DAY_S),
    )
    async with classifier:
        for _ in range(8):
            await classifier.one()
        assert power.charge().level == 0
        telemetry = classifier.take("device", 1, 1, 0)
    assert (telemetry.answered_device, telemetry.failed) == (5, 3)
    assert telemetry.error == "the battery is empty"
    assert telemetry.energy_j == pytest.approx(2.5, rel=0.01)


async def test_an_idle_device_drains_its_battery_too() -> None:
    hardware = replace(MCU_BLE, idle_w=1.0)
    power = SimulatedPower(SimulatedBattery(Cell(capacity_j=1e-6)))
    classifier = Classifier(
        BUNDLE,
        offline,
        no_other_model,
        EnergyModel(hardware),
        power,
        ArraySupply(images(1)),
        Pace(),
    )
    async with classifier:
        await classifier.one()
        assert classifier.take("device", 1, 1, 0).failed == 1


async def test_what_is_not_desired_stays_as_it_was_given() -> None:
    given = DeviceSettings("auto", 1.0, rate_per_s=3.0, telemetry_s=7.0, audit_rate=0.5)
    classifier = Classifier(
        BUNDLE,
        offline,
        no_other_model,
        EnergyModel(MCU_BLE),
        SimulatedPower(SimulatedBattery(Cell(capacity_j=1.0))),
        ArraySupply(images(1)),
        Pace(),
        settings=given,
    )
    async with classifier:
        assert await classifier.apply(DeviceSettings(exit_threshold=0.4)) == ()
        assert classifier.settings.exit_threshold == 0.4
        assert await classifier.apply(DeviceSettings(model=BUNDLE.metadata.name)) == ()
        assert classifier.settings == structs.replace(given, model=BUNDLE.metadata.name)


async def test_both_looks_are_counted_and_drain_the_battery() -> None:
    cloud = Cloud(BUNDLE)

    async def respond(request: Request) -> Response | None:
        asks = request.looks is not None and not request.looks.earlier
        return cloud.answer(request)._replace(more=More(2)) if asks else None

    cloud.respond = respond
    energy = EnergyModel(replace(MCU_BLE, sensor_w=0.0, idle_w=0.0))
    async with serve(cloud) as address:

        def online(bundle: Bundle) -> SplitClient:
            return SplitClient(ClientSettings((address,), use_exit=False), bundle=bundle)

        classifier = Classifier(
            BUNDLE,
            online,
            no_other_model,
            energy,
            SimulatedPower(SimulatedBattery(Cell(capacity_j=1.0))),
            ArraySupply(images(4)),
            Pace(),
            settings=structs.replace(DEFAULTS, fraction="0.25:1"),
        )
        async with classifier:
            for _ in range(4):
                await classifier.one()
            telemetry = classifier.take("device", 1, 1, 0)
    architecture = BUNDLE.architecture
    sizes = [architecture.sent_shape(level).packed_bytes for level in (0, 2)]
    looks = sum(energy.compute_j(device_work(architecture, level)) for level in (0, 2))
    sent = 2 * energy.exchange_j(sum(sizes) / 2)
    assert (telemetry.answered_cloud, telemetry.second_looks) == (4, 4)
    assert telemetry.payload_bytes == 4 * sum(sizes)
    assert telemetry.energy_j == pytest.approx(4 * (looks + sent), rel=1e-3)
