"""The operations of the Open Inference Protocol, independent of gRPC and HTTP."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import numpy as np

from cloud.models.catalog import Catalog
from cloud.models.job import Job
from cloud.models.repository import Repository
from cloud.models.served import ServedModel
from cloud.rpc.service import Call, InferenceService
from cloud.rpc.tensors import (
    PROBABILITIES,
    Bytes,
    TensorAnswer,
    TensorRequest,
    outputs_of,
    samples_of,
)
from shared.errors import InvalidRequestError, RequestError, VersionMismatchError
from shared.protocol.codec import LARGEST_BATCH
from shared.protocol.responses import probabilities

PIXELS_AT_ONCE = 65_536  # values converted in the event loop; larger inputs go to a thread


@dataclass(frozen=True)
class IndexEntry:
    """One model version of the repository's index: whether it is served, and why not."""

    name: str
    version: str
    state: str
    reason: str = ""


class TensorInference:
    """Answers tensor requests with the models of ``service``, and manages ``repository``."""

    def __init__(self, service: InferenceService, repository: Repository) -> None:
        self._service = service
        self._repository = repository

    @property
    def ready(self) -> bool:
        """Whether at least one model is served."""
        return bool(self._service.catalog.models)

    def find(self, name: str, version: str) -> ServedModel:
        """Return a served model; raises ``RequestError`` if there is none.

        ``version`` is empty for the default, a number from 1, or the first digits of the digest.
        """
        catalog = self._service.catalog
        if not version.isdecimal() or len(version) >= 8:
            return catalog.find(name, version)
        listed = catalog.versions[catalog.find(name).name]
        for model in listed:
            if model.number == int(version):
                return model
        known = ", ".join(str(model.number) for model in listed)
        raise VersionMismatchError(
            f"version: {version!r} of {listed[0].name} is not served; this server has {known}"
        )

    def is_ready(self, name: str, version: str) -> bool:
        """Whether the model is served."""
        try:
            self.find(name, version)
        except RequestError:
            return False
        return True

    def versions(self, model: ServedModel) -> list[str]:
        """Return the numbers and digests of all served versions of a model."""
        listed = self._service.catalog.versions.get(model.name, (model,))
        return [*(str(one.number) for one in listed), *(one.version for one in listed)]

    def models(self, name: str, version: str) -> tuple[ServedModel, ...]:
        """Return all models, or only the one that is named."""
        return (self.find(name, version),) if name else self._service.catalog.models

    def index(self, only_ready: bool) -> list[IndexEntry]:
        """Return all served versions and, unless ``only_ready``, the unloaded models."""
        served = [
            IndexEntry(model.name, str(model.number), "READY")
            for model in self._service.catalog.models
        ]
        if only_ready:
            return served
        gone = sorted(self._repository.unloaded)
        return [*served, *(IndexEntry(name, "", "UNAVAILABLE", "unloaded") for name in gone)]

    async def load(self, name: str) -> None:
        """Load a model's changed files, and serve it again; ``UnknownModelError``."""
        self._repository.allow(name)
        self._publish(await asyncio.to_thread(self._repository.scan))
        self._service.catalog.find(name)

    async def unload(self, name: str) -> None:
        """Stop serving a model until it is loaded again; ``UnknownModelError``."""
        self._service.catalog.find(name)
        self._repository.forbid(name)
        self._publish(await asyncio.to_thread(self._repository.scan))

    async def infer(self, request: TensorRequest, call: Call) -> TensorAnswer:
        """Answer one request; raises ``RequestError``."""
        model = self.find(request.model, request.version)
        try:
            level = _device_level(model, request)
            samples, images = await _samples(model, request, level)
        except RequestError:
            model.native.count_failed(0.0)
            raise
        found = []
        for start in range(0, len(samples), LARGEST_BATCH):
            part = samples[start : start + LARGEST_BATCH]
            job = Job(level, len(part), request.cloud_level)
            job.images, job.features = (part, None) if images else (None, part)
            found.append(await self._service.classify(model, job, call))
        logits = np.concatenate([prediction.logits for prediction in found])
        shares = logits
        if any(one.name == PROBABILITIES for one in request.outputs):
            shares = probabilities(logits)
        return TensorAnswer(
            request.id,
            model.name,
            model.version,
            found[-1].cloud_level,
            outputs_of(model, request.outputs, logits.argmax(axis=1), shares),
        )

    def _publish(self, catalog: Catalog) -> None:
        self._service.replace_catalog(catalog)


async def _samples(model: ServedModel, request: TensorRequest, level: int) -> tuple[Bytes, bool]:
    """Return the samples, and whether they are images; converts large inputs in a thread."""
    values = request.tensor.values
    if isinstance(values, list) or values.size > PIXELS_AT_ONCE:
        return await asyncio.to_thread(samples_of, model, request, level)
    return samples_of(model, request, level)


def _device_level(model: ServedModel, request: TensorRequest) -> int:
    levels = model.bundle.architecture.device_levels
    if request.level is None:
        return len(levels) - 1
    if request.level >= len(levels):
        listed = ", ".join(f"{i} ({f:g})" for i, f in enumerate(levels))
        raise InvalidRequestError(f"level: {request.level} is not allowed; levels are {listed}")
    return request.level
