"""Deliver samples to the cloud, keeping them in the spool, if there is one, until answered."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from device.policy.simple import Decision
from device.split.coalesce import Coalescer, Route
from device.split.pipeline import Pipeline
from device.split.sample import CLOUD, DeviceOutput, SampleResult, cloud_result, device_result
from shared.errors import (
    LateError,
    LinkError,
    OverloadedError,
    ServerFaultError,
    SpooledError,
    TaperError,
    UnauthenticatedError,
    UnavailableError,
    UnknownModelError,
    VersionMismatchError,
)
from shared.protocol.messages import Looks

if TYPE_CHECKING:
    from device.split.outbox import Outbox
    from device.split.spool import Sample
    from shared.model.identity import ModelIdentity

# Errors of servers that start, fail temporarily or have no model yet; patient clients continue.
PATIENCE = (
    UnauthenticatedError,
    UnavailableError,
    LateError,
    ServerFaultError,
    UnknownModelError,
)
_log = logging.getLogger(__name__)


class Delivery:
    """Asks the cloud; while it is away, uses the exit head or keeps samples in the spool.

    ``on_other_version`` is called when the server has another version of the model; it returns
    whether that version will be fetched. With ``patient``, temporary refusals count as absence.
    """

    def __init__(
        self,
        coalescer: Coalescer,
        outbox: Outbox | None,
        top_k: int,
        patient: bool,
        on_other_version: Callable[[], bool],
    ) -> None:
        self._coalescer = coalescer
        self._outbox = outbox
        self._top_k = top_k
        self._absences: tuple[type[TaperError], ...] = (LinkError, OverloadedError)
        if patient:
            self._absences += PATIENCE
        self._on_other_version = on_other_version
        self._bridging = False  # the cloud is away and this has been logged

    async def ask(
        self, pipeline: Pipeline, output: DeviceOutput, decision: Decision
    ) -> SampleResult:
        """Return the cloud's answer, or the exit head's while the cloud is away.

        Raises the errors of ``SplitClient.classify``.
        """
        outbox, identity = self._outbox, pipeline.identity
        number = None
        if outbox is not None:
            # If the sample has to wait, its first look is what will be sent.
            number = await outbox.put(stored(output, identity))
        if outbox is None or number is None:
            return await self._answer(pipeline, output, decision, None)
        answered = confirmed = False
        try:
            result = await self._answer(pipeline, output, decision, number)
            answered = True
            if result.source == CLOUD:
                await outbox.confirm(number)
                confirmed = True
        except VersionMismatchError as error:
            refused = VersionMismatchError(str(error))  # a copy, as callers may share the error
            refused.number = number
            raise refused from None
        finally:
            if not confirmed:
                outbox.leave(number, answered)
        return result

    async def audit(
        self, pipeline: Pipeline, output: DeviceOutput, decision: Decision
    ) -> SampleResult:
        """Have the cloud check a confident answer of the exit head; else return the exit head's.

        Audits are not spooled, since any other sample serves as well.
        """
        try:
            alone = replace(output, coming=None)
            result = await self._answer(pipeline, alone, decision, None)
        except TaperError as error:
            _log.debug("no audit: %s", error)
            return device_result(pipeline, output, self._top_k)
        return replace(result, audited=result.source == CLOUD)

    async def _answer(
        self, pipeline: Pipeline, output: DeviceOutput, decision: Decision, number: int | None
    ) -> SampleResult:
        may_stop = pipeline.can_answer or number is not None
        route, coming, image = Route(pipeline, output.level, may_stop), output.coming, None
        if coming is not None:
            looks = Looks(next_level=coming.level, ask_below=coming.ask_below)
            route, image = route._replace(looks=looks, expected=decision.asked), coming.image
        try:
            answer = await self._coalescer.send(route, output.features, decision, image)
        except VersionMismatchError:
            if not self._on_other_version() or not pipeline.can_answer:
                raise
            return device_result(pipeline, output, self._top_k, number)
        except self._absences as error:
            return self._bridge(pipeline, output, number, error)
        self._bridging = False
        return cloud_result(pipeline, output, answer, self._top_k)

    def _bridge(
        self, pipeline: Pipeline, output: DeviceOutput, number: int | None, error: TaperError
    ) -> SampleResult:
        """Return the exit head's answer while the cloud is away; raises the error without one."""
        if pipeline.can_answer:
            if not self._bridging:
                _log.warning("%s; answering on the device", error)
                self._bridging = True
            return device_result(pipeline, output, self._top_k, number)
        if number is None:
            raise error
        spooled = SpooledError(f"{error}; the sample waits in the spool")
        spooled.number = number
        raise spooled from None


def stored(output: DeviceOutput, identity: ModelIdentity) -> Sample:
    """Make a sample for the spool: its bits, and its image for another version of the model."""
    from device.split.spool import Sample

    image = zlib.compress(output.image.tobytes(), level=1)
    bits = output.features.tobytes()
    return Sample(identity.model, identity.version, output.level, bits, image=image)


def recomputed(sample: Sample, pipeline: Pipeline) -> Sample | None:
    """Recompute a spooled sample with the version of its model that is in use.

    Returns None if another model is in use, or if it is of this version already.
    """
    identity, shape = pipeline.identity, pipeline.architecture.input_shape
    if sample.image is None or sample.model != identity.model or sample.version == identity.version:
        return None
    try:
        values = np.frombuffer(zlib.decompress(sample.image), dtype=np.uint8)
        image = values.reshape(shape.height, shape.width, shape.channels)
    except (zlib.error, ValueError):
        return None
    level = min(sample.level, len(pipeline.architecture.device_levels) - 1)
    bits = pipeline.run(image, level).tobytes()
    return replace(sample, version=identity.version, level=level, bits=bits)
