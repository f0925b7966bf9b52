"""The split protocol's messages as plain values, and their conversion from and to protobuf.

Device and cloud work with the values. Protobuf is only used here and where gRPC calls are made or
answered: in ``device.transport``, ``cloud.rpc`` and ``cloud.ray_app``. Values that are created for
every request are named tuples, since a frozen dataclass takes twice as long to create.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from google.protobuf.message import DecodeError

from protos.split.v1 import split_pb2 as pb
from shared.errors import InvalidRequestError
from shared.model.bundle import Bundle, describe
from shared.protocol.codec import Frame

SHORTEST_VERSION_PREFIX = 8  # fewest digits of a version that a request may contain
DEFAULT_MAX_MESSAGE_BYTES = 4 * 2**20


class Looks(NamedTuple):
    """A client's field about looks at the samples of a request.

    earlier     number of earlier looks at these samples, under the same id
    next_level  device level of the look that the server may request
    ask_below   margin of the answer (``shared.protocol.looks.margins``) below which the server
                shall request the next look; None leaves it to the server's model
    """

    earlier: int = 0
    next_level: int = 0
    ask_below: int | None = None


class More(NamedTuple):
    """A server's request for another look.

    level    requested device level
    keep_ms  milliseconds for which the stream remembers the request
    samples  indices of the samples in the client's request, ascending; empty means all
    """

    level: int
    keep_ms: int = 0
    samples: tuple[int, ...] = ()


class Request(NamedTuple):
    """An inference request.

    An empty ``model`` or ``version`` means the server's default or, in a stream, the last one
    named. Without ``looks`` the server requests no further look.
    """

    id: int
    model: str
    version: str
    frame: Frame
    cloud_level: int | None = None
    top_k: int = 0
    looks: Looks | None = None

    @classmethod
    def empty(cls) -> Request:
        """Return a placeholder for a message that cannot be parsed."""
        return cls(0, "", "", Frame(0, 0, 0, b""))


class Answer(NamedTuple):
    """The prediction for a sample; ``candidates`` are (label, probability), best first."""

    label: int
    candidates: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Failure:
    """Why a request was refused: a gRPC status code and a message.

    ``retry_after_ms`` is the time after which to retry; 0 leaves it to the client.
    """

    code: int
    message: str
    retry_after_ms: int = 0


@dataclass(frozen=True)
class Hints:
    """The server's load, and a device level that would reduce it."""

    load: float = 0.0
    suggested_level: int | None = None


class Response(NamedTuple):
    """Answers to one request, or the failure."""

    id: int
    answers: tuple[Answer, ...] = ()
    cloud_level: int = 0
    queue_us: int = 0
    compute_us: int = 0
    failure: Failure | None = None
    hints: Hints | None = None
    more: More | None = None


@dataclass(frozen=True)
class ModelInfo:
    """A server's description of a model."""

    name: str
    version: str
    device_levels: tuple[float, ...]
    cloud_levels: tuple[float, ...]
    class_names: tuple[str, ...]
    accuracy: tuple[tuple[float, ...], ...] = field(default=())
    served_versions: tuple[str, ...] = ()


@dataclass(frozen=True)
class PartChunk:
    """A chunk of the device's part; the first also has its version, total size and SHA-256."""

    version: str
    total_bytes: int
    sha256: str
    chunk: bytes


def request_to_message(request: Request) -> pb.InferRequest:
    """Convert a request to a message."""
    message = pb.InferRequest(
        id=request.id,
        model=request.model,
        version=request.version,
        level=request.frame.level,
        encoding=pb.Encoding.ValueType(request.frame.encoding),
        samples=0 if request.frame.samples == 1 else request.frame.samples,
        payload=request.frame.payload,
        top_k=request.top_k,
    )
    if request.cloud_level is not None:
        message.cloud_level = request.cloud_level
    looks = request.looks
    if looks is not None:
        message.looks.SetInParent()
        message.looks.earlier = looks.earlier
        message.looks.next_level = looks.next_level
        if looks.ask_below is not None:
            message.looks.ask_below = looks.ask_below
    return message


def request_from_message(message: pb.InferRequest) -> Request:
    """Convert a message to a request, without checking its values."""
    return Request(
        message.id,
        message.model,
        message.version,
        Frame(message.level, message.samples or 1, message.encoding, message.payload),
        message.cloud_level if message.HasField("cloud_level") else None,
        message.top_k,
        _looks_from_message(message.looks) if message.HasField("looks") else None,
    )


def _looks_from_message(looks: pb.Looks) -> Looks:
    ask_below = looks.ask_below if looks.HasField("ask_below") else None
    return Looks(looks.earlier, looks.next_level, ask_below)


def parse_request(data: bytes) -> Request:
    """Parse a serialised request; ``InvalidRequestError`` if it is none."""
    try:
        return request_from_message(pb.InferRequest.FromString(data))
    except DecodeError:
        raise InvalidRequestError("message: is no InferRequest") from None


def serialise_response(response: Response) -> bytes:
    """Serialise a response."""
    return response_to_message(response).SerializeToString()


def response_to_message(response: Response) -> pb.InferResponse:
    """Convert a response to a message."""
    # Setting fields one by one takes half the time of passing keywords to the constructor.
    message = pb.InferResponse()
    message.id = response.id
    message.cloud_level = response.cloud_level
    message.queue_us = response.queue_us
    message.compute_us = response.compute_us
    for answer in response.answers:
        result = message.results.add()
        result.label = answer.label
        for label, probability in answer.candidates:
            result.candidates.add(label=label, probability=probability)
    failure, hints = response.failure, response.hints
    if failure is not None:
        message.failure.code = failure.code
        message.failure.message = failure.message
        message.failure.retry_after_ms = failure.retry_after_ms
    if hints is not None:
        message.hints.load = hints.load
        if hints.suggested_level is not None:
            message.hints.suggested_level = hints.suggested_level
    if response.more is not None:
        level, keep_ms, samples = response.more
        message.more.CopyFrom(pb.More(level=level, keep_ms=keep_ms, samples=samples))
    return message


def response_from_message(message: pb.InferResponse) -> Response:
    """Convert a message to a response."""
    failure = None
    if message.HasField("failure"):
        refusal = message.failure
        failure = Failure(refusal.code, refusal.message, refusal.retry_after_ms)
    hints = None
    if message.HasField("hints"):
        level = message.hints.suggested_level
        wanted = level if message.hints.HasField("suggested_level") else None
        hints = Hints(message.hints.load, wanted)
    more = None
    if message.HasField("more"):
        asked = message.more
        more = More(asked.level, asked.keep_ms, tuple(asked.samples))
    return Response(
        id=message.id,
        answers=tuple(
            Answer(r.label, tuple((c.label, c.probability) for c in r.candidates))
            for r in message.results
        ),
        cloud_level=message.cloud_level,
        queue_us=message.queue_us,
        compute_us=message.compute_us,
        failure=failure,
        hints=hints,
        more=more,
    )


def model_to_message(bundle: Bundle, served_versions: Sequence[str] = ()) -> pb.GetModelResponse:
    """Describe the model in ``bundle``; ``served_versions`` are all versions that are served."""
    architecture = bundle.architecture
    shape = architecture.input_shape
    return pb.GetModelResponse(
        model=bundle.metadata.name,
        version=bundle.metadata.version,
        device_levels=architecture.device_levels,
        cloud_levels=architecture.cloud_levels,
        class_names=bundle.metadata.class_names,
        input_height=shape.height,
        input_width=shape.width,
        input_channels=shape.channels,
        accuracy=[pb.AccuracyRow(by_cloud_level=row) for row in bundle.metadata.accuracy],
        metadata_json=json.dumps(describe(bundle), sort_keys=True),
        served_versions=served_versions,
    )


def model_from_message(message: pb.GetModelResponse) -> ModelInfo:
    """Convert a message to the description of a model."""
    return ModelInfo(
        name=message.model,
        version=message.version,
        device_levels=tuple(message.device_levels),
        cloud_levels=tuple(message.cloud_levels),
        class_names=tuple(message.class_names),
        accuracy=tuple(tuple(row.by_cloud_level) for row in message.accuracy),
        served_versions=tuple(message.served_versions),
    )


def model_request(name: str) -> pb.GetModelRequest:
    """Make the request for the description of a model."""
    return pb.GetModelRequest(model=name)


def part_request(name: str, version: str = "", offset: int = 0) -> pb.GetDevicePartRequest:
    """Make the request for the device's part of a model from byte ``offset`` on."""
    return pb.GetDevicePartRequest(model=name, version=version, offset=offset)


def part_from_message(message: pb.GetDevicePartResponse) -> PartChunk:
    """Convert a message to a chunk of a device's part."""
    return PartChunk(message.version, message.total_bytes, message.sha256, message.chunk)
