"""The link against servers that fail in every way: it reconnects, fails over, and says why."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import grpc
import pytest

from device.transport.backoff import Backoff
from device.transport.channel import Security
from device.transport.link import Link, LinkSettings
from protos.split.v1 import split_pb2 as pb
from protos.split.v1 import split_pb2_grpc
from shared.errors import (
    InvalidRequestError,
    LinkError,
    OverloadedError,
    RequestError,
    UnauthenticatedError,
    UnknownModelError,
    VersionMismatchError,
)
from shared.model.identity import ModelIdentity
from shared.protocol.codec import Encoding, Frame
from shared.protocol.messages import Failure, Hints, Request, Response
from tests.support.clouds import Cloud, free_port, serve, serve_raw, tiny_bundle, until
from tests.support.debian import need

BUNDLE = tiny_bundle()
FRAME = Frame(2, 1, Encoding.RAW, bytes(16))
CODE = grpc.StatusCode


def link(
    *servers: str,
    identity: ModelIdentity | None = None,
    wait_s: float = 5.0,
    timeout_s: float = 5.0,
    **options: Any,
) -> Link:
    settings = LinkSettings(servers, wait_s=wait_s, timeout_s=timeout_s, **options)
    return Link(settings, identity, Backoff(0.01, 0.1))


async def test_answers_many_requests_at_once() -> None:
    cloud = Cloud(BUNDLE)
    async with serve(cloud) as address, link(address) as running:
        responses = await asyncio.gather(*(running.infer(FRAME) for _ in range(200)))
        assert len({response.id for response in responses}) == 200
        assert cloud.streams == 1
        assert running.round_trip_s is not None
        assert not running.away


async def test_reconnects_when_the_server_comes_back_and_loses_nothing() -> None:
    port = free_port()
    cloud = Cloud(BUNDLE)
    async with serve(cloud, port) as address:
        running = link(address)
        await running.__aenter__()
        await running.infer(FRAME)
    await until(lambda: running.away)
    waiting = asyncio.create_task(running.infer(FRAME))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    async with serve(cloud, port):
        assert (await waiting).answers
        assert running.connections == 2
        await running.__aexit__(None, None, None)


async def test_gives_up_at_once_when_away_if_it_may() -> None:
    async with serve(Cloud(BUNDLE)) as address:
        running = link(address)
        await running.__aenter__()
    await until(lambda: running.away)
    with pytest.raises(LinkError, match=address):
        await running.infer(FRAME, stop_when_away=True)
    await running.__aexit__(None, None, None)


async def test_fails_over_to_the_next_server() -> None:
    first, second = Cloud(BUNDLE), Cloud(BUNDLE)
    dead = f"127.0.0.1:{free_port()}"
    async with serve(second) as other:
        async with serve(first) as address:
            running = link(dead, address, other)
            await running.__aenter__()
            await running.infer(FRAME)
            assert running.server == address
        assert (await running.infer(FRAME)).answers
        assert running.server == other
        assert second.seen
        await running.__aexit__(None, None, None)


async def test_unreachable_from_the_start() -> None:
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(LinkError, match=rf"--server: {address} could not be reached within 0.2 s"):
        async with link(address, wait_s=0.2):
            pass
    async with link(address, wait_s=5.0, patient=True) as running:
        assert running.away


@pytest.mark.parametrize("garbage", [b"\xff\xff\xff", b"hello", bytes(1000)])
async def test_server_that_answers_garbage(garbage: bytes) -> None:
    async with serve_raw(lambda _: garbage) as address, link(address, timeout_s=2.0) as running:
        with pytest.raises(LinkError, match=f"server {address}: answers what is no response"):
            await running.infer(FRAME)


async def test_answers_to_questions_nobody_asked_are_ignored() -> None:
    stray = pb.InferResponse(id=999_999).SerializeToString()
    async with serve_raw(lambda _: stray) as address, link(address, timeout_s=0.3) as running:
        with pytest.raises(LinkError, match=r"no answer within 0.3 s"):
            await running.infer(FRAME)


async def test_server_of_another_kind() -> None:
    async with serve(None) as address, link(address) as running:
        with pytest.raises(LinkError, match=r"does not speak taper\.split\.v1"):
            await running.infer(FRAME)


async def test_refused_token_is_reported_at_once() -> None:
    class Strict(Cloud):
        async def InferStream(self, request_iterator: Any, context: Any) -> Any:  # noqa: N802
            await context.abort(CODE.UNAUTHENTICATED, "no such token")
            yield pb.InferResponse()

    security = Security(token="wrong")
    async with serve(Strict(BUNDLE)) as address, link(address, security=security) as running:
        with pytest.raises(UnauthenticatedError, match=r"refuses the token \(no such token\)"):
            await running.infer(FRAME)


async def test_token_goes_with_the_stream() -> None:
    cloud = Cloud(BUNDLE)
    async with serve(cloud) as address, link(address, security=Security(token="t")) as running:
        await running.infer(FRAME)
    assert cloud.metadata[0]["authorization"] == "Bearer t"


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (CODE.INVALID_ARGUMENT, InvalidRequestError),
        (CODE.NOT_FOUND, UnknownModelError),
        (CODE.FAILED_PRECONDITION, VersionMismatchError),
        (CODE.INTERNAL, RequestError),
    ],
)
async def test_refusals_are_not_tried_again(
    code: grpc.StatusCode, error: type[RequestError]
) -> None:
    async def refuse(request: Request) -> Response:
        return Response(request.id, failure=Failure(code.value[0], "no"))

    cloud = Cloud(BUNDLE, refuse)
    async with serve(cloud) as address, link(address) as running:
        with pytest.raises(error, match="no"):
            await running.infer(FRAME)
        assert len(cloud.seen) == 1


def busy(times: int, retry_after_ms: int = 0) -> Callable[[Request], Any]:
    left = [times]

    async def respond(request: Request) -> Response | None:
        left[0] -= 1
        if left[0] < 0:
            return None
        code = CODE.RESOURCE_EXHAUSTED.value[0]
        return Response(request.id, failure=Failure(code, "too busy", retry_after_ms))

    return respond


async def test_overloaded_server_is_asked_again_no_sooner_than_it_says() -> None:
    cloud = Cloud(BUNDLE, busy(2, retry_after_ms=100))
    async with serve(cloud) as address, link(address) as running:
        started = asyncio.get_running_loop().time()
        assert (await running.infer(FRAME)).answers
        assert asyncio.get_running_loop().time() - started >= 0.2
    assert len({request.id for request in cloud.seen}) == 1
    assert len({request.frame.payload for request in cloud.seen}) == 1


async def test_round_trip_does_not_count_the_pauses_between_retries() -> None:
    cloud = Cloud(BUNDLE, busy(2, retry_after_ms=400))
    async with serve(cloud) as address, link(address) as running:
        started = asyncio.get_running_loop().time()
        assert (await running.infer(FRAME)).answers
        assert running.round_trip_s is not None
        # Two pauses lie between sending and the answer; the exchange alone is the rest.
        assert running.round_trip_s <= asyncio.get_running_loop().time() - started - 0.8


async def test_overload_that_lasts_is_reported() -> None:
    cloud = Cloud(BUNDLE, busy(10**6))
    async with serve(cloud) as address, link(address, timeout_s=1.0) as running:
        with pytest.raises(OverloadedError, match="too busy"):
            await running.infer(FRAME)


async def test_overload_is_reported_though_the_last_retry_stays_unanswered() -> None:
    refuse = busy(1)

    async def respond(request: Request) -> Response | None:
        refusal = await refuse(request)
        if refusal is None:
            await asyncio.Event().wait()
        return cast(Response, refusal)

    async with (
        serve(Cloud(BUNDLE, respond)) as address,
        link(address, timeout_s=1.0) as running,
    ):
        with pytest.raises(OverloadedError, match="too busy"):
            await running.infer(FRAME)


async def test_pushback_of_a_whole_call_is_honoured() -> None:
    class Pushing(Cloud):
        async def InferStream(self, request_iterator: Any, context: Any) -> Any:  # noqa: N802
            self.streams += 1
            if self.streams == 1:
                context.set_trailing_metadata((("grpc-retry-pushback-ms", "400"),))
                await context.abort(CODE.RESOURCE_EXHAUSTED, "later")
            async for response in super().InferStream(request_iterator, context):
                yield response

    async with serve(Pushing(BUNDLE)) as address, link(address) as running:
        started = asyncio.get_running_loop().time()
        assert (await running.infer(FRAME)).answers
        assert asyncio.get_running_loop().time() - started >= 0.35


async def test_hints_are_kept() -> None:
    async def hint(request: Request) -> Response:
        answer = Cloud(BUNDLE).answer(request)
        return Response(answer.id, answer.answers, hints=Hints(0.9, 1))

    async with serve(Cloud(BUNDLE, hint)) as address, link(address) as running:
        await running.infer(FRAME)
        assert running.hints == Hints(pytest.approx(0.9), 1)  # type: ignore[arg-type]


async def test_silent_stream_is_given_up() -> None:
    speaking = asyncio.Event()

    async def respond(request: Request) -> Response | None:
        await speaking.wait()
        return None

    cloud = Cloud(BUNDLE, respond)
    async with serve(cloud) as address, link(address, timeout_s=1.0) as running:
        with pytest.raises(LinkError, match=r"no answer within 1 s"):
            await running.infer(FRAME)
        speaking.set()
        assert (await running.infer(FRAME)).answers
        assert cloud.streams == 2


async def test_names_travel_once_for_each_model() -> None:
    cloud = Cloud(BUNDLE)
    version = BUNDLE.metadata.version[:16]
    async with (
        serve(cloud) as address,
        link(address, identity=ModelIdentity("tiny", version)) as running,
    ):
        for identity in (None, None, ModelIdentity("tiny", version[:8]), None):
            await running.infer(FRAME, identity=identity)
    assert [request.version for request in cloud.seen] == [version, version, version[:8], version]


async def test_cancelled_requests_do_not_disturb_others() -> None:
    async def slow(request: Request) -> Response | None:
        await asyncio.sleep(0.05)
        return None

    async with serve(Cloud(BUNDLE, slow)) as address, link(address) as running:
        doomed = asyncio.create_task(running.infer(FRAME))
        lucky = asyncio.create_task(running.infer(FRAME))
        await asyncio.sleep(0.02)
        doomed.cancel()
        assert (await lucky).answers
        assert running.connections == 1


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A key and a certificate of its own for localhost."""
    need("tls", "openssl")
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-keyout", str(key), "-out", str(cert), "-days", "2"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(command, check=True, capture_output=True)
    return key, cert


async def test_tls_with_a_token(certificate: tuple[Path, Path]) -> None:
    key, cert = certificate
    cloud = Cloud(BUNDLE)
    credentials = grpc.ssl_server_credentials([(key.read_bytes(), cert.read_bytes())])
    server = grpc.aio.server()
    split_pb2_grpc.add_SplitInferenceServicer_to_server(cloud, server)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    address = f"localhost:{port}"
    async with link(address, security=Security(tls=True, ca=cert, token="t")) as running:
        assert (await running.infer(FRAME)).answers
    assert cloud.metadata[0]["authorization"] == "Bearer t"
    with pytest.raises(LinkError, match="issued by an unknown authority"):
        async with link(address, security=Security(tls=True)):
            pass
    with pytest.raises(LinkError, match="speaks TLS"):
        async with link(address):
            pass
    await server.stop(None)
