"""Recognise the hosts that are this machine."""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether ``host``, a name or an address without port, is this machine.

    That is true for ``localhost`` and the addresses 127.0.0.0/8 and ::1 (RFC 6761, RFC 1122,
    RFC 4291), also in brackets or mapped to IPv6. Anything else counts as another machine.
    """
    name = host.removeprefix("[").removesuffix("]")
    if name.lower().removesuffix(".") == "localhost":
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool(mapped.is_loopback if mapped is not None else address.is_loopback)
