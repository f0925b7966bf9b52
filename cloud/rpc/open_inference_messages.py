"""Convert protobuf messages of the Open Inference Protocol to plain values and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from cloud.models.served import ServedModel
from cloud.rpc.tensor_inference import IndexEntry
from cloud.rpc.tensors import (
    FEATURES,
    IMAGE,
    LABEL,
    PARAMETERS,
    PROBABILITIES,
    Tensor,
    TensorAnswer,
    TensorRequest,
    Wanted,
    check_input,
    check_outputs,
    from_numbers,
    from_raw,
    from_strings,
    to_raw,
)
from protos.inference import open_inference_pb2 as pb
from shared.errors import InvalidRequestError
from shared.protocol.codec import LARGEST_BATCH
from shared.version import installed_version

FIRST_TAG = 0x0A  # protobuf's tag of field 1, length-delimited: the model's name
LONGEST_NAME = 0x80  # shorter names have a length of one byte
SERVER = "taper"
PLATFORM = "taper_bundle"
EXTENSIONS = (
    "model_repository",
    "model_repository(unload_dependents)",
    "model_configuration",
    "classification",
    "statistics",
    "binary_tensor_data",
)


def parse_request(data: bytes) -> TensorRequest:
    """Parse a serialised ModelInferRequest; ``InvalidRequestError`` names what is wrong."""
    try:
        message = pb.ModelInferRequest.FromString(data)
    except DecodeError:
        raise InvalidRequestError("message: is no ModelInferRequest") from None
    if len(message.inputs) != 1:
        raise InvalidRequestError(
            f"inputs: {len(message.inputs)} are not allowed; give one, {IMAGE} or {FEATURES}"
        )
    parameters = {
        name: level_index(name, _value(value))
        for name, value in message.parameters.items()
        if name in PARAMETERS  # the specification allows clients to send others
    }
    return TensorRequest(
        id=message.id,
        model=message.model_name,
        version=message.model_version,
        tensor=_tensor(message),
        outputs=_outputs(message),
        level=parameters.get("level"),
        cloud_level=parameters.get("cloud_level"),
    )


def model_named(data: bytes) -> str:
    """Read the model's name at the start of a serialised request; empty if it is not there."""
    if len(data) < 2 or data[0] != FIRST_TAG or data[1] >= LONGEST_NAME:
        return ""
    return data[2 : 2 + data[1]].decode("ascii", "replace")


def level_index(name: str, value: Any) -> int:
    """Return the parameter ``name`` as the index of a level; ``InvalidRequestError``."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**31:
        raise InvalidRequestError(f"parameters: {name} must be the index of a level")
    return value


def _value(parameter: pb.InferParameter) -> Any:
    kind = parameter.WhichOneof("parameter_choice")
    return None if kind is None else getattr(parameter, kind)


def _outputs(message: pb.ModelInferRequest) -> tuple[Wanted, ...]:
    wanted = []
    for output in message.outputs:
        count = 0
        if "classification" in output.parameters:
            count = level_index("classification", _value(output.parameters["classification"]))
        wanted.append(Wanted(output.name, count))
    return check_outputs(wanted)


def _tensor(message: pb.ModelInferRequest) -> Tensor:
    """Convert the input tensor. Allocates no more memory than the message takes."""
    tensor = message.inputs[0]
    shape = check_input(tensor.name, tensor.datatype, tensor.shape)
    if message.raw_input_contents:
        if tensor.HasField("contents"):
            raise InvalidRequestError("contents: not allowed beside raw_input_contents")
        if len(message.raw_input_contents) != 1:
            raise InvalidRequestError("raw_input_contents: must have one value for each input")
        return from_raw(tensor.name, tensor.datatype, shape, message.raw_input_contents[0])
    if tensor.datatype == "BYTES":
        return from_strings(tensor.name, shape, list(tensor.contents.bytes_contents))
    if tensor.datatype == "FP32":
        numbers = np.array(tensor.contents.fp32_contents, np.float32)
        return from_numbers(tensor.name, "FP32", shape, numbers)
    whole = np.array(tensor.contents.uint_contents, np.uint32)
    return from_numbers(tensor.name, "UINT8", shape, whole)


def answer_to_message(answer: TensorAnswer) -> pb.ModelInferResponse:
    """Convert an answer to a message with raw tensor contents."""
    response = pb.ModelInferResponse(
        model_name=answer.model, model_version=answer.version, id=answer.id
    )
    response.parameters["cloud_level"].int64_param = answer.cloud_level
    for output in answer.outputs:
        response.outputs.add(name=output.name, datatype=output.datatype, shape=output.shape)
        response.raw_output_contents.append(to_raw(output.values))
    return response


def metadata_to_message(model: ServedModel, versions: Sequence[str]) -> pb.ModelMetadataResponse:
    """Describe inputs and outputs of a model and its ``versions``."""
    shape = model.bundle.architecture.input_shape
    tensor = pb.ModelMetadataResponse.TensorMetadata
    image = (-1, shape.height, shape.width, shape.channels)
    classes = model.bundle.architecture.classes
    return pb.ModelMetadataResponse(
        name=model.name,
        versions=versions,
        platform=PLATFORM,
        inputs=[
            tensor(name=IMAGE, datatype="UINT8", shape=image),
            tensor(name=FEATURES, datatype="UINT8", shape=(-1, -1)),
        ],
        outputs=[
            tensor(name=LABEL, datatype="INT64", shape=(-1,)),
            tensor(name=PROBABILITIES, datatype="FP32", shape=(-1, classes)),
        ],
    )


def config_to_message(model: ServedModel) -> pb.ModelConfigResponse:
    """Describe a model as Triton's clients expect it."""
    shape = model.bundle.architecture.input_shape
    image = (shape.height, shape.width, shape.channels)
    classes = model.bundle.architecture.classes
    return pb.ModelConfigResponse(
        config=pb.ModelConfig(
            name=model.name,
            platform=PLATFORM,
            backend=SERVER,
            max_batch_size=LARGEST_BATCH,
            input=[
                pb.ModelInput(name=IMAGE, data_type=pb.TYPE_UINT8, dims=image),
                pb.ModelInput(name=FEATURES, data_type=pb.TYPE_UINT8, dims=(-1,)),
            ],
            output=[
                pb.ModelOutput(name=LABEL, data_type=pb.TYPE_INT64, dims=(1,)),
                pb.ModelOutput(name=PROBABILITIES, data_type=pb.TYPE_FP32, dims=(classes,)),
            ],
        )
    )


def statistics_to_message(models: Sequence[ServedModel]) -> pb.ModelStatisticsResponse:
    """Convert counts and times of answered and refused requests."""
    response = pb.ModelStatisticsResponse()
    for model in models:
        counts = model.statistics
        queue_ns, compute_ns = int(counts.queue_s * 1e9), int(counts.compute_s * 1e9)
        duration = pb.StatisticDuration
        response.model_stats.add(
            name=model.name,
            version=model.version,
            last_inference=int(counts.last_unix_s * 1000),
            inference_count=counts.samples,
            execution_count=counts.batches,
            inference_stats=pb.InferStatistics(
                success=duration(count=counts.requests, ns=queue_ns + compute_ns),
                fail=duration(count=counts.failures, ns=int(counts.failure_s * 1e9)),
                queue=duration(count=counts.requests, ns=queue_ns),
                compute_infer=duration(count=counts.requests, ns=compute_ns),
            ),
        )
    return response


def index_to_message(entries: Sequence[IndexEntry]) -> pb.RepositoryIndexResponse:
    """Convert the repository's index."""
    response = pb.RepositoryIndexResponse()
    for one in entries:
        response.models.add(name=one.name, version=one.version, state=one.state, reason=one.reason)
    return response


def server_to_message() -> pb.ServerMetadataResponse:
    """Describe this server: name, version, extensions."""
    return pb.ServerMetadataResponse(
        name=SERVER, version=installed_version(), extensions=EXTENSIONS
    )
