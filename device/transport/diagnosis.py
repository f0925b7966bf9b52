"""Diagnose with plain sockets why gRPC failed to connect to a server.

gRPC reports that a connection failed, but hardly why. This module repeats the steps of a connection
(name resolution, TCP, TLS, the first bytes of HTTP/2) and names the step that fails. It is only
used after a failure.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
from dataclasses import dataclass

from device.transport.addresses import proxy_for, split_address
from device.transport.channel import Security, trusted_authorities

LIMIT_S = 1.5
# HTTP/2's connection preface and an empty SETTINGS frame.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
SETTINGS_FRAME = 4
# Verification results of OpenSSL.
EXPIRED, NOT_YET_VALID = 10, 9
UNKNOWN_AUTHORITY = (18, 19, 20, 21)
WRONG_NAME = (62, 64)


@dataclass(frozen=True)
class Cause:
    """Why a connection failed; ``final`` if another attempt soon would fail too."""

    text: str
    final: bool = False


NO_TLS = Cause("does not speak TLS; leave out --tls, or use its TLS port", final=True)
NEEDS_TLS = Cause("speaks TLS; add --tls", final=True)
NO_HTTP2 = Cause("is an HTTP server without HTTP/2, not a gRPC server", final=True)
NO_GRPC = Cause("is not a gRPC server", final=True)
# Typical of a container's published port, or a proxy, whose server is away.
CLOSES = Cause("closes connections without an answer: the server behind it may be away")
SILENT = Cause("accepts connections but does not answer as a gRPC server")
NEEDS_CERTIFICATE = Cause("asks for a client certificate; add --cert and --key", final=True)
REFUSES_CERTIFICATE = Cause("refuses the certificate of --cert", final=True)


class _ClosedEarlyError(ConnectionError):
    """The other side closed the connection before the TLS handshake was complete."""


async def diagnose(address: str, security: Security) -> Cause | None:
    """Return why ``address`` cannot be used; None if no step fails. Takes at most ``LIMIT_S``."""
    host, port = split_address(address)
    proxy = proxy_for(address)
    if proxy is not None:
        variable, where = proxy
        return Cause(
            f"cannot be reached through the proxy {where} of the variable {variable}; to go around "
            f"it set no_proxy={host}"
        )
    try:
        async with asyncio.timeout(LIMIT_S):
            ip = await _reachable(host, port)
            if isinstance(ip, Cause):
                return ip
            if not security.tls:
                return await _plain_cause(ip, port)
            return await _tls_cause(ip, port, security.server_name or host, security)
    except TimeoutError:
        return SILENT


async def _reachable(host: str, port: int) -> str | Cause:
    """Return the first IP address of ``host`` that accepts connections, or the cause."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        if error.errno == socket.EAI_AGAIN:
            return Cause("the name cannot be looked up: no name server answers")
        return Cause("there is no host of this name", final=True)
    cause = Cause("cannot be reached")
    for _, _, _, _, place in found:
        try:
            async with asyncio.timeout(LIMIT_S / 2):
                _, writer = await asyncio.open_connection(str(place[0]), port)
        except ConnectionRefusedError:
            cause = Cause("refuses connections: no server listens there")
        except TimeoutError:
            cause = Cause("the host does not answer")
        except OSError as error:
            cause = Cause(f"cannot be reached ({error.strerror or error})")
        else:
            await _close(writer)
            return str(place[0])
    return cause


async def _tls_cause(ip: str, port: int, name: str, security: Security) -> Cause | None:
    """Return what fails from the TLS handshake on; None if nothing."""
    context = ssl.create_default_context()
    authorities = trusted_authorities(security)
    if authorities is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=authorities.decode("ascii", "ignore"))
    if security.certificate and security.key:
        context.load_cert_chain(security.certificate, security.key)
    context.set_alpn_protocols(["h2"])
    try:
        answer, protocol = await _greet(ip, port, context, name)
    except ssl.SSLCertVerificationError as error:
        return _certificate_cause(error, name)
    except ssl.SSLError as error:
        return _refusal(error, security) or await _response_without_tls(ip, port)
    except _ClosedEarlyError:
        return await _response_without_tls(ip, port) or CLOSES
    except OSError:
        return await _response_without_tls(ip, port) or _client_certificate(security)
    if protocol != "h2":
        return NO_HTTP2
    return None if _is_http2(answer) else _client_certificate(security)


async def _response_without_tls(ip: str, port: int) -> Cause | None:
    """Return how a server with which TLS fails responds without TLS."""
    try:
        answer, _ = await _greet(ip, port, None, None)
    except OSError:
        return None
    if _is_http2(answer):
        return NO_TLS
    return Cause("is an HTTP server without TLS, not a gRPC server", True) if answer else CLOSES


async def _plain_cause(ip: str, port: int) -> Cause | None:
    """Return what fails in the first bytes of HTTP/2 without TLS; None if nothing."""
    try:
        answer, _ = await _greet(ip, port, None, None)
    except OSError:
        answer = b""
    if _is_http2(answer):
        return None
    if answer.startswith((b"HTTP/", b"<")):  # a status line, or a page of HTTP/0.9
        return Cause("is an HTTP server, not a gRPC server", final=True)
    if await _speaks_tls(ip, port):
        return NEEDS_TLS
    return NO_GRPC if answer else CLOSES


async def _speaks_tls(ip: str, port: int) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    try:
        await _greet(ip, port, context, None)
    except ssl.SSLError as error:
        return "ALERT" in (error.reason or "")  # a refusal in TLS shows that it speaks TLS
    except OSError:
        return False
    return True


async def _greet(
    ip: str, port: int, context: ssl.SSLContext | None, name: str | None
) -> tuple[bytes, str | None]:
    """Return the server's first bytes after HTTP/2's preface, and the protocol by ALPN."""
    server_name = (name or "localhost") if context is not None else None
    try:
        reader, writer = await asyncio.open_connection(
            ip, port, ssl=context, server_hostname=server_name
        )
    except ConnectionError as error:
        raise _ClosedEarlyError from error
    try:
        handshake = writer.get_extra_info("ssl_object")
        writer.write(PREFACE)
        answer = await reader.read(9)
        return answer, None if handshake is None else handshake.selected_alpn_protocol()
    finally:
        await _close(writer)


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    with contextlib.suppress(OSError):  # the other side may have closed it already
        await writer.wait_closed()


def _is_http2(answer: bytes) -> bool:
    return len(answer) >= 4 and answer[3] == SETTINGS_FRAME and not answer.startswith(b"HTTP")


def _certificate_cause(error: ssl.SSLCertVerificationError, name: str) -> Cause:
    code = error.verify_code
    if code == EXPIRED:
        text = "its certificate has expired (or the clock of this machine is wrong)"
    elif code == NOT_YET_VALID:
        text = "its certificate is not valid yet (or the clock of this machine is wrong)"
    elif code in WRONG_NAME:
        text = f"its certificate is for another name than {name}; see --server-name"
    elif code in UNKNOWN_AUTHORITY:
        text = "its certificate was issued by an unknown authority; give it with --ca"
    else:
        text = f"its certificate is not accepted ({error.verify_message})"
    return Cause(text, final=True)


def _refusal(error: ssl.SSLError, security: Security) -> Cause | None:
    """Return the cause if the alert says that the server refuses our certificate."""
    if re.search(r"CERTIFICATE|HANDSHAKE_FAILURE|UNKNOWN_CA", error.reason or ""):
        return _client_certificate(security)
    return None


def _client_certificate(security: Security) -> Cause:
    return NEEDS_CERTIFICATE if security.certificate is None else REFUSES_CERTIFICATE
