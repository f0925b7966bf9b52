"""The shipped broker settings keep devices apart."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from shared.errors import BrokerError
from shared.fleet.broker import Broker, BrokerClient, parse_broker
from shared.fleet.messages import RETAINED
from tests.support.broker import DEPLOY, Mosquitto, mosquitto
from tests.support.clouds import until

A, B = "city/cam-a", "city/cam-b"


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path_factory.mktemp("broker"), (A, B)) as running:
        yield running


def client(broker: Broker, name: str, heard: list[tuple[str, bytes]]) -> BrokerClient:
    def hear(topic: str, payload: bytes, number: int) -> None:
        heard.append((topic, payload))

    return BrokerClient(broker, name, hear, session_s=0)


@pytest.mark.parametrize(("user", "password"), [(None, None), (A, "wrong"), ("city/x", "any")])
async def test_nobody_connects_without_credentials(
    secured: Mosquitto, user: str | None, password: str | None
) -> None:
    with pytest.raises(BrokerError, match="refuses the credentials"):
        async with client(secured.secure(user, password), "intruder", []):
            pass


# paho leaves the socket of a failed handshake to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_client_that_does_not_know_the_authority_does_not_connect(
    secured: Mosquitto,
) -> None:
    broker = parse_broker(f"mqtts://localhost:{secured.port}", A, secured.passwords[A])
    with pytest.raises(BrokerError, match="certificate"):
        async with client(broker, A, []):
            pass


async def test_a_device_writes_under_its_own_topic_only(secured: Mosquitto) -> None:
    heard: list[tuple[str, bytes]] = []
    async with (
        client(secured.secure("controller"), "controller", heard) as controller,
        client(secured.secure(A), A, []) as device,
    ):
        await controller.listen("taper/v1/+/+/telemetry", "taper/v1/+/+/birth")
        for kind in ("telemetry", "birth", "reported", "death", "result"):
            with pytest.raises(BrokerError, match="Not authorized"):
                await device.post(f"taper/v1/{B}/{kind}", b"forged")
        for kind in ("desired", "command"):  # not even its own
            with pytest.raises(BrokerError, match="Not authorized"):
                await device.post(f"taper/v1/{A}/{kind}", b"forged")
        await device.post(f"taper/v1/{A}/telemetry", b"true")
        await until(lambda: bool(heard))
    assert heard == [(f"taper/v1/{A}/telemetry", b"true")]


async def test_a_device_reads_its_own_desired_state_only(secured: Mosquitto) -> None:
    of_a: list[tuple[str, bytes]] = []
    of_b: list[tuple[str, bytes]] = []
    async with (
        client(secured.secure("controller"), "controller", []) as controller,
        client(secured.secure(A), A, of_a) as device_a,
        client(secured.secure(B), B, of_b) as device_b,
    ):
        # Mosquitto confirms such a subscription and then delivers nothing by it.
        await device_a.listen("taper/v1/+/+/desired", "taper/v1/#")
        await device_b.listen(f"taper/v1/{B}/desired")
        await controller.post(f"taper/v1/{B}/desired", b"for b")
        await controller.post(f"taper/v1/{A}/desired", b"for a")
        await until(lambda: bool(of_a and of_b))
    assert {payload for _, payload in of_a} == {b"for a"}
    assert of_b == [(f"taper/v1/{B}/desired", b"for b")]


async def test_an_operator_clears_the_states_of_a_device_and_a_watcher_cannot(
    secured: Mosquitto,
) -> None:
    async with (
        client(secured.secure("operator"), "operator", []) as operator,
        client(secured.secure("watcher"), "watcher", []) as watcher,
    ):
        for kind in RETAINED:
            topic = f"taper/v1/{A}/{kind.value}"
            with pytest.raises(BrokerError, match="Not authorized"):
                await watcher.post(topic, b"", retain=True)
            await operator.post(topic, b"", retain=True)


async def test_a_device_cannot_take_over_the_session_of_another(secured: Mosquitto) -> None:
    of_b: list[tuple[str, bytes]] = []
    async with (
        client(secured.secure("controller"), "controller", []) as controller,
        client(secured.secure(B), B, of_b) as victim,
    ):
        await victim.listen(f"taper/v1/{B}/command")
        async with client(secured.secure(A), B, []) as thief:  # its own password, B's client id
            await thief.listen(f"taper/v1/{B}/command")
            await controller.post(f"taper/v1/{B}/command", b"still mine")
            await until(lambda: bool(of_b))


def test_provisioning_again_keeps_what_is_there(secured: Mosquitto) -> None:
    before = (secured.folder / "credentials.csv").read_text()
    script = [sys.executable, str(DEPLOY / "provision.py"), str(secured.folder)]
    subprocess.run([*script, "--fleet", "city", "--devices", "3"], check=True, capture_output=True)
    after = (secured.folder / "credentials.csv").read_text()
    assert after.startswith(before)
    assert after.count("\n") == before.count("\n") + 3
    assert (secured.folder / "credentials.csv").stat().st_mode & 0o077 == 0
