"""The compiled engine of a model, which answers a serialised request in one native call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.model.bundle import Bundle
from shared.model.looks import ask_table
from shared.packed import CloudHalf, DeviceHalf, kernels
from shared.protocol.codec import PAYLOAD_SLACK_BYTES, FeatureCodec
from shared.protocol.context_model import LEAST_BITS
from shared.protocol.looks import KEEP_MS

if kernels.missing_reason() == "":
    from shared.packed import _native
if TYPE_CHECKING:
    from shared.packed._native import Engine, ImageEngine


def engine_of(half: CloudHalf, codec: FeatureCodec, bundle: Bundle) -> Engine | None:
    """Make the engine for ``half`` and the encodings of ``codec``; None without compiled kernels.

    Requests that it does not answer are left to its caller: invalid ones, zstd payloads, other
    models or versions, pinned cloud levels. Thread-safe.
    """
    if half.native is None:
        return None
    architecture = bundle.architecture
    levels = range(len(architecture.device_levels))
    engine = _native.Engine(
        half.native,
        bundle.metadata.name,
        bundle.metadata.version,
        codec.compiled_coders(),
        [architecture.sent_shape(level).size for level in levels],
        len(architecture.cloud_levels),
        architecture.classes,
        PAYLOAD_SLACK_BYTES,
    )
    engine.set_least_bits(LEAST_BITS)
    engine.set_looks([margin for row in ask_table(bundle) for margin in row], KEEP_MS)
    return engine


def image_engine_of(device: DeviceHalf, cloud: CloudHalf, bundle: Bundle) -> ImageEngine | None:
    """Make the engine for images of the Open Inference Protocol; None without compiled kernels.

    Requests that it does not answer are left to its caller: invalid ones, inputs other than
    ``image`` as UINT8, parameters, versions. Thread-safe.
    """
    if device.native is None or cloud.native is None:
        return None
    architecture = bundle.architecture
    shape = architecture.input_shape
    return _native.ImageEngine(
        device.native,
        cloud.native,
        bundle.metadata.name,
        bundle.metadata.version,
        [shape.height, shape.width, shape.channels],
        len(architecture.cloud_levels),
        architecture.classes,
    )
