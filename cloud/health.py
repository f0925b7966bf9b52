"""``python -m cloud.health``: ask a server for its health, for containers and scripts.

Calls ``grpc.health.v1``. Exit status 0 if the answer is SERVING, 1 if not, 2 for a wrong flag.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

import shared.quiet_grpc  # noqa: F401  # isort: split
from shared.certificates import check_authorities, check_pair, read_pem
from shared.command import Parser, run_command
from shared.errors import UsageError

DEFAULT_ADDRESS = "127.0.0.1:50051"
LONGEST_S = 600.0


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; ``UsageError`` names the flag that is wrong."""
    parser = Parser(
        description="Ask a cloud server whether it serves.",
        epilog="Exit status: 0 it serves; 1 it does not, or cannot be reached; 2 a flag is wrong.",
    )
    parser.add_argument("address", nargs="?", default=DEFAULT_ADDRESS, metavar="HOST:PORT",
                        help=f"address of the server (default: {DEFAULT_ADDRESS})")  # fmt: skip
    parser.add_argument(
        "--model", default="", help="name of a model (default: the server as a whole)"
    )
    parser.add_argument("--timeout", type=float, default=3.0, metavar="SECONDS", help="default: 3")
    parser.add_argument(
        "--tls", action="store_true", help="connect with TLS; the flags for certificates imply it"
    )
    parser.add_argument("--ca", type=Path, help="certificates to trust (PEM)")
    parser.add_argument("--cert", type=Path, help="a certificate to show (PEM)")
    parser.add_argument("--key", type=Path, help="the key of --cert (PEM)")
    parser.add_argument("--server-name", metavar="NAME",
                        help="expect this name in the certificate, not the address's")  # fmt: skip
    given = parser.parse_args(arguments)
    if not 0.0 < given.timeout <= LONGEST_S:
        raise UsageError(f"--timeout: give more than 0 and up to {LONGEST_S:g} seconds")
    host, _, port = given.address.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65535:
        raise UsageError(f"HOST:PORT: {given.address!r} is not allowed; e.g. {DEFAULT_ADDRESS}")
    if (given.cert is None) != (given.key is None):
        raise UsageError("--cert and --key: must be given together")
    return given


def connect(given: argparse.Namespace) -> grpc.Channel:
    """Make a channel, which connects at the first call; ``UsageError`` for an unusable file."""
    if not (given.tls or given.ca or given.cert or given.server_name):
        return grpc.insecure_channel(given.address)
    ca = None if given.ca is None else read_pem(given.ca, "--ca")
    if ca is not None:
        check_authorities(ca, "--ca")
    key = certificate = None
    if given.cert is not None:
        check_pair(("--cert", given.cert), ("--key", given.key))
        key, certificate = read_pem(given.key, "--key"), read_pem(given.cert, "--cert")
    name = given.server_name
    return grpc.secure_channel(
        given.address,
        grpc.ssl_channel_credentials(ca, key, certificate),
        [("grpc.ssl_target_name_override", name)] if name else [],
    )


def status(channel: grpc.Channel, model: str, timeout_s: float) -> str:
    """Return the health of ``model``, e.g. "SERVING", or the gRPC status of a failed call."""
    ask = health_pb2_grpc.HealthStub(channel).Check
    try:
        reply = ask(health_pb2.HealthCheckRequest(service=model), timeout=timeout_s)
    except grpc.RpcError as error:
        detail = " ".join(str(error.details()).split())[:200]
        return f"{error.code().name} ({detail})"
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; a user's mistake is one line and its exit status."""
    run_command(ask, arguments)


def ask(arguments: Sequence[str] | None) -> NoReturn:
    """Ask a server for its health, print one line and exit."""
    given = parse(arguments)
    with connect(given) as channel:
        answer = status(channel, given.model, given.timeout)
    asked = f"{given.address} {given.model}".strip()
    serving = answer == "SERVING"
    (sys.stdout if serving else sys.stderr).write(f"{asked}: {answer}\n")
    sys.exit(0 if serving else 1)


if __name__ == "__main__":
    main()
