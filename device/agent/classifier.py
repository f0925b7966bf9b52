"""Classify images at a set rate and aggregate one period of telemetry."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec.structs import replace

from device.agent.pace import Pace
from device.agent.supply import Sample, Supply
from device.energy.power import Power
from device.policy.simple import AUTO
from device.split.client import SplitClient
from device.split.sample import DEVICE, SampleResult
from shared.energy.model import EnergyModel, device_work, exit_work
from shared.errors import LinkError, RequestError, SpooledError, TaperError, VersionMismatchError
from shared.fleet.messages import DeviceSettings, RefusedSetting, Telemetry
from shared.fractions import level_for
from shared.model.bundle import Bundle

if TYPE_CHECKING:
    from device.split.outbox import LateAnswer

RENEW_EVERY_S = 5.0
HELD = 1000  # samples that may wait for another version of the model
BEAT_S = 10.0  # seconds between signs of life of an idle classifier
FINISH_S = 1.0  # time that the current sample may still take when the agent ends
STUCK_S = 120.0  # without a sign of life for so long, the classifier counts as stuck
OpenClient = Callable[[Bundle], SplitClient]  # makes a client that has not been entered
FindModel = Callable[[str, str], Awaitable[Bundle]]  # (name, version that is not wanted)
DEFAULTS = DeviceSettings(fraction="auto", rate_per_s=1.0, telemetry_s=10.0)


@dataclass
class _Period:
    """Sums since the last telemetry."""

    began_s: float
    answered_device: int = 0
    answered_cloud: int = 0
    failed: int = 0
    labelled: int = 0
    right: int = 0
    payload_bytes: int = 0
    energy_j: float = 0.0
    latency_ms: float = 0.0
    latency_max_ms: float = 0.0
    cloud_fraction: float = 0.0
    error: str = ""
    audited: int = 0
    agreed: int = 0
    exits_asked: int = 0
    exit_confidence: float = 0.0
    idle_j: float = 0.0
    second_looks: int = 0


class Classifier:
    """Classifies the images of ``supply`` at the set rate, in ``run``. Use as ``async with``."""

    def __init__(
        self,
        bundle: Bundle,
        open_client: OpenClient,
        find_model: FindModel,
        energy: EnergyModel,
        power: Power,
        supply: Supply,
        pace: Pace,
        settings: DeviceSettings = DEFAULTS,
    ) -> None:
        self._open_client = open_client
        self._find_model = find_model
        self._energy = energy
        self._power = power
        self._supply = supply
        self._held: deque[Sample] = deque()
        self._sampling: asyncio.Task[None] | None = None
        self._finished = False
        self._beat_s = time.monotonic()
        self._pace = pace
        self._given = self._wanted = settings
        self._renew_s = 0.0  # time before which no other version is fetched
        self.on_model: Callable[[], None] = lambda: None
        self._woken = asyncio.Event()
        self._drawn_s = pace.elapsed_s
        self._period = _Period(self._drawn_s)
        self._settings = settings
        self._bundle = self._own = bundle
        self.client: SplitClient

    async def __aenter__(self) -> Classifier:
        self.client = await self._open_client(self._bundle).__aenter__()
        self._steer(self._given)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.finish()

    async def finish(self) -> None:
        """Finish the current sample and close the client; nothing is counted after that."""
        if self._finished:
            return
        self._finished = True
        if self._sampling is not None:
            await asyncio.wait((self._sampling,), timeout=FINISH_S)
            self._sampling.cancel()
            await asyncio.gather(self._sampling, return_exceptions=True)
        await self.client.__aexit__(None, None, None)

    @property
    def settings(self) -> DeviceSettings:
        """The settings in force; every field is set where there is a choice."""
        return replace(self._settings, model=self._bundle.metadata.name)

    @property
    def bundle(self) -> Bundle:
        """The model in use."""
        return self._bundle

    @property
    def telemetry_s(self) -> float:
        """Seconds between two messages of telemetry."""
        return self._settings.telemetry_s or 10.0

    def set_battery(self, level: float) -> bool:
        """Set the charge of a simulated battery, 0 to 1; returns False if the battery is real."""
        self._draw()
        return self._power.set_level(level)

    async def apply(self, wanted: DeviceSettings) -> tuple[RefusedSetting, ...]:
        """Apply the settings ``wanted``; return those that could not be applied."""
        self._wanted = wanted
        refused = []
        # If unset, the device uses the model that it started with.
        name = wanted.model or self._own.metadata.name
        if name != self._bundle.metadata.name:
            try:
                await self._change_model(name)
            except TaperError as error:
                refused.append(RefusedSetting("model", str(error)[:500]))
                self._note(str(error))
        refused += self._steer(wanted)
        return tuple(refused)

    def _steer(self, wanted: DeviceSettings) -> list[RefusedSetting]:
        refused = []
        given = self._given
        threshold = wanted.exit_threshold
        if not self._bundle.architecture.exit_head:
            if threshold is not None:
                refused.append(RefusedSetting("exit_threshold", "this model has no exit head"))
            threshold = None
        elif threshold is None:
            threshold = given.exit_threshold
        rate, telemetry, audit = wanted.rate_per_s, wanted.telemetry_s, wanted.audit_rate
        self._settings = DeviceSettings(
            fraction=wanted.fraction or given.fraction,
            exit_threshold=threshold,
            rate_per_s=given.rate_per_s if rate is None else rate,
            telemetry_s=given.telemetry_s if telemetry is None else telemetry,
            audit_rate=given.audit_rate if audit is None else audit,
        )
        policy = self.client.policy_for(self._settings.fraction or AUTO)
        self.client.steer(policy, threshold, self._settings.audit_rate or 0.0)
        self._woken.set()
        return refused

    async def _change_model(self, name: str) -> None:
        """Use another model from the next sample on."""
        own = name == self._own.metadata.name
        self._use(self._own if own else await self._find_model(name, ""))

    def _use(self, bundle: Bundle) -> None:
        shape = bundle.architecture.input_shape
        if shape != self._bundle.architecture.input_shape:
            raise RequestError(
                f"model {bundle.metadata.name}: takes other images than this device has"
            )
        self.client.switch(bundle)
        self._bundle = bundle

    @property
    def is_working(self) -> bool:
        """Whether ``run`` has shown a sign of life within ``STUCK_S``."""
        return time.monotonic() - self._beat_s < STUCK_S

    async def run(self) -> None:
        """Classify an image every 1 / rate seconds; never returns."""
        while True:
            self._beat_s = time.monotonic()
            rate = self._settings.rate_per_s
            if not rate:
                await self._pace.sleep(BEAT_S * self._pace.speed, self._woken)
            elif not await self._pace.sleep(1 / rate, self._woken):
                self._sampling = asyncio.ensure_future(self.one())
                await asyncio.shield(self._sampling)  # ``finish`` ends it, not a cancellation

    async def one(self) -> None:
        """Classify the next image, if there is one."""
        sample = await self._supply.take()
        if sample is None:
            if self._supply.problem:
                self._note(self._supply.problem)
            return
        self._draw()  # before every sample, as an empty battery must stop the work at once
        if self._power.charge().level <= 0:
            self._period.failed += 1
            self._note("the battery is empty")
            return
        await self._classify(sample)

    async def _classify(self, sample: Sample) -> None:
        try:
            result = await self.client.classify(sample.image)
        except VersionMismatchError as error:
            self._note(str(error))
            if error.number is None:
                self._hold(sample)
            await self._renew_model()  # after that the spool recomputes its samples
        except SpooledError as error:  # its answer arrives later, perhaps in another run
            self._note(str(error))
        except (LinkError, RequestError) as error:
            self._fail(str(error))
        else:
            self._count(result, sample.label)
            if self._held and result.source != DEVICE:  # so the cloud has this version again
                await self._release()

    def late(self, answer: LateAnswer) -> None:
        """Count the cloud's late answer to a sample from the spool."""
        if not answer.answered:
            self._period.answered_cloud += 1

    def _hold(self, sample: Sample) -> None:
        """Keep a sample until server and device have the same version of the model."""
        if len(self._held) == HELD:
            self._held.popleft()
            self._fail("too many samples wait for another version of the model")
        self._held.append(sample)

    async def _release(self) -> None:
        """Classify the held samples, oldest first."""
        held, self._held = self._held, deque()
        while held:
            await self._classify(held.popleft())

    def _fail(self, reason: str) -> None:
        """Count a sample without an answer, including the energy of taking and computing it."""
        self._period.failed += 1
        self._note(reason)
        level = 0 if self.client.decision is None else self.client.decision.level
        work = device_work(self._bundle.architecture, level)
        self._draw(self._picture_j() + self._energy.compute_j(work))

    async def _renew_model(self) -> None:
        """Switch to the server's current version of the present model."""
        now_s = time.monotonic()
        if now_s < self._renew_s:
            return
        self._renew_s = now_s + RENEW_EVERY_S
        old = self._bundle.metadata
        try:
            bundle = await self._find_model(old.name, old.version)
            self._use(bundle)
        except TaperError as error:
            self._note(str(error))
            return
        if old.name == self._own.metadata.name:
            self._own = bundle
        self._steer(self._wanted)
        self.on_model()
        await self._release()

    def draw_telemetry(self, size_bytes: int) -> None:
        """Discharge the battery by sending a telemetry message and receiving its confirmation."""
        self._draw(self._energy.exchange_j(size_bytes))

    def _note(self, reason: str) -> None:
        # Error texts can hold characters that the contract forbids.
        self._period.error = reason[:500].encode(errors="replace").decode().replace("\0", "")

    def _count(self, result: SampleResult, label: int | None) -> None:
        period = self._period
        here = result.source == DEVICE
        period.answered_device += here
        period.answered_cloud += not here
        period.cloud_fraction += result.cloud_fraction
        period.payload_bytes += result.payload_bytes
        period.second_looks += len(result.looks) - 1
        period.latency_ms += result.latency_ms
        period.latency_max_ms = max(period.latency_max_ms, result.latency_ms)
        if result.exit_confidence is not None:
            period.exits_asked += 1
            period.exit_confidence += result.exit_confidence
        if result.audited:
            period.audited += 1
            period.agreed += result.label == result.exit_label
        if label is not None:
            period.labelled += 1
            period.right += result.label == label
        self._draw(self._energy_of(result))

    def _picture_j(self) -> float:
        return self._energy.picture_j(self._settings.rate_per_s or 0.0)

    def _energy_of(self, result: SampleResult) -> float:
        """Return joules of sensing, computing every look and, if the cloud answered, the radio."""
        architecture = self._bundle.architecture
        levels = [level_for(look, architecture.device_levels) for look in result.looks]
        energy_j = self._picture_j()
        energy_j += sum(self._energy.compute_j(device_work(architecture, one)) for one in levels)
        if result.exit_confidence is not None:
            energy_j += self._energy.compute_j(exit_work(architecture, levels[0]))
        if result.requests:
            each_bytes = result.payload_bytes / result.requests
            energy_j += result.requests * self._energy.exchange_j(each_bytes)
        return energy_j

    def _draw(self, energy_j: float = 0.0) -> None:
        """Discharge the battery by ``energy_j`` and the idle energy since the last call."""
        now_s = self._pace.elapsed_s
        seconds, self._drawn_s = now_s - self._drawn_s, now_s
        idle_j = self._energy.hardware.idle_w * seconds
        energy_j += idle_j
        self._period.idle_j += idle_j
        self._period.energy_j += energy_j
        self._power.draw(energy_j, seconds)

    def take(self, device: str, session: int, sequence: int, version: int) -> Telemetry:
        """Return the telemetry of the period since the last call, and begin a new one."""
        self._draw()
        period, now_s = self._period, self._drawn_s
        self._period = _Period(now_s)
        seconds = now_s - period.began_s
        charge = self._power.charge()
        answered = period.answered_device + period.answered_cloud
        decision = self.client.decision
        levels = self._bundle.architecture.device_levels
        return Telemetry(
            device=device,
            session=session,
            sequence=sequence,
            unix_s=round(self._pace.now_unix_s(), 3),
            period_s=round(seconds, 3),
            battery=round(charge.level, 5),
            plugged=charge.plugged,
            fraction=0.0 if decision is None else levels[decision.level],
            cloud_fraction=round(period.cloud_fraction / max(period.answered_cloud, 1), 4),
            answered_device=period.answered_device,
            answered_cloud=period.answered_cloud,
            failed=period.failed,
            labelled=period.labelled,
            right=period.right,
            payload_bytes=period.payload_bytes,
            energy_j=round(period.energy_j, 9),
            latency_ms=round(period.latency_ms / max(answered, 1), 3),
            latency_max_ms=round(period.latency_max_ms, 3),
            reported_version=version,
            model=self._bundle.metadata.name,
            model_version=self._bundle.metadata.version[:16],
            error=period.error,
            audited=period.audited,
            agreed=period.agreed,
            exits_asked=period.exits_asked,
            exit_confidence=round(period.exit_confidence / max(period.exits_asked, 1), 5),
            idle_j=round(period.idle_j, 9),
            second_looks=period.second_looks,
        )
