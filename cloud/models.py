"""The models that a server has: bundles, each with its codec and its cloud half."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from shared.bundle import Bundle
from shared.codec import FeatureCodec
from shared.errors import (
    InvalidRequestError,
    UnknownModelError,
    UsageError,
    VersionMismatchError,
)
from shared.packed import CloudHalf
from shared.protocol import Answer, Request


class ServedModel:
    """One bundle, ready to answer requests. Not safe for use by several threads at once.

    Raises ``BundleError`` if the bundle has no cloud part.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self._codec = FeatureCodec(bundle)
        self._half = CloudHalf(bundle)
        for stage in bundle.architecture.cloud:
            bundle.stage("cloud", stage.name)  # a device's part of a bundle lacks them

    @property
    def widest(self) -> int:
        """Index of the cloud level with all channels."""
        return len(self.bundle.architecture.cloud_levels) - 1

    def check_version(self, prefix: str) -> None:
        """Raise ``VersionMismatchError`` unless the served version starts with ``prefix``."""
        version = self.bundle.metadata.version
        if not version.startswith(prefix.lower()):
            raise VersionMismatchError(
                f"version: {prefix[:64]!r} of {self.bundle.metadata.name} is not served; "
                f"this server has {version}"
            )

    def check(self, request: Request) -> None:
        """Raise ``RequestError`` unless the request is for this version and an existing level."""
        self.check_version(request.version)
        levels = self.bundle.architecture.cloud_levels
        if request.cloud_level is not None and request.cloud_level >= len(levels):
            listed = ", ".join(f"{i} ({f:g})" for i, f in enumerate(levels))
            raise InvalidRequestError(
                f"cloud_level: {request.cloud_level} is not allowed; levels are {listed}"
            )

    def answer(self, request: Request, cloud_level: int) -> tuple[Answer, ...]:
        """Finish a request's samples at ``cloud_level``; raises ``RequestError``."""
        features = self._codec.decode(request.frame)
        logits = self._half.run(features, request.frame.level, cloud_level)
        labels = logits.argmax(axis=1)
        if not request.top_k:
            return tuple(Answer(int(label)) for label in labels)
        return tuple(
            Answer(int(label), best(row, request.top_k))
            for label, row in zip(labels, probabilities(logits), strict=True)
        )


class Models:
    """The served models by name; the first one is the default."""

    def __init__(self, bundles: Iterable[Bundle]) -> None:
        served = [ServedModel(bundle) for bundle in bundles]
        self._by_name: Mapping[str, ServedModel] = {m.bundle.metadata.name: m for m in served}
        if len(self._by_name) < len(served):
            names = ", ".join(model.bundle.metadata.name for model in served)
            raise UsageError(f"--model: every model needs a name of its own; these are {names}")
        self._default = served[0]

    def find(self, name: str) -> ServedModel:
        """The model called ``name``, or the default; ``UnknownModelError`` lists what there is."""
        if not name:
            return self._default
        try:
            return self._by_name[name]
        except KeyError:
            known = ", ".join(self._by_name)
            raise UnknownModelError(
                f"model: {name[:100]!r} is not served; this server has {known}"
            ) from None

    def names(self) -> tuple[str, ...]:
        """Names of all models, the default first."""
        return tuple(self._by_name)


def probabilities(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Softmax over the last axis, same shape."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    result: npt.NDArray[np.float32] = shifted / shifted.sum(axis=-1, keepdims=True)
    return result


def best(row: npt.NDArray[np.float32], count: int) -> tuple[tuple[int, float], ...]:
    """The ``count`` largest of the probabilities (classes,) as (label, probability)."""
    order = np.argsort(-row, kind="stable")[:count]
    return tuple((int(label), float(row[label])) for label in order)
