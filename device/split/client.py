"""The split client: device half, exit head, codec, link, spool and policy put together."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

from device.energy.battery import Battery, Charge, FixedBattery, SystemBattery
from device.energy.clock import boot_s
from device.policy.simple import (
    LARGEST_BATCH,
    Decision,
    FixedPolicy,
    LinearPolicy,
    Policy,
    Situation,
    simple_policy,
)
from device.split.coalesce import Coalescer
from device.split.pipeline import ExitSettings, Pipeline
from device.split.sample import SampleResult, Taken, answered_here, answered_there
from device.split.settings import AUTO, Settings
from device.transport.channel import check_addresses, open_channel
from device.transport.link import Link, Opener
from shared.bundles import DEFAULT_MODEL, bundle_path
from shared.errors import LinkError, OverloadedError, SpooledError, VersionMismatchError
from shared.model.bundle import DEVICE_GROUPS, Bundle, read_bundle

# Planning, the spool and models over the air load their modules when they are used: what a device
# does not need it does not pay for.
if TYPE_CHECKING:
    from device.split.model_store import ModelStore
    from device.split.outbox import LateAnswer

DECIDE_EVERY_S = 0.5
_log = logging.getLogger(__name__)


class SplitClient:
    """Classifies images: lower layers here, upper layers in the cloud, if need be all here.

    Use as ``async with``. ``bundle``, ``battery`` and ``policy`` replace what ``settings`` would
    choose. ``on_late`` is told the cloud's answers to samples that had waited in the spool,
    ``on_decision`` every change of the policy's choice. ``make_pipeline`` and ``opener`` let many
    clients of one process share what they can.

        async with SplitClient(Settings(servers=("edge:50051",))) as client:
            result = await client.classify(image)
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        bundle: Bundle | None = None,
        battery: Battery | None = None,
        policy: Policy | None = None,
        on_late: Callable[[LateAnswer], None] | None = None,
        on_decision: Callable[[Decision], None] | None = None,
        make_pipeline: Callable[[Bundle, ExitSettings], Pipeline] = Pipeline,
        opener: Opener = open_channel,
    ) -> None:
        self._make_pipeline = make_pipeline
        self._opener = opener
        self._steered_threshold: float | None = None
        self._settings = Settings() if settings is None else settings
        self._servers = check_addresses(self._settings.servers, self._settings.security)
        self._exits = ExitSettings(self._settings.use_exit, self._settings.exit_threshold)
        if bundle is None and not self._settings.model.from_server:
            bundle = read_bundle(bundle_path(self._settings.model.name), DEVICE_GROUPS)
        self._given_policy = policy
        self._capacity_j = _capacity_j(self._settings)
        self._battery = battery or _battery(self._settings)
        self._on_late = on_late
        self._on_decision = on_decision
        self._newer_model = asyncio.Event()
        self._decision: Decision | None = None
        self._decided_s = 0.0
        self._samples = 0
        self._rate = 0.0
        self._bridging = False  # the cloud is away, and that was said
        self.has_model = bundle is not None  # else it comes from the server
        if bundle is not None:
            self._use(bundle)

    def _use(self, bundle: Bundle) -> None:
        """Work with ``bundle`` from the next sample on."""
        self._pipeline = self._make_pipeline(bundle, self._exits)
        self._policy = self._given_policy or make_policy(self._settings, bundle)
        self._decision = None

    @property
    def bundle(self) -> Bundle:
        """The model in use; with ``from_server`` known once the client was entered."""
        return self._pipeline.bundle

    @property
    def link(self) -> Link:
        """The connection, for its state: away, round trip, server."""
        return self._link

    @property
    def decision(self) -> Decision | None:
        """How the policy works at the moment; None before the first sample."""
        return self._decision

    async def __aenter__(self) -> Self:
        settings = self._settings
        async with AsyncExitStack() as stack:
            if settings.model.from_server:
                store = self._store()
                self._use(await asyncio.wait_for(store.first(), settings.wait_s + 60))
            metadata = self.bundle.metadata
            self._link = await stack.enter_async_context(
                Link(
                    self._servers,
                    metadata.name,
                    metadata.version,
                    settings.wait_s,
                    settings.timeout_s,
                    settings.security,
                    patient=settings.start_offline or settings.spool is not None,
                    opener=self._opener,
                )
            )
            self._coalescer = Coalescer(self._link, settings.top_k)
            stack.push_async_callback(self._coalescer.close)
            self._outbox = None
            if settings.spool is not None:
                from device.split.outbox import Outbox
                from device.split.spool import Spool

                spool = Spool(settings.spool.path, settings.spool.limit)
                self._outbox = await stack.enter_async_context(
                    Outbox(spool, self._link, self._on_late)
                )
            if settings.model.from_server:
                from device.split.model_store import follow

                follower = asyncio.create_task(
                    follow(
                        store,
                        lambda: self.bundle.metadata.version,
                        self._switch,
                        self._newer_model,
                        settings.model.poll_s,
                    ),
                    name="model follower",
                )
                stack.push_async_callback(_stop, follower)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def classify(self, image: npt.NDArray[np.uint8], index: int = 0) -> SampleResult:
        """Classify one image (H, W, C) uint8. Safe to call many times at once.

        Raises ``LinkError`` if the cloud is away and there is no exit head to answer (its subclass
        ``SpooledError`` if the sample waits in the spool), ``RequestError`` if the server refuses,
        ``ValueError`` for an image of another shape.
        """
        started_s = time.perf_counter()
        pipeline = self._pipeline  # one model for the whole way of a sample
        decision = self._decide()
        level = self._level(decision)
        features = pipeline.run(image, level)
        local = None
        wanted = self._steered_threshold
        threshold = pipeline.threshold(level, decision.exit_threshold if wanted is None else wanted)
        if threshold <= 1:
            local = pipeline.answer(features, level)
        device_s = time.perf_counter() - started_s
        taken = Taken(index, level, features, local, started_s, device_s)
        if local is not None and local.confidence >= threshold:
            return answered_here(pipeline, taken, self._settings.top_k, number=None)
        return await self._ask(pipeline, taken, decision)

    def steer(self, policy: Policy, exit_threshold: float | None) -> None:
        """Decide by ``policy`` from the next sample on; None leaves the exits to it."""
        self._given_policy = self._policy = policy
        self._steered_threshold = exit_threshold
        self._decision = None

    async def drain(self, limit_s: float) -> int:
        """Wait until the spool is empty, at most ``limit_s``; how many samples still wait."""
        return 0 if self._outbox is None else await self._outbox.empty(limit_s)

    @property
    def late_answers(self) -> int:
        """How many samples of the spool the cloud has answered."""
        return 0 if self._outbox is None else self._outbox.late_answers

    def flush(self) -> None:
        """Send at once what waits to be coalesced: no more samples will come soon."""
        self._coalescer.flush()

    async def _ask(self, pipeline: Pipeline, taken: Taken, decision: Decision) -> SampleResult:
        """The cloud's answer, or the device's while the cloud is away."""
        outbox, top_k = self._outbox, self._settings.top_k
        number = None
        if outbox is not None:
            identity = pipeline.identity
            bits = taken.features.tobytes()
            number = await outbox.put(identity.model, identity.version, taken.level, bits)
        confirmed = False
        try:
            try:
                delivered = await self._coalescer.send(
                    pipeline,
                    taken.features,
                    taken.level,
                    decision.wait_s,
                    decision.batch,
                    stop_when_away=pipeline.can_answer or number is not None,
                )
            except VersionMismatchError:
                if not self._settings.model.from_server:
                    raise
                self._newer_model.set()
                if pipeline.can_answer:
                    return answered_here(pipeline, taken, top_k, number=number)
                raise
            except (LinkError, OverloadedError) as error:
                if pipeline.can_answer:
                    if not self._bridging:
                        _log.warning("%s; answering on the device", error)
                        self._bridging = True
                    return answered_here(pipeline, taken, top_k, number=number)
                if number is not None:
                    spooled = SpooledError(f"{error}; the sample waits in the spool")
                    spooled.number = number
                    raise spooled from None
                raise
            if outbox is not None and number is not None:
                await outbox.confirm(number)
                confirmed = True
            self._bridging = False
            return answered_there(pipeline, taken, delivered)
        finally:
            if outbox is not None and number is not None and not confirmed:
                outbox.leave(number)

    def _level(self, decision: Decision) -> int:
        """The level to use: no more than the server suggests, unless the user fixed it."""
        hints = self._link.hints
        if hints is None or hints.suggested_level is None or isinstance(self._policy, FixedPolicy):
            return decision.level
        return min(decision.level, hints.suggested_level)

    def _decide(self) -> Decision:
        """The policy's choice, asked for anew twice a second."""
        now_s = boot_s()
        self._samples += 1
        passed_s = now_s - self._decided_s
        if self._decision is not None and 0 <= passed_s < DECIDE_EVERY_S:
            return self._decision
        if self._decided_s and passed_s > 0:
            rate = self._samples / passed_s
            self._rate = rate if not self._rate else self._rate + 0.3 * (rate - self._rate)
        self._samples = 0
        self._decided_s = now_s
        fixed = isinstance(self._policy, FixedPolicy)
        charge = Charge(1.0, plugged=True) if fixed else self._battery.charge()
        capacity_j = self._capacity_j
        decision = self._policy.decide(
            Situation(
                charge=charge,
                now_s=now_s,
                stored_j=None if capacity_j is None else charge.level * capacity_j,
                rate_per_s=self._rate or 1.0,
                round_trip_s=self._link.round_trip_s,
                cloud_away=self._link.away,
            )
        )
        if self._settings.max_wait_s and not self._settings.planned:
            wait_s = self._settings.max_wait_s
            decision = replace(decision, wait_s=wait_s, batch=LARGEST_BATCH)
        if self._on_decision and _differs(decision, self._decision):
            self._on_decision(decision)
        self._decision = decision
        return decision

    def _switch(self, bundle: Bundle) -> None:
        _log.warning(
            "model %s: switched to version %s", bundle.metadata.name, bundle.metadata.version[:16]
        )
        self._use(bundle)

    def _store(self) -> ModelStore:
        from device.split.model_store import ModelStore

        model = self._settings.model
        name = "" if model.name == DEFAULT_MODEL else model.name
        return ModelStore(
            model.folder,
            name,
            self._servers,
            self._settings.security,
            lambda bundle: Pipeline(bundle, self._exits).check(),
        )


def make_policy(settings: Settings, bundle: Bundle) -> Policy:
    """The policy that the settings ask for; ``auto`` without a goal follows the charge."""
    levels = bundle.architecture.device_levels
    if settings.fraction != AUTO:
        return simple_policy(settings.fraction, levels, "--fraction")
    if not settings.planned:
        return LinearPolicy(levels)
    from device.split.planning import plan

    return plan(settings, bundle)


def _battery(settings: Settings) -> Battery:
    percent = settings.battery_percent
    return SystemBattery() if percent is None else FixedBattery(percent)


def _capacity_j(settings: Settings) -> float | None:
    """Energy of the full battery, where a policy asks for it."""
    if settings.capacity_j is not None or not settings.planned:
        return settings.capacity_j
    from device.energy.hardware import find_hardware

    return find_hardware(settings.hardware).battery_j


def _differs(one: Decision, other: Decision | None) -> bool:
    return other is None or (one.level, one.exit_threshold, one.wait_s) != (
        other.level,
        other.exit_threshold,
        other.wait_s,
    )


async def _stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
