"""Which hosts are this machine itself."""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether ``host``, a name or an address without a port, never leaves this machine.

    These are ``localhost`` and the addresses 127.0.0.0/8 and ::1 (RFC 6761, RFC 1122, RFC 4291),
    also in brackets or mapped into IPv6. Any other spelling counts as another machine.
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
