"""What counts as this machine: proxies are bypassed and pages opened by this rule."""

from __future__ import annotations

import pytest

from shared.loopback import is_loopback


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "LocalHost", "localhost.", "127.0.0.1", "127.1.2.3", "127.255.255.255"),
        *("::1", "[::1]", "0:0:0:0:0:0:0:1", "::ffff:127.0.0.1", "[::ffff:127.9.9.9]"),
    ],
)
def test_names_and_addresses_of_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        *("", "[]", "example.org", "localhost.example.org", "notlocalhost", "127.example.org"),
        *("127.0.0.1.example.org", "127.0.0.256", "127.1", "2130706433", "0x7f000001", "0.0.0.0"),
        *("::", "::2", "128.0.0.1", "::ffff:10.0.0.1", "127.0.0.1:80", "localhost:80", "10.0.0.1"),
    ],
)
def test_anything_else_is_another_machine(host: str) -> None:
    assert not is_loopback(host)
