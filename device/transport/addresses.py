"""Addresses of servers, HOST:PORT: check and split them, and find the proxy gRPC would use."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from shared.errors import UsageError
from shared.loopback import is_loopback

ADDRESS = re.compile(r"(?P<host>[^:\s/]+|\[[0-9a-fA-F:.]+\]):(?P<port>\d{1,5})")
# The environment variables that gRPC reads, in its order.
PROXY_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")
EXCEPTION_VARIABLES = ("no_grpc_proxy", "no_proxy")


def check_address(address: str, flag: str = "--server") -> str:
    """Return ``address`` if it is HOST:PORT; else raise ``UsageError`` that names ``flag``."""
    match = ADDRESS.fullmatch(address)
    if match is None or not 1 <= int(match["port"]) <= 65535:
        raise UsageError(f"{flag}: {address!r} is not allowed; give HOST:PORT, e.g. cloud:50051")
    return address


def split_address(address: str) -> tuple[str, int]:
    """Return host, without brackets, and port of a checked address."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def is_local(address: str) -> bool:
    """Whether the server at ``address`` is on this machine."""
    return is_loopback(split_address(address)[0])


def proxy_for(address: str, environment: Mapping[str, str] = os.environ) -> tuple[str, str] | None:
    """Return the variable and proxy, without password, that gRPC uses for ``address``; or None.

    Connections to loopback addresses never use a proxy.
    """
    if is_local(address):
        return None
    host = split_address(address)[0]
    exceptions = next((environment[v] for v in EXCEPTION_VARIABLES if environment.get(v)), "")
    for entry in exceptions.split(","):
        if entry.strip() and host.endswith(entry.strip()):
            return None
    for variable in PROXY_VARIABLES:
        if value := environment.get(variable):
            return variable, value.rpartition("@")[2].removeprefix("http://").rstrip("/")
    return None
