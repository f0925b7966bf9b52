"""Backoff, pushback, addresses, security settings."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device.split.settings import ClientSettings
from device.transport.addresses import check_address
from device.transport.backoff import LARGEST_PUSHBACK_S, Backoff, pushback_s
from device.transport.channel import Security, check_addresses, open_channel
from shared.errors import UsageError


def test_backoff_doubles_up_to_its_cap_and_starts_over() -> None:
    backoff = Backoff(0.1, 1.0, draw=lambda: 1.0)
    assert [backoff.next_s() for _ in range(6)] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0])
    backoff.reset()
    assert backoff.next_s() == pytest.approx(0.1)


@given(st.floats(0, 1), st.integers(1, 3000))
def test_backoff_stays_within_its_cap(draw: float, failures: int) -> None:
    backoff = Backoff(0.1, 5.0, draw=lambda: draw)
    assert all(0 <= backoff.next_s() <= 5.0 for _ in range(failures))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        *((None, None), ("250", 0.25), (b"1000", 1.0), ("0", 0.0)),
        *((text, LARGEST_PUSHBACK_S) for text in ("999999999", "-1", "soon")),
    ],
)
def test_a_pushback_is_read_and_bounded(value: str | bytes | None, seconds: float | None) -> None:
    assert pushback_s(value) == seconds


@pytest.mark.parametrize("address", ["cloud:50051", "127.0.0.1:1", "[::1]:65535"])
def test_good_addresses_pass(address: str) -> None:
    assert check_address(address) == address


@pytest.mark.parametrize(
    "address", ["", "cloud", "cloud:", ":1", "cloud:0", "cloud:65536", "a b:1"]
)
def test_bad_addresses_name_the_flag(address: str) -> None:
    with pytest.raises(UsageError, match="--server"):
        check_address(address)


def test_an_empty_list_of_servers_is_refused() -> None:
    with pytest.raises(UsageError, match="--server"):
        check_addresses((), Security())


def test_token_never_travels_in_the_clear() -> None:
    with pytest.raises(UsageError, match=r"--token.*add --tls"):
        check_addresses(("localhost:1", "cloud:1"), Security(token="secret"))
    assert check_addresses("cloud:1", Security(tls=True, token="secret")) == ("cloud:1",)
    assert Security(token="secret").metadata == (("authorization", "Bearer secret"),)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"ca": Path("ca.pem")}, "--tls"),
        ({"tls": True, "key": Path("key.pem")}, "--cert and --key"),
        ({"token": "two words"}, "--token"),
        ({"token": ""}, "--token"),
    ],
)
def test_flags_of_security_that_do_not_fit_are_refused(
    options: dict[str, object], text: str
) -> None:
    with pytest.raises(UsageError, match=text):
        Security(**options)  # type: ignore[arg-type]


async def test_certificates_that_cannot_be_read_name_their_flag(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--ca"):
        open_channel("cloud:1", Security(tls=True, ca=tmp_path / "none.pem"))
    (tmp_path / "bad.pem").write_text("hello")
    with pytest.raises(UsageError, match="is no PEM file"):
        open_channel("cloud:1", Security(tls=True, ca=tmp_path / "bad.pem"))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"exit_threshold": 1.5}, "--exit-threshold"),
        ({"exit_threshold": 0.9, "use_exit": False}, "--no-exit"),
        ({"max_wait_s": -1}, "--max-wait-ms"),
        ({"timeout_s": 0}, "--timeout"),
    ],
)
def test_settings_out_of_range_name_their_flag(options: dict[str, object], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        ClientSettings(**options)  # type: ignore[arg-type]
