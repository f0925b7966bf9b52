"""The Open Inference Protocol over REST: JSON, optionally followed by tensors as raw bytes.

The specification is https://github.com/kserve/open-inference-protocol and, for raw bytes,
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import numpy as np
from google.protobuf.json_format import MessageToDict
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from cloud.access.control import UNKNOWN_CALLER, AccessControl
from cloud.rpc import open_inference_messages as messages
from cloud.rpc.service import Call, InferenceService
from cloud.rpc.tensor_inference import TensorInference
from cloud.rpc.tensors import (
    PARAMETERS,
    Output,
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
from shared.errors import InvalidRequestError, OverloadedError, RequestError

HEADER_LENGTH = "Inference-Header-Content-Length"
STATUS = {
    "INVALID_ARGUMENT": HTTPStatus.BAD_REQUEST,
    "NOT_FOUND": HTTPStatus.NOT_FOUND,
    "FAILED_PRECONDITION": HTTPStatus.NOT_FOUND,  # another version is served
    "RESOURCE_EXHAUSTED": HTTPStatus.TOO_MANY_REQUESTS,
    "DEADLINE_EXCEEDED": HTTPStatus.GATEWAY_TIMEOUT,
    "UNAVAILABLE": HTTPStatus.SERVICE_UNAVAILABLE,
    "UNAUTHENTICATED": HTTPStatus.UNAUTHORIZED,
}
Handler = Callable[[Request], Awaitable[Response]]


class HttpContext:
    """An HTTP request with the interface that ``AccessControl`` reads."""

    def __init__(self, request: Request) -> None:
        self._request = request

    def peer(self) -> str:
        """The caller's address as gRPC writes it."""
        client = self._request.client
        if client is None:
            return ""
        kind = "ipv6" if ":" in client.host else "ipv4"
        host = f"[{client.host}]" if kind == "ipv6" else client.host
        return f"{kind}:{host}:{client.port}"

    def invocation_metadata(self) -> list[tuple[str, str]]:
        """The request's headers."""
        return self._request.headers.items()


class RestApi:
    """Handlers of ``/v2/...``; request bodies may have ``max_body_bytes``."""

    def __init__(
        self,
        service: InferenceService,
        inference: TensorInference,
        access: AccessControl,
        max_body_bytes: int,
    ) -> None:
        self._service = service
        self._inference = inference
        self._access = access
        self._max_body_bytes = max_body_bytes

    def application(self) -> Starlette:
        """The ASGI application."""
        model = "/v2/models/{name}"
        version = model + "/versions/{version}"
        routes = [
            Route("/v2", self._guarded(self._server)),
            Route("/v2/health/live", self._probe(lambda: True)),
            Route("/v2/health/ready", self._probe(lambda: self._inference.ready)),
            Route("/v2/models/stats", self._guarded(self._statistics)),
            Route("/v2/repository/index", self._guarded(self._index), methods=["POST"]),
            Route(
                "/v2/repository/models/{name}/load",
                self._administered(self._inference.load),
                methods=["POST"],
            ),
            Route(
                "/v2/repository/models/{name}/unload",
                self._administered(self._inference.unload),
                methods=["POST"],
            ),
        ]
        for path in (model, version):
            routes += [
                Route(path, self._guarded(self._metadata)),
                Route(path + "/ready", self._guarded(self._ready)),
                Route(path + "/config", self._guarded(self._config)),
                Route(path + "/stats", self._guarded(self._statistics)),
                Route(path + "/infer", self._infer, methods=["POST"]),
            ]
        return Starlette(routes=routes)

    async def _server(self, _: Request) -> Response:
        return JSONResponse(_plain(messages.server_to_message()))

    async def _metadata(self, request: Request) -> Response:
        model = self._inference.find(*_named(request))
        message = messages.metadata_to_message(model, self._inference.versions(model))
        found = _plain(message)
        for tensor in (*found["inputs"], *found["outputs"]):
            tensor["shape"] = [int(side) for side in tensor["shape"]]
        return JSONResponse(found)

    async def _config(self, request: Request) -> Response:
        message = messages.config_to_message(self._inference.find(*_named(request)))
        return JSONResponse(_plain(message)["config"])

    async def _statistics(self, request: Request) -> Response:
        models = self._inference.models(*_named(request))
        return JSONResponse(_plain(messages.statistics_to_message(models)))

    async def _ready(self, request: Request) -> Response:
        return _state_response(self._inference.is_ready(*_named(request)))

    async def _index(self, request: Request) -> Response:
        body = await self._body(request)
        asked = _object(body) if body else {}
        entries = self._inference.index(bool(asked.get("ready", False)))
        return JSONResponse([vars(entry) for entry in entries])

    async def _infer(self, request: Request) -> Response:
        caller, size = UNKNOWN_CALLER, 0
        try:
            body = await self._body(request)
            size = len(body)
            with self._access.call(HttpContext(request), size) as caller:
                asked, binary = _parse(body, request)
                answer = await self._inference.infer(asked, Call(caller))
            response = _respond(answer, binary)
        except RequestError as error:
            self._service.count_refusal(error, caller, size)
            return _refused(error)
        self._service.count_answer(size, len(response.body))
        return response

    def _guarded(self, handler: Handler) -> Handler:
        async def guarded(request: Request) -> Response:
            try:
                with self._access.call(HttpContext(request)):
                    return await handler(request)
            except RequestError as error:
                return _refused(error)

        return guarded

    def _probe(self, well: Callable[[], bool]) -> Handler:
        async def probe(request: Request) -> Response:
            try:
                with self._access.probe(HttpContext(request)):
                    return _state_response(well())
            except RequestError as error:
                return _refused(error)

        return probe

    def _administered(self, change: Callable[[str], Awaitable[None]]) -> Handler:
        async def guarded(request: Request) -> Response:
            try:
                with self._access.admin(HttpContext(request)):
                    await change(request.path_params["name"])
            except RequestError as error:
                return _refused(error)
            return Response()

        return guarded

    async def _body(self, request: Request) -> bytes:
        """Read the body; ``InvalidRequestError`` if it is larger than a message may be."""
        parts = []
        size = 0
        async for part in request.stream():
            size += len(part)
            if size > self._max_body_bytes:
                raise InvalidRequestError(
                    f"body: more than {self._max_body_bytes} bytes are not allowed"
                )
            parts.append(part)
        return b"".join(parts)


def _named(request: Request) -> tuple[str, str]:
    return request.path_params.get("name", ""), request.path_params.get("version", "")


def _state_response(well: bool) -> Response:
    return Response(status_code=HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE)


def _refused(error: RequestError) -> Response:
    headers = {}
    if isinstance(error, OverloadedError) and error.retry_after_ms:
        headers["Retry-After"] = str(-(-error.retry_after_ms // 1000))
    status = STATUS.get(error.grpc_status, HTTPStatus.INTERNAL_SERVER_ERROR)
    return JSONResponse({"error": str(error)}, status, headers)


def _plain(message: Any) -> Any:
    return MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def _object(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise InvalidRequestError("body: is no JSON") from None
    if not isinstance(value, dict):
        raise InvalidRequestError("body: must be a JSON object")
    return value


def _parse(body: bytes, request: Request) -> tuple[TensorRequest, frozenset[str]]:
    """Parse the request; also returns the names of outputs that are wanted as raw bytes."""
    length = request.headers.get(HEADER_LENGTH, str(len(body)))
    if not length.isdecimal() or int(length) > len(body):
        raise InvalidRequestError(f"{HEADER_LENGTH}: {length[:20]!r} is not allowed")
    head, rest = _object(body[: int(length)]), body[int(length) :]
    name, version = _named(request)
    inputs = _list(head, "inputs")
    if len(inputs) != 1:
        raise InvalidRequestError(f"inputs: {len(inputs)} are not allowed; give one")
    parameters = _parameters(head)
    levels = {
        key: messages.level_index(key, parameters[key]) for key in PARAMETERS if key in parameters
    }
    wanted, binary = _outputs(head, bool(parameters.get("binary_data_output", False)))
    asked = TensorRequest(
        id=str(head.get("id", "")),
        model=name,
        version=version,
        tensor=_tensor(inputs[0], rest),
        outputs=wanted,
        level=levels.get("level"),
        cloud_level=levels.get("cloud_level"),
    )
    return asked, binary


def _list(value: dict[str, Any], name: str) -> list[dict[str, Any]]:
    found = value.get(name, [])
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise InvalidRequestError(f"{name}: must be a list of objects")
    return found


def _parameters(value: dict[str, Any]) -> dict[str, Any]:
    found = value.get("parameters", {})
    if not isinstance(found, dict):
        raise InvalidRequestError("parameters: must be an object")
    return found


def _outputs(head: dict[str, Any], all_binary: bool) -> tuple[tuple[Wanted, ...], frozenset[str]]:
    wanted, binary = [], set()
    for one in _list(head, "outputs"):
        parameters = _parameters(one)
        count = messages.level_index("classification", parameters.get("classification", 0))
        wanted.append(Wanted(str(one.get("name", "")), count))
        if parameters.get("binary_data", all_binary):
            binary.add(wanted[-1].name)
    checked = check_outputs(wanted)
    if not wanted and all_binary:
        binary = {one.name for one in checked}
    return checked, frozenset(binary)


def _tensor(value: dict[str, Any], rest: bytes) -> Tensor:
    name, datatype = str(value.get("name", "")), str(value.get("datatype", ""))
    sides = value.get("shape")
    if not isinstance(sides, list) or not all(type(side) is int for side in sides):
        raise InvalidRequestError("shape: must be a list of whole numbers")
    shape = check_input(name, datatype, sides)
    size = _parameters(value).get("binary_data_size")
    if size is not None:
        if size != len(rest) or "data" in value:
            raise InvalidRequestError(
                f"binary_data_size: {str(size)[:20]} is not the {len(rest)} bytes that follow"
            )
        return from_raw(name, datatype, shape, rest)
    data = value.get("data")
    if not isinstance(data, list):
        raise InvalidRequestError(f"data: of {name} must be a list")
    if datatype == "BYTES":
        if not all(isinstance(one, str) for one in data):
            raise InvalidRequestError(f"data: of {name} must be strings")
        return from_strings(name, shape, [one.encode("latin-1", "replace") for one in data])
    try:
        numbers = np.array(data, np.float64).reshape(-1)
    except (ValueError, TypeError, OverflowError):
        raise InvalidRequestError(f"data: of {name} must be numbers") from None
    return from_numbers(name, datatype, shape, numbers)


def _respond(answer: TensorAnswer, binary: frozenset[str]) -> Response:
    outputs, raw = [], []
    for output in answer.outputs:
        described: dict[str, Any] = {
            "name": output.name,
            "datatype": output.datatype,
            "shape": list(output.shape),
        }
        if output.name in binary:
            raw.append(to_raw(output.values))
            described["parameters"] = {"binary_data_size": len(raw[-1])}
        else:
            described["data"] = _data(output)
        outputs.append(described)
    head = json.dumps(
        {
            "model_name": answer.model,
            "model_version": answer.version,
            "id": answer.id,
            "parameters": {"cloud_level": answer.cloud_level},
            "outputs": outputs,
        }
    ).encode()
    if not raw:
        return Response(head, media_type="application/json")
    headers = {HEADER_LENGTH: str(len(head))}
    return Response(b"".join([head, *raw]), headers=headers, media_type="application/octet-stream")


def _data(output: Output) -> list[Any]:
    """Return the values of an output as a flat list, row by row, as JSON holds them."""
    if isinstance(output.values, list):
        return [value.decode() for value in output.values]
    flat: list[Any] = output.values.reshape(-1).tolist()
    return flat
