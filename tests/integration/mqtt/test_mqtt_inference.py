"""A real server answers requests that devices publish to a real broker."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from cloud.serving.process import serving
from cloud.settings import load
from protos.split.v1 import split_pb2 as pb
from shared.bundles import bundle_path
from shared.data.sample import sample_digits
from shared.errors import BrokerError, LinkError, UsageError
from shared.fleet.broker import BrokerClient
from shared.model.bundle import read_bundle
from shared.model.identity import VERSION_DIGITS
from shared.packed import CloudHalf, DeviceHalf
from shared.protocol.codec import FeatureCodec
from shared.protocol.messages import Request, Response, request_to_message, response_from_message
from tests.support.broker import Mosquitto, mosquitto
from tests.support.mqtt import mqtt_device
from tests.support.processes import run
from tests.support.served import Served, serve

MODEL = "mnist-binary"
A, B = "city/board-a", "city/board-b"
LEVEL = 2
INVALID_ARGUMENT, NOT_FOUND = 3, 5


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path_factory.mktemp("broker"), (A, B)) as running:
        yield running


@pytest.fixture(scope="module")
def server(broker: Mosquitto) -> Iterator[Served]:
    url, ca = f"mqtts://localhost:{broker.port}", str(broker.folder / "ca.crt")
    word = broker.passwords["inference"]
    flags = ("--model", MODEL, "--cloud-fraction", "1", "--mqtt", url, "--mqtt-ca", ca)
    with serve(*flags, TAPER_BROKER_PASSWORD=word) as served:
        yield served


def requests(count: int, first_id: int = 1, model: str = MODEL) -> list[bytes]:
    """One request for each of the first digits of the sample."""
    bundle = read_bundle(bundle_path(MODEL))
    features = DeviceHalf(bundle).run(sample_digits()[0][:count, :, :, None], LEVEL)
    codec, version = FeatureCodec(bundle), bundle.metadata.version[:VERSION_DIGITS]
    frames = [codec.encode(row[None], LEVEL) for row in features]
    made = [Request(first_id + i, model, version, frame) for i, frame in enumerate(frames)]
    return [request_to_message(one).SerializeToString() for one in made]


def expected(count: int) -> list[int]:
    """Their labels by the cloud half at full width."""
    bundle = read_bundle(bundle_path(MODEL))
    features = DeviceHalf(bundle).run(sample_digits()[0][:count, :, :, None], LEVEL)
    top = len(bundle.architecture.cloud_levels) - 1
    labels: list[int] = CloudHalf(bundle).run(features, LEVEL, top).argmax(axis=1).tolist()
    return labels


def parse(data: bytes) -> Response:
    return response_from_message(pb.InferResponse.FromString(data))


async def test_requests_are_answered_and_counted(broker: Mosquitto, server: Served) -> None:
    before = server.sample("taper_requests_total", status="OK")
    async with mqtt_device(broker.secure(A), A) as device:
        answers = [parse(await device.ask(one)) for one in requests(20)]
    assert [answer.id for answer in answers] == list(range(1, 21))
    assert [answer.answers[0].label for answer in answers] == expected(20)
    assert server.sample("taper_requests_total", status="OK") == before + 20


async def test_many_devices_are_answered_at_the_same_time(
    broker: Mosquitto, server: Served
) -> None:
    async def ask_all(name: str, first_id: int) -> list[int]:
        async with mqtt_device(broker.secure(name), name) as device:
            sent = requests(50, first_id)
            answers = await asyncio.gather(*(device.ask(one) for one in sent))
        return sorted(parse(answer).id - first_id for answer in answers)

    found = await asyncio.gather(ask_all(A, 1000), ask_all(B, 2000))
    assert list(found) == [list(range(50))] * 2


async def test_a_request_that_comes_twice_gets_two_equal_answers(
    broker: Mosquitto, server: Served
) -> None:
    (request,) = requests(1, 77)
    async with mqtt_device(broker.secure(A), A) as device:
        one, two = await asyncio.gather(device.ask(request), device.ask(request))
        assert one == two == await device.ask(request)
        assert parse(one).answers[0].label == expected(1)[0]


async def test_what_cannot_be_answered_gets_a_refusal(broker: Mosquitto, server: Served) -> None:
    async with mqtt_device(broker.secure(A), A) as device:
        garbage = parse(await device.ask(b"\xff no request"))
        unknown = parse(await device.ask(requests(1, 5, "no-such-model")[0]))
        empty = parse(await device.ask(b""))
    assert garbage.failure is not None
    assert garbage.failure.code == INVALID_ARGUMENT
    assert unknown.failure is not None
    assert (unknown.id, unknown.failure.code) == (5, NOT_FOUND)
    assert empty.failure is not None
    assert server.sample("taper_requests_total", status="NOT_FOUND") == 1


async def asked_with_properties(
    broker: Mosquitto, request: bytes, topic: str | None, qos: int
) -> tuple[str, bytes, bytes | None]:
    """Topic, payload and correlation data of the response to a request with a response topic."""
    where = broker.secure(A)
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.CorrelationData = b"number 9"
    if topic is not None:
        properties.ResponseTopic = topic
    async with aiomqtt.Client(
        where.host, where.port, identifier=A, username=where.username, password=where.password,
        protocol=aiomqtt.ProtocolVersion.V5, tls_context=where.tls, clean_start=True,
    ) as client, asyncio.timeout(20):  # fmt: skip
        await client.subscribe(f"taper/v1/{A}/inferred/#", qos=1)
        await client.publish(f"taper/v1/{A}/infer", request, qos=qos, properties=properties)
        message = await anext(client.messages)
        data = getattr(message.properties, "CorrelationData", None)
        return str(message.topic), bytes(message.payload), data


@pytest.mark.parametrize("qos", [0, 1])
async def test_the_response_topic_and_correlation_data_are_kept(
    broker: Mosquitto, server: Served, qos: int
) -> None:
    topic = f"taper/v1/{A}/inferred/camera"
    found = await asked_with_properties(broker, requests(1, 9)[0], topic, qos)
    assert (found[0], found[2]) == (topic, b"number 9")
    assert parse(found[1]).answers[0].label == expected(1)[0]


async def test_nobody_has_an_answer_sent_to_another_device(
    broker: Mosquitto, server: Served
) -> None:
    async with mqtt_device(broker.secure(B), B) as other:
        for topic in (
            f"taper/v1/{B}/inferred",
            f"taper/v1/{A}/desired",
            f"taper/v1/{A}/inferred/#",
        ):
            found = await asked_with_properties(broker, requests(1, 9)[0], topic, 1)
            failure = parse(found[1]).failure
            assert found[0] == f"taper/v1/{A}/inferred"
            assert failure is not None
            assert "response topic: must be" in failure.message
        assert other.heard.empty()


async def test_the_server_writes_answers_only_and_devices_read_their_own(
    broker: Mosquitto,
) -> None:
    heard: list[str] = []
    async with (
        BrokerClient(broker.secure("inference"), "inference", lambda *_: None, session_s=0) as user,
        BrokerClient(broker.secure(B), B, lambda topic, *_: heard.append(topic), session_s=0) as b,
    ):
        for kind in ("infer", "birth", "telemetry", "desired", "command", "reported"):
            with pytest.raises(BrokerError, match="Not authorized"):
                await user.post(f"taper/v1/{A}/{kind}", b"forged")
        with pytest.raises(BrokerError, match="Not authorized"):
            await b.post(f"taper/v1/{A}/infer", b"forged")
        with pytest.raises(BrokerError, match="Not authorized"):
            await b.post(f"taper/v1/{B}/inferred", b"forged")
        await b.listen(f"taper/v1/{A}/inferred", f"taper/v1/{B}/inferred")
        await user.post(f"taper/v1/{A}/inferred", b"for a")
        await user.post(f"taper/v1/{B}/inferred", b"for b")
        await asyncio.sleep(0.3)
    assert heard == [f"taper/v1/{B}/inferred"]


async def test_the_server_returns_to_a_broker_that_was_away(tmp_path: Path) -> None:
    with (
        mosquitto(tmp_path / "broker") as local,
        serve("--model", MODEL, "--mqtt", local.url) as served,
    ):
        async with mqtt_device(local.broker, A) as device:
            assert parse(await device.ask(requests(1)[0])).answers
        local.kill()
        local.start()
        answered = await _ask_until_answered(local, requests(1, 3)[0])
        assert answered.id == 3
        assert served.process.poll() is None


async def _ask_until_answered(broker: Mosquitto, request: bytes) -> Response:
    async with mqtt_device(broker.broker, A) as device, asyncio.timeout(30):
        while True:
            asking = asyncio.ensure_future(device.ask(request))
            done, _ = await asyncio.wait([asking], timeout=1)
            if done:
                return parse(asking.result())
            asking.cancel()


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"mqtt": "mqtt://me:word@localhost"}, "--mqtt: no password may stand here"),
        ({"mqtt": "http://localhost"}, "--mqtt: 'http://localhost' is not allowed"),
        ({"mqtt": "mqtt://localhost", "workers": 2}, "--mqtt: needs --workers 1"),
        ({"mqtt_ca": "ca.crt"}, "--mqtt-ca: needs --mqtt"),
        ({"mqtt": "mqtt://localhost", "mqtt_ca": "ca.crt"}, "--mqtt-ca: need --mqtt mqtts://"),
    ],
)
async def test_a_broker_that_cannot_be_used_is_named(flags: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=re.escape(says)):
        async with serving(load({"model": (MODEL,), "port": 0, **flags})):
            pass


def test_a_broker_that_is_not_there_is_one_line() -> None:
    words = ("--port", "0", "--model", MODEL, "--mqtt", "mqtt://127.0.0.1:1")
    done = run([sys.executable, "-m", "cloud.server", *words])
    assert done.status == LinkError.exit_status
    assert done.err.startswith("error: --mqtt: 127.0.0.1:1: ")
    assert done.err.count("\n") == 1
