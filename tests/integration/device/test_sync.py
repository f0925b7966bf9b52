"""The blocking client against a server."""

from __future__ import annotations

import asyncio

import pytest

from device import ClientSettings, SyncSplitClient
from shared.errors import LinkError
from tests.support.clouds import Cloud, free_port, images, serve, tiny_bundle

BUNDLE = tiny_bundle()
PICTURES = images(3)


def answers(address: str) -> list[str]:
    """Where the answers to the pictures come from."""
    settings = ClientSettings(servers=(address,), fraction="1.0", use_exit=False, wait_s=5.0)
    with SyncSplitClient(settings, bundle=BUNDLE) as client:
        assert client.drain(1.0) == 0
        return [client.classify(image).source for image in PICTURES]


async def test_the_blocking_client_answers_as_the_asynchronous_one() -> None:
    async with serve(Cloud(BUNDLE)) as address:
        assert await asyncio.to_thread(answers, address) == ["cloud"] * 3


def test_the_blocking_client_fails_where_no_server_is() -> None:
    settings = ClientSettings(servers=(f"127.0.0.1:{free_port()}",), wait_s=0.1)
    with (
        pytest.raises(LinkError, match="could not be reached"),
        SyncSplitClient(settings, bundle=BUNDLE),
    ):
        pass
