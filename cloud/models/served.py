"""A model that is served: a bundle with its codec, its halves and their measured costs."""

from __future__ import annotations

import time
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cloud import native
from cloud.models.job import Features, Job, Logits
from shared.errors import BundleError, InvalidRequestError
from shared.model.architecture import Architecture
from shared.model.bundle import DEVICE_GROUPS, Bundle, serialise
from shared.model.looks import ask_table
from shared.packed import CloudHalf, DeviceHalf
from shared.protocol.codec import LARGEST_BATCH, PAYLOAD_SLACK_BYTES, Encoding, FeatureCodec
from shared.protocol.engine import engine_of, image_engine_of
from shared.protocol.looks import wanted
from shared.protocol.messages import Looks, More

if TYPE_CHECKING:
    from cloud.native import Statistics

# The highest compression ratio to plan with while a payload has not been decoded yet.
LIKELY_COMPRESSION = 8
LARGEST_MAP = 2**22  # values of one sample between two stages; bounds the memory of a batch
WARM_UP_SAMPLES = (1, 32)
WARM_UP_S = 0.3
_ENCODINGS = frozenset(Encoding)


class EngineAnswer(NamedTuple):
    """A serialised response of the native engine, and facts about the request that it answers.

    ``decode_s`` and ``run_s`` are the seconds spent on decoding and running. ``earlier_looks`` is
    None if the request has no ``looks`` field; ``asked`` counts the samples for which the response
    asks for another look.
    """

    response: bytes
    level: int
    encoding: int
    samples: int
    names_model: bool
    names_version: bool
    decode_s: float
    run_s: float
    id: int
    earlier_looks: int | None
    asked: int


class ServedModel:
    """A bundle that is ready to answer requests. One thread at a time may decode and run.

    Raises ``BundleError`` if the bundle has no cloud part.
    """

    def __init__(self, bundle: Bundle) -> None:
        _check_maps(bundle)
        for stage in bundle.architecture.cloud:
            bundle.stage("cloud", stage.name)  # raises if the bundle holds only the device's part
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
        self._ask_below = ask_table(bundle)
        self.native = native.Model(
            self.name, self.version, self.cloud_levels, macs_by_level(architecture)
        )
        self.costs = self.native.costs
        self.number = 1  # of this version among those of the model; set by the repository
        engine = engine_of(self._half, self._codec, bundle)
        if engine is not None:
            self.native.set_engine(engine)

    @cached_property
    def device_part(self) -> bytes:
        """The bytes of a bundle file with only the parts that a device needs."""
        return serialise(self.bundle, DEVICE_GROUPS)

    @cached_property
    def _device_half(self) -> DeviceHalf:
        half = DeviceHalf(self.bundle)
        engine = image_engine_of(half, self._half, self.bundle)
        if engine is not None:
            self.native.set_image_engine(engine)
        return half

    @property
    def statistics(self) -> Statistics:
        """Counts and times of requests answered and refused since the model was loaded."""
        return self.native.statistics()

    def warm_up(self) -> None:
        """Measure the cost of every pair of levels, the widest first, for at most ``WARM_UP_S``."""
        end_s = time.perf_counter() + WARM_UP_S
        for cloud_level in reversed(range(len(self.cloud_levels))):
            for level in reversed(range(len(self._sizes))):
                for samples in WARM_UP_SAMPLES:
                    features = np.zeros((samples, self._sizes[level]), np.uint8)
                    self._half.run(features, level, cloud_level)  # fills caches
                    began_s = time.perf_counter()
                    if began_s > end_s:
                        return
                    self._half.run(features, level, cloud_level)
                    seconds = time.perf_counter() - began_s
                    self.costs.learn_run(level, cloud_level, samples, seconds)

    def check(self, job: Job) -> None:
        """Raise ``InvalidRequestError`` for fields and sizes that cannot be right.

        Nothing is decoded, so a refused request costs next to nothing.
        """
        if not 0 <= job.level < len(self._sizes):
            raise InvalidRequestError(
                f"level: {job.level} is not allowed; levels are {self._listed_device_levels()}"
            )
        if not 1 <= job.samples <= LARGEST_BATCH:
            raise InvalidRequestError(
                f"samples: {job.samples} is not allowed; give 1 to {LARGEST_BATCH}"
            )
        levels = self.cloud_levels
        if job.cloud_level is not None and job.cloud_level >= len(levels):
            listed = ", ".join(f"{i} ({f:g})" for i, f in enumerate(levels))
            raise InvalidRequestError(
                f"cloud_level: {job.cloud_level} is not allowed; levels are {listed}"
            )
        if job.frame is None:
            return
        if job.frame.encoding not in _ENCODINGS:
            known = ", ".join(f"{e.value} ({e.name})" for e in Encoding)
            raise InvalidRequestError(
                f"encoding: {job.frame.encoding} is not allowed; known are {known}"
            )
        self._check_size(job.level, job.samples, job.frame.encoding, len(job.frame.payload))

    def check_looks(self, level: int, looks: Looks) -> None:
        """Raise ``InvalidRequestError`` unless the next look would be at a wider level."""
        if looks.earlier == 0 and not level < looks.next_level < len(self._sizes):
            raise InvalidRequestError(
                f"looks.next_level: {looks.next_level} is not allowed after level {level}; "
                f"levels are {self._listed_device_levels()}"
            )

    def more(self, level: int, looks: Looks, logits: Logits) -> More | None:
        """Return the request for another look at uncertain samples; None if there are none.

        ``logits`` is (N, classes). A second look never leads to a third.
        """
        if looks.earlier:
            return None
        ask_below = looks.ask_below
        if ask_below is None:
            ask_below = self._ask_below[level][looks.next_level]
        return wanted(logits, looks.next_level, ask_below)

    def expected_samples(self, job: Job) -> int:
        """Estimate the number of samples from the payload's size, before it is decoded."""
        frame = job.frame
        if frame is None or frame.encoding == Encoding.RAW or job.features is not None:
            return job.samples
        raw_bytes = LIKELY_COMPRESSION * (len(frame.payload) + 1)
        return min(job.samples, 1 + raw_bytes // self._sizes[job.level])

    def features(self, job: Job, start: int, stop: int) -> Features:
        """Return the packed features of samples ``start`` to ``stop``; raises ``RequestError``.

        Slices must be requested in order. A payload that cannot be decoded in slices is decoded as
        a whole at the first call.
        """
        if job.features is not None:
            return job.features[start:stop]
        samples = stop - start if job.made_in_slices else job.samples
        began_s = time.perf_counter()
        try:
            made = self._make(job, start, start + samples)
        finally:
            seconds = time.perf_counter() - began_s
            job.decode_s += seconds
        self.costs.learn_decode(job.encoding, job.level, samples, seconds)
        if job.made_in_slices:
            return made
        job.features = made
        return made[start:stop]

    def run(self, features: Features, level: int, cloud_level: int) -> Logits:
        """Run the cloud half on packed features (N, bytes); returns logits (N, classes)."""
        return self._half.run(features, level, cloud_level)

    def _make(self, job: Job, start: int, stop: int) -> Features:
        """Run the device half on images, or decode the next samples of a frame."""
        if job.images is not None:
            return self._device_half.run(job.images[start:stop], job.level)
        if job.reader is None:
            if job.frame is None:
                raise ValueError("a job has a frame, images or features")
            job.reader = self._codec.reader(job.frame)
        return job.reader.next(stop - start)

    def _check_size(self, level: int, samples: int, encoding: int, size: int) -> None:
        raw = samples * self._sizes[level]
        if encoding == Encoding.RAW and size != raw:
            raise InvalidRequestError(
                f"payload: holds {size} bytes of bits; {samples} samples of level {level} are {raw}"
            )
        if size > raw + PAYLOAD_SLACK_BYTES:
            raise InvalidRequestError(
                f"payload: {size} bytes is more than the bits of {samples} samples of level "
                f"{level} take; give at most {raw + PAYLOAD_SLACK_BYTES}"
            )
        if encoding == Encoding.CONTEXT and size < self._codec.least_bytes(level, samples):
            raise InvalidRequestError(
                f"payload: {size} bytes cannot hold {samples} samples of level {level}"
            )

    def _listed_device_levels(self) -> str:
        fractions = self.bundle.architecture.device_levels
        return ", ".join(f"{i} ({f:g})" for i, f in enumerate(fractions))


def macs_by_level(architecture: Architecture) -> list[list[float]]:
    """Multiply-accumulates of the cloud half for one sample, as [device level][cloud level]."""
    cloud_levels = range(len(architecture.cloud_levels))
    return [
        [float(architecture.cloud_macs(level, cloud_level)) for cloud_level in cloud_levels]
        for level in range(len(architecture.device_levels))
    ]


def _check_maps(bundle: Bundle) -> None:
    """Raise ``BundleError`` if a feature map is so large that a batch would exhaust memory."""
    architecture = bundle.architecture
    level, cloud_level = len(architecture.device_levels) - 1, len(architecture.cloud_levels) - 1
    stages = (
        *architecture.device_shapes(level),
        *architecture.cloud_shapes(level, cloud_level),
    )
    for stage, *shapes in stages:
        size = max(shape.height * shape.width * shape.channels for shape in shapes)
        if size > LARGEST_MAP:
            raise BundleError(
                f"bundle {bundle.metadata.name}: stage {stage.name} has a map of {size} values; "
                f"{LARGEST_MAP} are allowed"
            )
