"""A model that is served: a bundle with its codec, its cloud half and what computing it costs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from cloud.models.costs import CostModel
from shared.errors import InvalidRequestError, RequestError
from shared.model.bundle import DEVICE_GROUPS, Bundle, serialise
from shared.packed import CloudHalf
from shared.protocol.codec import LARGEST_BATCH, Encoding, FeatureCodec
from shared.protocol.messages import Answer, Request

# A frame is never worth sending if it is larger than the bits; this much is let pass all the same.
PAYLOAD_SLACK_BYTES = 64
WARM_UP_SAMPLES = 8
WARM_UP_S = 0.2

_ENCODINGS = frozenset(Encoding)

Outcome = tuple[Answer, ...] | RequestError


class ServedModel:
    """One bundle, ready to answer requests; ``compute`` is for one thread at a time.

    Raises ``BundleError`` if the bundle has no cloud part.
    """

    def __init__(self, bundle: Bundle) -> None:
        for stage in bundle.architecture.cloud:
            bundle.stage("cloud", stage.name)  # a device's part of a bundle lacks them
        self.bundle = bundle
        self.name = bundle.metadata.name
        self.version = bundle.metadata.version
        self.cloud_levels = bundle.architecture.cloud_levels
        self.loaded_unix_s = time.time()
        architecture = bundle.architecture
        self._codec = FeatureCodec(bundle)
        self._half = CloudHalf(bundle)
        self._sizes = [
            architecture.sent_shape(level).packed_bytes
            for level in range(len(architecture.device_levels))
        ]
        self.costs = CostModel(architecture)

    @cached_property
    def device_part(self) -> bytes:
        """The bundle file that a device needs."""
        return serialise(self.bundle, DEVICE_GROUPS)

    def warm_up(self) -> None:
        """Run every pair of levels while time allows, so that costs are known and caches filled."""
        end_s = time.perf_counter() + WARM_UP_S
        for cloud_level in reversed(range(len(self.cloud_levels))):
            for level in reversed(range(len(self._sizes))):
                features = np.zeros((WARM_UP_SAMPLES, self._sizes[level]), np.uint8)
                self._half.run(features, level, cloud_level)
                began_s = time.perf_counter()
                if began_s > end_s:
                    return
                self._half.run(features, level, cloud_level)
                seconds = time.perf_counter() - began_s
                self.costs.learn(level, cloud_level, WARM_UP_SAMPLES, seconds)

    def check(self, request: Request) -> None:
        """Raise ``InvalidRequestError`` unless levels, count and size can be right.

        What passes costs no more than its number of samples says.
        """
        frame = request.frame
        if not 0 <= frame.level < len(self._sizes):
            raise InvalidRequestError(
                f"level: {frame.level} is not allowed; levels are {self._listed_device_levels()}"
            )
        if not 1 <= frame.samples <= LARGEST_BATCH:
            raise InvalidRequestError(
                f"samples: {frame.samples} is not allowed; give 1 to {LARGEST_BATCH}"
            )
        largest = frame.samples * self._sizes[frame.level] + PAYLOAD_SLACK_BYTES
        if len(frame.payload) > largest:
            raise InvalidRequestError(
                f"payload: {len(frame.payload)} bytes is more than the bits of {frame.samples} "
                f"samples of level {frame.level} take; give at most {largest}"
            )
        if frame.encoding not in _ENCODINGS:
            known = ", ".join(f"{e.value} ({e.name})" for e in Encoding)
            raise InvalidRequestError(
                f"encoding: {frame.encoding} is not allowed; known are {known}"
            )
        levels = self.cloud_levels
        if request.cloud_level is not None and request.cloud_level >= len(levels):
            listed = ", ".join(f"{i} ({f:g})" for i, f in enumerate(levels))
            raise InvalidRequestError(
                f"cloud_level: {request.cloud_level} is not allowed; levels are {listed}"
            )

    def answer(self, request: Request, cloud_level: int) -> tuple[Answer, ...]:
        """Finish the samples of one request; ``RequestError`` if its payload is wrong."""
        features = self._codec.decode(request.frame)
        logits = self._half.run(features, request.frame.level, cloud_level)
        return _answers(logits.argmax(axis=1).tolist(), logits, request.top_k)

    def compute(self, requests: Sequence[Request], cloud_level: int) -> list[Outcome]:
        """Finish the samples of ``requests``, all of one device level, in one run.

        A request whose payload is wrong gets its error, the others their answers.
        """
        outcomes: list[Outcome | None] = [None] * len(requests)
        parts: list[npt.NDArray[np.uint8]] = []
        for place, request in enumerate(requests):
            try:
                parts.append(self._codec.decode(request.frame))
            except RequestError as error:
                outcomes[place] = error
        if parts:
            features = parts[0] if len(parts) == 1 else np.concatenate(parts)
            logits = self._half.run(features, requests[0].frame.level, cloud_level)
            labels = logits.argmax(axis=1).tolist()
            start = 0
            for place, request in enumerate(requests):
                if outcomes[place] is None:
                    end = start + request.frame.samples
                    outcomes[place] = _answers(labels[start:end], logits[start:end], request.top_k)
                    start = end
        return [outcome for outcome in outcomes if outcome is not None]

    def _listed_device_levels(self) -> str:
        fractions = self.bundle.architecture.device_levels
        return ", ".join(f"{i} ({f:g})" for i, f in enumerate(fractions))


def _answers(labels: list[int], logits: npt.NDArray[np.float32], top_k: int) -> tuple[Answer, ...]:
    if not top_k:
        return tuple([Answer(label) for label in labels])
    return tuple(
        Answer(label, best(row, top_k))
        for label, row in zip(labels, probabilities(logits), strict=True)
    )


def probabilities(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Softmax over the last axis, same shape."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    result: npt.NDArray[np.float32] = shifted / shifted.sum(axis=-1, keepdims=True)
    return result


def best(row: npt.NDArray[np.float32], count: int) -> tuple[tuple[int, float], ...]:
    """The ``count`` largest of the probabilities (classes,) as (label, probability)."""
    order = np.argsort(-row, kind="stable")[:count]
    return tuple((int(label), float(row[label])) for label in order)
