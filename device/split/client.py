"""The split client, which combines device half, exit head, codec, link, spool and policy."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

from device.energy.charge import Battery
from device.policy.simple import Decision, Policy
from device.split.coalesce import Coalescer
from device.split.delivery import Delivery, recomputed
from device.split.looking import look_on_device
from device.split.pipeline import ExitSettings, Pipeline
from device.split.sample import SampleResult, device_result
from device.split.settings import ClientSettings
from device.split.steering import Steering, client_policy
from device.transport.channel import open_channel
from device.transport.connection import Opener
from device.transport.link import Link
from shared.bundles import DEFAULT_MODEL, bundle_path
from shared.model.bundle import DEVICE_GROUPS, Bundle, read_bundle
from shared.model.identity import ModelIdentity

# The spool and the fetching of models are imported where they are used, to save time and memory on
# devices that do not need them.
if TYPE_CHECKING:
    from device.split.follower import ModelFollower
    from device.split.model_store import ModelStore
    from device.split.outbox import LateAnswer, Outbox
    from device.split.spool import Sample

FETCH_S = 60.0  # time limit for fetching the first model from a server that is reachable
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Factories:
    """Functions that make the objects which clients of one process can share."""

    pipeline: Callable[[Bundle, ExitSettings], Pipeline] = Pipeline
    channel: Opener = open_channel


class SplitClient:
    """Classifies images: lower layers here and upper layers in the cloud, or all layers here.

    Use as ``async with``. ``bundle``, ``battery`` and ``policy`` replace those that ``settings``
    would choose. ``on_late`` receives the cloud's answers to samples that waited in the spool,
    ``on_decision`` every decision of the policy that differs from the last.

        async with SplitClient(ClientSettings(servers=("edge:50051",))) as client:
            result = await client.classify(image)
    """

    def __init__(
        self,
        settings: ClientSettings | None = None,
        *,
        bundle: Bundle | None = None,
        battery: Battery | None = None,
        policy: Policy | None = None,
        on_late: Callable[[LateAnswer], None] | None = None,
        on_decision: Callable[[Decision], None] | None = None,
        factories: Factories | None = None,
    ) -> None:
        self._settings = ClientSettings() if settings is None else settings
        self._link_settings = self._settings.link
        self._factories = Factories() if factories is None else factories
        self._exits = ExitSettings(self._settings.use_exit, self._settings.exit_threshold)
        self._steering = Steering(self._settings, battery, policy, on_decision)
        self._on_late = on_late
        self._outbox: Outbox | None = None
        self._follower: ModelFollower | None = None
        if bundle is None and not self._settings.model.from_server:
            bundle = read_bundle(bundle_path(self._settings.model.name), DEVICE_GROUPS)
        self.has_model = bundle is not None  # otherwise it is fetched from the server
        if bundle is not None:
            self._use(bundle)

    @property
    def bundle(self) -> Bundle:
        """The model in use; with ``from_server`` it is known after the client has been entered."""
        return self._pipeline.bundle

    @property
    def link(self) -> Link:
        """The connection, to read its state: away, round trip, server."""
        return self._link

    @property
    def decision(self) -> Decision | None:
        """The policy's last decision; None before the first sample."""
        return self._steering.decision

    @property
    def late_answers(self) -> int:
        """Number of samples from the spool that the cloud has answered."""
        return 0 if self._outbox is None else self._outbox.late_answers

    @property
    def refused_looks(self) -> dict[str, int]:
        """Number of servers' requests for second looks that were refused, by reason."""
        return dict(self._coalescer.look_requests.refused)

    async def __aenter__(self) -> Self:
        settings = self._settings
        async with AsyncExitStack() as stack:
            store = None
            if settings.model.from_server:
                store = self._store()
                self._use(await asyncio.wait_for(store.first(), settings.wait_s + FETCH_S))
            metadata = self.bundle.metadata
            identity = ModelIdentity.short(metadata.name, metadata.version)
            self._link = await stack.enter_async_context(
                Link(self._link_settings, identity, opener=self._factories.channel)
            )
            self._coalescer = Coalescer(self._link, settings.top_k)
            stack.push_async_callback(self._coalescer.close)
            if settings.spool is not None:
                from device.split.outbox import Outbox
                from device.split.spool import Spool

                spool = Spool(settings.spool.path, settings.spool.limit)
                self._outbox = await stack.enter_async_context(
                    Outbox(spool, self._link, self._on_late, self._recomputed)
                )
            if store is not None:
                from device.split.follower import ModelFollower

                self._follower = await stack.enter_async_context(
                    ModelFollower(store, self._version, self.switch, settings.model.poll_s)
                )
            self._delivery = Delivery(
                self._coalescer,
                self._outbox,
                settings.top_k,
                self._link_settings.patient,
                self._look_for_model,
            )
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
        """Classify one image (H, W, C) uint8. May be called concurrently.

        ``index`` is copied into the result. Raises ``LinkError`` if the cloud is away and there is
        no exit head to answer (``SpooledError``, a subclass, if the sample waits in the spool),
        ``RequestError`` if the server refuses, ``ValueError`` for an image of another shape.
        """
        pipeline = self._pipeline  # a sample uses the same model from start to end
        decision = self._steering.decide(self._link)
        looks = self._steering.looks(decision, self._link.hints)
        output, stays = look_on_device(pipeline, image, looks, index)
        if stays:
            if self._steering.audits():
                return await self._delivery.audit(pipeline, output, decision)
            return device_result(pipeline, output, self._settings.top_k)
        return await self._delivery.ask(pipeline, output, decision)

    def steer(self, policy: Policy, exit_threshold: float | None, audit_rate: float = 0.0) -> None:
        """Use ``policy`` from the next sample on; it chooses exits if ``exit_threshold`` is None.

        ``audit_rate`` is the share of the exit head's answers that the cloud checks.
        """
        self._steering.steer(policy, exit_threshold, audit_rate)

    async def drain(self, limit_s: float) -> int:
        """Wait until the spool is empty, at most ``limit_s``; return how many samples
        still wait.
        """
        return 0 if self._outbox is None else await self._outbox.empty(limit_s)

    def flush(self) -> None:
        """Send samples that wait to be coalesced, as no more samples follow soon."""
        self._coalescer.flush()

    def _use(self, bundle: Bundle) -> None:
        """Use ``bundle`` from the next sample on."""
        self._pipeline = self._factories.pipeline(bundle, self._exits)
        self._steering.use(bundle)

    def _version(self) -> str:
        return self.bundle.metadata.version

    def policy_for(self, fraction: str) -> Policy:
        """Make the policy named ``fraction``, with the goals of the settings."""
        return client_policy(replace(self._settings, fraction=fraction), self.bundle)

    def switch(self, bundle: Bundle) -> None:
        """Use another model, or another version of it, from the next sample on."""
        name, version = bundle.metadata.name, bundle.metadata.version[:16]
        _log.warning("model %s: switched to version %s", name, version)
        self._use(bundle)
        if self._outbox is not None:
            self._outbox.try_again()

    def _recomputed(self, sample: Sample) -> Sample | None:
        return recomputed(sample, self._pipeline)

    def _look_for_model(self) -> bool:
        """Start fetching the server's version; returns False if models are not fetched."""
        if self._follower is None:
            return False
        self._follower.check_now()
        return True

    def _store(self) -> ModelStore:
        from device.split.model_store import ModelStore

        model, link = self._settings.model, self._link_settings
        name = "" if model.name == DEFAULT_MODEL else model.name

        def check(bundle: Bundle) -> None:
            Pipeline(bundle, self._exits).check()

        return ModelStore(model.folder, name, link.servers, link.security, check)
