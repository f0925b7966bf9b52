"""Failures to connect name their cause, against real servers of every wrong kind."""

from __future__ import annotations

import asyncio
import http.server
import logging
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import grpc
import pytest

from device.transport.channel import Security
from device.transport.diagnosis import diagnose
from device.transport.link import Link, LinkSettings
from protos.split.v1 import split_pb2_grpc
from shared.errors import LinkError
from shared.protocol.codec import Encoding, Frame
from tests.support.certificates import Authority, Pair
from tests.support.clouds import Cloud, free_port, serve, tiny_bundle

BUNDLE = tiny_bundle()
FRAME = Frame(2, 1, Encoding.RAW, bytes(16))
WAIT_S = 30.0  # what is final is said long before


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def own(authority: Authority) -> Pair:
    """The server's certificate, for localhost."""
    return authority.issue("localhost")


def credentials(pair: Pair, clients: Path | None) -> grpc.ServerCredentials:
    authorities = None if clients is None else clients.read_bytes()
    chain = [(pair.key.read_bytes(), pair.certificate.read_bytes())]
    return grpc.ssl_server_credentials(chain, authorities, clients is not None)


@asynccontextmanager
async def tls_server(pair: Pair, clients: Path | None = None) -> AsyncIterator[str]:
    """A gRPC server with TLS; ``clients`` is the authority that clients must show."""
    server = grpc.aio.server()
    split_pb2_grpc.add_SplitInferenceServicer_to_server(Cloud(BUNDLE), server)
    port = server.add_secure_port("127.0.0.1:0", credentials(pair, clients))
    await server.start()
    try:
        yield f"localhost:{port}"
    finally:
        await server.stop(None)


class Quiet(http.server.BaseHTTPRequestHandler):
    """A web server's handler that logs nothing."""

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@contextmanager
def http_server(context: ssl.SSLContext | None = None) -> Iterator[str]:
    """A web server of the standard library."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"localhost:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


async def failure(address: str, security: Security | None = None, wait_s: float = WAIT_S) -> str:
    """Why a link to ``address`` does not start."""
    settings = LinkSettings((address,), security or Security(), wait_s=wait_s)
    with pytest.raises(LinkError) as caught:
        async with Link(settings):
            pass
    assert address in str(caught.value)
    return str(caught.value)


async def works(address: str, security: Security) -> bool:
    async with Link(LinkSettings((address,), security)) as link:
        return bool((await link.infer(FRAME)).answers)


async def test_a_plain_server_asked_with_tls(authority: Authority) -> None:
    async with serve(Cloud(BUNDLE)) as address:
        assert "does not speak TLS" in await failure(address, Security(tls=True))


async def test_a_tls_server_asked_without(own: Pair) -> None:
    async with tls_server(own) as address:
        assert "speaks TLS; add --tls" in await failure(address)


async def test_an_expired_certificate(authority: Authority) -> None:
    async with tls_server(authority.issue("localhost", days=-1)) as address:
        security = Security(tls=True, ca=authority.certificate)
        assert "has expired" in await failure(address, security)


async def test_a_certificate_for_another_name_and_the_name_that_makes_it_fit(
    authority: Authority,
) -> None:
    async with tls_server(authority.issue("edge-7")) as address:
        security = Security(tls=True, ca=authority.certificate)
        text = await failure(address, security)
        assert "is for another name than localhost; see --server-name" in text
        assert await works(
            address, Security(tls=True, ca=authority.certificate, server_name="edge-7")
        )


async def test_a_certificate_of_an_unknown_authority(own: Pair, tmp_path: Path) -> None:
    other = Authority(tmp_path, "another")
    async with tls_server(own) as address:
        for security in (Security(tls=True), Security(tls=True, ca=other.certificate)):
            assert "was issued by an unknown authority" in await failure(address, security)


async def test_the_systems_store_is_trusted_without_ca(
    authority: Authority, own: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with tls_server(own) as address:
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
        assert await works(address, Security(tls=True))
        # A folder of single certificates, as some systems have it.
        (tmp_path / "0a1b2c3d.0").write_bytes(authority.certificate.read_bytes())
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none"))
        monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
        assert await works(address, Security(tls=True))


async def test_a_server_that_asks_for_a_client_certificate(
    authority: Authority, own: Pair, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path, "another").issue("stranger")
    known = authority.issue("device-1")
    async with tls_server(own, clients=authority.certificate) as address:
        ca = authority.certificate
        assert "asks for a client certificate; add --cert and --key" in await failure(
            address, Security(tls=True, ca=ca)
        )
        assert "refuses the certificate of --cert" in await failure(
            address, Security(True, ca, stranger.certificate, stranger.key)
        )
        assert await works(address, Security(True, ca, known.certificate, known.key))


async def test_a_web_server(own: Pair, authority: Authority) -> None:
    with http_server() as address:
        assert "is an HTTP server, not a gRPC server" in await failure(address)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own.certificate, own.key)
    with http_server(context) as address:
        security = Security(tls=True, ca=authority.certificate)
        assert "not a gRPC server" in await failure(address, security)


async def test_a_host_that_does_not_exist() -> None:
    text = await failure("no-such-host.invalid:50051", wait_s=3.0)
    assert "there is no host of this name" in text or "cannot be looked up" in text


async def test_a_port_where_nothing_listens(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        text = await failure(f"127.0.0.1:{free_port()}", wait_s=3.0)
    assert "refuses connections: no server listens there" in text
    # It may come up, so the link waits; but the reason is logged at once, and once.
    assert caplog.text.count("refuses connections") == 1


async def test_a_port_whose_server_is_away_for_a_moment(own: Pair, authority: Authority) -> None:
    """As the published port of a container that is exchanged: it accepts, and closes."""

    async def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async with await asyncio.start_server(close, "127.0.0.1", 0) as closing:
        address = "127.0.0.1:{1}".format(*closing.sockets[0].getsockname())
        for security in (Security(), Security(tls=True, ca=authority.certificate)):
            cause = await diagnose(address, security)
            assert cause is not None
            assert "closes connections without an answer" in cause.text
            assert not cause.final  # so devices wait for the server


async def test_a_server_that_accepts_and_says_nothing() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(100)
        text = await failure(f"127.0.0.1:{listener.getsockname()[1]}", wait_s=10.0)
    assert "accepts connections but does not answer" in text


async def test_every_server_is_named_with_its_cause() -> None:
    dead = f"127.0.0.1:{free_port()}"
    with http_server() as web:
        settings = LinkSettings((dead, web), wait_s=2.0)
        with pytest.raises(LinkError) as caught:
            async with Link(settings):
                pass
    assert f"server {dead}: refuses connections" in str(caught.value)
    assert f"server {web}: is an HTTP server" in str(caught.value)


@pytest.mark.parametrize("variable", ["grpc_proxy", "https_proxy", "http_proxy"])
async def test_loopback_goes_around_a_proxy_and_others_name_it(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = f"127.0.0.1:{free_port()}"
    monkeypatch.setenv(variable, f"http://user:secret@{proxy}")
    async with serve(Cloud(BUNDLE)) as address:
        assert await works(address, Security())
    text = await failure("192.0.2.1:50051", wait_s=2.0)
    assert f"through the proxy {proxy} of the variable {variable}" in text
    assert "secret" not in text


async def test_the_causes_are_found_soon(own: Pair) -> None:
    async with tls_server(own) as address:
        async with asyncio.timeout(WAIT_S / 2):
            await failure(address)
