"""The playground's port, its certificate, and the addresses that are printed for users."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import uvicorn
from starlette.types import ASGIApp

from cloud.serving.address import joined
from shared.certificates import check_pair
from shared.errors import UsageError

LIVES_DAYS = 30
EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - compared with the user's --host
STOP_S = 2


@dataclass(frozen=True)
class Listening:
    """Host and port, names of this machine, and the certificate if HTTPS is wanted."""

    host: str
    port: int
    names: tuple[str, ...]
    self_signed: bool
    tls_cert: Path | None
    tls_key: Path | None


def run(application: ASGIApp, listening: Listening) -> None:
    """Serve until Ctrl-C; ``UsageError`` if the port or the certificate cannot be used."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(_bound(listening))
        pair = stack.enter_context(_certificate(listening))
        config = uvicorn.Config(
            application,
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            timeout_graceful_shutdown=STOP_S,
            ssl_certfile=pair and pair[0],
            ssl_keyfile=pair and pair[1],
        )
        port = listener.getsockname()[1]
        for host in _hosts(listening):
            scheme = "http" if pair is None else "https"
            sys.stdout.write(f"playground on {scheme}://{joined(host, port)}\n")
        sys.stdout.flush()
        uvicorn.Server(config).run(sockets=[listener])


def _bound(listening: Listening) -> socket.socket:
    host = listening.host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, listening.port), family=family)
    except OSError as error:
        raise UsageError(
            f"--host/--port: cannot listen on {joined(host, listening.port)} ({error.strerror})"
        ) from None


def _hosts(listening: Listening) -> list[str]:
    """Return the host names for the printed addresses and the certificate."""
    if listening.host.strip("[]") not in EVERYWHERE:
        return [*listening.names, listening.host.strip("[]")]
    found = psutil.net_if_addrs().values()
    addresses = [one.address for card in found for one in card if one.family == socket.AF_INET]
    return [*listening.names, *addresses]


@contextlib.contextmanager
def _certificate(listening: Listening) -> Iterator[tuple[Path, Path] | None]:
    """Yield the files of certificate and key, which exist while the block runs; None for HTTP."""
    if listening.tls_cert is not None and listening.tls_key is not None:
        check_pair(("--tls-cert", listening.tls_cert), ("--tls-key", listening.tls_key))
        yield listening.tls_cert, listening.tls_key
    elif listening.self_signed:
        with tempfile.TemporaryDirectory() as folder:
            yield make_certificate(Path(folder), _hosts(listening))
    else:
        yield None


def make_certificate(folder: Path, hosts: list[str]) -> tuple[Path, Path]:
    """Make a self-signed certificate for ``hosts`` and localhost; returns its file and the key's.

    Raises ``UsageError`` if it cannot be made.
    """
    certificate, key = folder / "page.crt", folder / "page.key"
    names = ["DNS:localhost", *(f"{_kind(host)}:{host}" for host in hosts)]
    command = [
        *("openssl", "req", "-x509", "-nodes", "-newkey", "ec"),
        *("-pkeyopt", "ec_paramgen_curve:prime256v1", "-days", str(LIVES_DAYS)),
        *("-subj", "/CN=taper playground", "-addext", f"subjectAltName={','.join(names)}"),
        *("-keyout", str(key), "-out", str(certificate)),
    ]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise UsageError("--self-signed: openssl is not installed") from None
    except subprocess.CalledProcessError as error:
        raise UsageError(f"--self-signed: openssl: {error.stderr.strip()[-200:]}") from None
    return certificate, key


def _kind(host: str) -> str:
    return "IP" if ":" in host or host.replace(".", "").isdecimal() else "DNS"
