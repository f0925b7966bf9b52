"""Messages of the Open Inference Protocol as plain values, and the conversions.

A request has one input, either ``image`` (UINT8, (N, H, W, C)) or ``features`` (UINT8, (N, packed
bytes of the level)), and may set the parameters ``level`` and ``cloud_level``. The outputs are
``label`` (INT64, (N,)) and ``probabilities`` (FP32, (N, classes)).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError

from protos.inference import open_inference_pb2 as pb
from shared.errors import InvalidRequestError
from shared.model.bundle import Bundle
from shared.version import installed_version

PLATFORM = "taper_bundle"
MOST_AXES = 8
DATATYPE = "UINT8"
IMAGE = "image"
FEATURES = "features"
LABEL = "label"
PROBABILITIES = "probabilities"
OUTPUTS = (LABEL, PROBABILITIES)
PARAMETERS = ("level", "cloud_level")


@dataclass(frozen=True)
class TensorRequest:
    """One inference: ``name`` is ``image`` or ``features``, ``values`` uint8 of at least 2 axes."""

    id: str
    model: str
    version: str
    name: str
    values: npt.NDArray[np.uint8]
    outputs: tuple[str, ...]
    level: int | None = None
    cloud_level: int | None = None


@dataclass(frozen=True)
class TensorAnswer:
    """The prediction: labels (N,), probabilities (N, classes), the cloud level used."""

    labels: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float32]
    cloud_level: int


def parse_request(data: bytes) -> TensorRequest:
    """The request in a serialised message; ``InvalidRequestError`` names what is wrong."""
    try:
        return request_from_message(pb.ModelInferRequest.FromString(data))
    except DecodeError:
        raise InvalidRequestError("message: is no ModelInferRequest") from None


def request_from_message(message: pb.ModelInferRequest) -> TensorRequest:
    """The request in a message; ``InvalidRequestError`` names the field that is wrong."""
    if len(message.inputs) != 1:
        raise InvalidRequestError(
            f"inputs: {len(message.inputs)} are not allowed; give one, {IMAGE} or {FEATURES}"
        )
    parameters = _parameters(message)
    return TensorRequest(
        id=message.id,
        model=message.model_name,
        version=message.model_version,
        name=_name(message.inputs[0]),
        values=_values(message),
        outputs=_outputs(message),
        level=parameters.get("level"),
        cloud_level=parameters.get("cloud_level"),
    )


def _name(tensor: pb.ModelInferRequest.InferInputTensor) -> str:
    if tensor.name not in (IMAGE, FEATURES):
        raise InvalidRequestError(
            f"inputs: {tensor.name[:100]!r} is unknown; give {IMAGE} or {FEATURES}"
        )
    if tensor.datatype != DATATYPE:
        raise InvalidRequestError(
            f"datatype: {tensor.datatype[:100]!r} of {tensor.name} is not allowed; give {DATATYPE}"
        )
    return str(tensor.name)


def _outputs(message: pb.ModelInferRequest) -> tuple[str, ...]:
    wanted = tuple(output.name for output in message.outputs)
    if len(set(wanted)) != len(wanted):
        raise InvalidRequestError("outputs: name each output once")
    for name in wanted:
        if name not in OUTPUTS:
            raise InvalidRequestError(
                f"outputs: {name[:100]!r} is unknown; known are {', '.join(OUTPUTS)}"
            )
    return wanted or OUTPUTS


def _parameters(message: pb.ModelInferRequest) -> dict[str, int]:
    found = {}
    for name, value in message.parameters.items():
        if name not in PARAMETERS:
            continue  # the specification lets clients send parameters that a server does not know
        kind = value.WhichOneof("parameter_choice")
        number = getattr(value, kind) if kind in ("int64_param", "uint64_param") else -1
        if not 0 <= number < 2**31:
            raise InvalidRequestError(f"parameters: {name} must be the index of a level")
        found[name] = int(number)
    return found


def _values(message: pb.ModelInferRequest) -> npt.NDArray[np.uint8]:
    """The input's values in its shape. Allocates no more than was sent."""
    tensor = message.inputs[0]
    shape = tuple(tensor.shape)
    if not 2 <= len(shape) <= MOST_AXES or min(shape) < 1:
        raise InvalidRequestError(
            f"shape: {list(shape)[:8]} of {tensor.name} is not allowed; give 2 to "
            f"{MOST_AXES} axes, the batch first, every side at least 1"
        )
    if message.raw_input_contents:
        if tensor.HasField("contents"):
            raise InvalidRequestError("contents: not allowed beside raw_input_contents")
        if len(message.raw_input_contents) != 1:
            raise InvalidRequestError("raw_input_contents: must have one value for each input")
        values = np.frombuffer(message.raw_input_contents[0], np.uint8)
    else:
        numbers = np.array(tensor.contents.uint_contents, np.uint32)
        if numbers.size and int(numbers.max()) > 255:
            raise InvalidRequestError("contents: a value is above 255")
        values = numbers.astype(np.uint8)
    if math.prod(shape) != values.size:
        raise InvalidRequestError(
            f"shape: {list(shape)[:8]} of {tensor.name} does not hold the {values.size} bytes that "
            "were sent"
        )
    return values.reshape(shape)


def answer_to_message(
    request: TensorRequest, model: str, model_version: str, answer: TensorAnswer
) -> pb.ModelInferResponse:
    """The message of an answer, with the outputs that were asked for, as raw contents."""
    response = pb.ModelInferResponse(model_name=model, model_version=model_version, id=request.id)
    response.parameters["cloud_level"].int64_param = answer.cloud_level
    for name in request.outputs:
        values, datatype = (
            (answer.labels.astype("<i8"), "INT64")
            if name == LABEL
            else (answer.probabilities.astype("<f4"), "FP32")
        )
        response.outputs.add(name=name, datatype=datatype, shape=values.shape)
        response.raw_output_contents.append(values.tobytes())
    return response


def metadata_to_message(bundle: Bundle, versions: Sequence[str]) -> pb.ModelMetadataResponse:
    """Inputs and outputs of a model."""
    shape = bundle.architecture.input_shape
    tensor = pb.ModelMetadataResponse.TensorMetadata
    image = (-1, shape.height, shape.width, shape.channels)
    return pb.ModelMetadataResponse(
        name=bundle.metadata.name,
        versions=versions,
        platform=PLATFORM,
        inputs=[
            tensor(name=IMAGE, datatype=DATATYPE, shape=image),
            tensor(name=FEATURES, datatype=DATATYPE, shape=(-1, -1)),
        ],
        outputs=[
            tensor(name=LABEL, datatype="INT64", shape=(-1,)),
            tensor(name=PROBABILITIES, datatype="FP32", shape=(-1, bundle.architecture.classes)),
        ],
    )


def server_to_message() -> pb.ServerMetadataResponse:
    """Name and version of this server."""
    return pb.ServerMetadataResponse(name="taper", version=installed_version())
