"""Requests and answers of the Open Inference Protocol as plain values.

A request has one input: ``image`` as UINT8 or FP32 (N, H, W, C), or as BYTES (N,) of picture files;
or ``features`` as UINT8 (N, packed bytes of the level). The outputs are ``label`` (INT64, (N,)) and
``probabilities`` (FP32, (N, classes)), or, if the request asks for the best ``class_count``, BYTES
(N, class_count) of ``probability:label:name``. gRPC and REST both convert to these values.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cloud.models.served import ServedModel
from shared.errors import ImageError, InvalidRequestError
from shared.images.values import to_bytes, white_of
from shared.model.bits import unused_bits_are_zero
from shared.protocol.codec import LARGEST_BATCH

IMAGE, FEATURES = "image", "features"
LABEL, PROBABILITIES = "label", "probabilities"
OUTPUTS = (LABEL, PROBABILITIES)
PARAMETERS = ("level", "cloud_level")
DATATYPES = {IMAGE: ("UINT8", "FP32", "BYTES"), FEATURES: ("UINT8",)}
NUMBERS: dict[str, np.dtype[Any]] = {"UINT8": np.dtype("u1"), "FP32": np.dtype("<f4")}
MOST_AXES = 8

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Tensor:
    """An input: ``values`` is an array of ``shape`` or, for BYTES, a list of byte strings."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: npt.NDArray[np.generic] | list[bytes]


@dataclass(frozen=True)
class Wanted:
    """A requested output; ``class_count`` > 0 requests the names of the best classes."""

    name: str
    class_count: int = 0


@dataclass(frozen=True)
class TensorRequest:
    """One inference request; ``level`` and ``cloud_level`` are indices of the model's levels."""

    id: str
    model: str
    version: str
    tensor: Tensor
    outputs: tuple[Wanted, ...]
    level: int | None = None
    cloud_level: int | None = None


@dataclass(frozen=True)
class Output:
    """An output: an array or, for BYTES, a list of byte strings."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: npt.NDArray[np.generic] | list[bytes]


@dataclass(frozen=True)
class TensorAnswer:
    """The answer to a request."""

    id: str
    model: str
    version: str
    cloud_level: int
    outputs: tuple[Output, ...]


def check_input(name: str, datatype: str, shape: Sequence[int]) -> tuple[int, ...]:
    """Return the shape if name, datatype and shape are allowed; else ``InvalidRequestError``."""
    if name not in DATATYPES:
        raise InvalidRequestError(f"inputs: {name[:100]!r} is unknown; give {IMAGE} or {FEATURES}")
    if datatype not in DATATYPES[name]:
        allowed = " or ".join(DATATYPES[name])
        raise InvalidRequestError(
            f"datatype: {datatype[:100]!r} of {name} is not allowed; give {allowed}"
        )
    least = 1 if datatype == "BYTES" else 2
    if not least <= len(shape) <= MOST_AXES or min(shape) < 1:
        raise InvalidRequestError(
            f"shape: {list(shape)[:8]} of {name} is not allowed; give {least} to {MOST_AXES} axes, "
            "the batch first, every side at least 1"
        )
    return tuple(shape)


def check_outputs(wanted: Sequence[Wanted]) -> tuple[Wanted, ...]:
    """Return the requested outputs, all if none is named; ``InvalidRequestError``."""
    names = [one.name for one in wanted]
    if len(set(names)) != len(names):
        raise InvalidRequestError("outputs: name each output once")
    for one in wanted:
        if one.name not in OUTPUTS:
            raise InvalidRequestError(
                f"outputs: {one.name[:100]!r} is unknown; known are {', '.join(OUTPUTS)}"
            )
        if one.class_count < 0 or (one.class_count and one.name != PROBABILITIES):
            raise InvalidRequestError(
                f"classification: {one.class_count} of {one.name} is not allowed; give the number "
                f"of best classes of {PROBABILITIES}"
            )
    return tuple(wanted) or tuple(Wanted(name) for name in OUTPUTS)


def from_raw(name: str, datatype: str, shape: tuple[int, ...], data: bytes) -> Tensor:
    """Make a tensor from raw bytes: little-endian numbers, or strings with their lengths."""
    if datatype == "BYTES":
        return _checked(name, datatype, shape, _strings(data, math.prod(shape)))
    kind = NUMBERS[datatype]
    if math.prod(shape) * kind.itemsize != len(data):
        raise InvalidRequestError(
            f"shape: {list(shape)[:8]} of {name} does not hold the {len(data)} bytes that were sent"
        )
    return Tensor(name, datatype, shape, np.frombuffer(data, kind).reshape(shape))


def from_numbers(
    name: str, datatype: str, shape: tuple[int, ...], numbers: npt.NDArray[np.generic]
) -> Tensor:
    """Make a tensor from a flat array of its numbers; ``InvalidRequestError``."""
    if math.prod(shape) != numbers.size:
        raise InvalidRequestError(
            f"shape: {list(shape)[:8]} of {name} does not hold the {numbers.size} values that were "
            "sent"
        )
    if (
        datatype == "UINT8"
        and numbers.size
        and not 0 <= int(numbers.min()) <= int(numbers.max()) <= 255
    ):
        raise InvalidRequestError(f"contents: a value of {name} is not 0 to 255")
    return Tensor(name, datatype, shape, numbers.astype(NUMBERS[datatype]).reshape(shape))


def from_strings(name: str, shape: tuple[int, ...], strings: list[bytes]) -> Tensor:
    """Make a tensor of byte strings; ``InvalidRequestError``."""
    return _checked(name, "BYTES", shape, strings)


def samples_of(model: ServedModel, request: TensorRequest, level: int) -> tuple[Bytes, bool]:
    """Return the request's samples as bytes, and whether they are images or packed features.

    Images are (N, H, W, C), features (N, packed bytes of ``level``). Decodes picture files, which
    may take long. Raises ``InvalidRequestError``.
    """
    tensor = request.tensor
    shape = model.bundle.architecture.input_shape
    sent = model.bundle.architecture.sent_shape(level)
    expected = (shape.height, shape.width, shape.channels)
    if isinstance(tensor.values, list):
        return _pictures(model, tensor.values), True
    if tensor.name == FEATURES:
        expected = (sent.packed_bytes,)  # type: ignore[assignment]
    if tensor.shape[1:] != expected:
        raise InvalidRequestError(
            f"shape: {list(tensor.shape)[:8]} of {tensor.name} is not allowed; {model.name} takes "
            f"{[-1, *expected]}"
        )
    if tensor.name == IMAGE:
        return _to_pixels(tensor.values), True
    values = tensor.values.astype(np.uint8, copy=False)
    if not unused_bits_are_zero(values, sent.size):
        raise InvalidRequestError("features: the unused bits after a sample must be 0")
    return values, False


def outputs_of(
    model: ServedModel,
    wanted: Sequence[Wanted],
    labels: npt.NDArray[np.int64],
    probabilities: npt.NDArray[np.float32],
) -> tuple[Output, ...]:
    """Return the requested outputs for ``labels`` (N,) and ``probabilities`` (N, classes)."""
    found: list[Output] = []
    for one in wanted:
        if one.name == LABEL:
            found.append(Output(LABEL, "INT64", labels.shape, labels.astype("<i8")))
        elif one.class_count:
            count = min(one.class_count, probabilities.shape[1])
            words = _classes(model.bundle.metadata.class_names, probabilities, count)
            found.append(Output(one.name, "BYTES", (len(labels), count), words))
        else:
            values = probabilities.astype("<f4")
            found.append(Output(one.name, "FP32", values.shape, values))
    return tuple(found)


def to_raw(values: npt.NDArray[np.generic] | list[bytes]) -> bytes:
    """Return the raw bytes of an output: little-endian numbers, or strings with their lengths."""
    if isinstance(values, list):
        return b"".join(struct.pack("<I", len(value)) + value for value in values)
    return values.tobytes()


def _checked(name: str, datatype: str, shape: tuple[int, ...], strings: list[bytes]) -> Tensor:
    if math.prod(shape) != len(strings):
        raise InvalidRequestError(
            f"shape: {list(shape)[:8]} of {name} does not hold the {len(strings)} files that were "
            "sent"
        )
    if len(strings) > LARGEST_BATCH:
        raise InvalidRequestError(f"shape: give at most {LARGEST_BATCH} files in a request")
    return Tensor(name, datatype, shape, strings)


def _strings(data: bytes, most: int) -> list[bytes]:
    """Split byte strings that are preceded by their lengths; stops after ``most`` + 1."""
    found: list[bytes] = []
    at = 0
    while at < len(data) and len(found) <= most:
        if at + 4 > len(data):
            raise InvalidRequestError("contents: a string's length is cut off")
        size = int.from_bytes(data[at : at + 4], "little")
        if size > len(data) - at - 4:
            raise InvalidRequestError("contents: a string is cut off")
        found.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    return found


def _to_pixels(values: npt.NDArray[np.generic]) -> Bytes:
    if values.dtype == np.uint8:
        return values.astype(np.uint8, copy=False)
    try:
        return to_bytes(values, white_of(values, "image"))
    except ImageError as error:
        raise InvalidRequestError(f"contents: {error}") from None


def _pictures(model: ServedModel, files: list[bytes]) -> Bytes:
    # Imported here, since Pillow costs time and memory that servers of arrays do not need.
    from shared.images.pictures import prepare_file

    shape, steps = model.bundle.architecture.input_shape, model.bundle.metadata.steps
    images = []
    for number, data in enumerate(files):
        try:
            images.append(prepare_file(data, f"image {number}", shape, steps).image)
        except ImageError as error:
            raise InvalidRequestError(f"contents: {error}") from None
    return np.stack(images)


def _classes(
    names: Sequence[str], probabilities: npt.NDArray[np.float32], count: int
) -> list[bytes]:
    """Return the ``count`` best classes of each row as ``probability:label:name``, row by row."""
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :count]
    return [
        f"{row[label]:f}:{label}:{names[label]}".encode()
        for row, best in zip(probabilities, order, strict=True)
        for label in best
    ]
