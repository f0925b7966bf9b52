"""Models that a device fetches from its server: kept, updated, resumed, refused."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from device import ClientSettings, SplitClient
from device.split.model_store import ModelStore
from device.split.pipeline import Pipeline
from device.split.settings import ModelSettings
from device.transport.channel import Security
from shared.errors import (
    BundleError,
    LinkError,
    UnknownModelError,
)
from shared.model.bundle import DEVICE_GROUPS, Bundle, serialise, write_bundle
from tests.support.clouds import Cloud, free_port, images, labels, serve, tiny_bundle, until

BUNDLE = tiny_bundle()
PICTURES = images(60)


def over_the_air(address: str, folder: Path, poll_s: float = 60.0) -> ClientSettings:
    """A client of the whole network that fetches the model "tiny"; everything goes to the cloud."""
    return ClientSettings(
        servers=(address,),
        fraction="1.0",
        use_exit=False,
        wait_s=5.0,
        timeout_s=5.0,
        model=ModelSettings("tiny", True, folder, poll_s),
    )


async def test_model_comes_from_the_server_and_is_kept(tmp_path: Path) -> None:
    port, cloud = free_port(), Cloud(BUNDLE)
    async with (
        serve(cloud, port) as address,
        SplitClient(over_the_air(address, tmp_path)) as client,
    ):
        assert (await client.classify(PICTURES[0])).source == "cloud"
        assert client.bundle.metadata.version == BUNDLE.metadata.version
    chosen = replace(over_the_air(f"127.0.0.1:{port}", tmp_path), start_offline=True)
    async with SplitClient(chosen) as client:  # no server: the kept copy does
        assert (await client.classify(PICTURES[0])).source == "device"


async def test_model_is_updated_between_two_samples(tmp_path: Path) -> None:
    cloud, newer = Cloud(BUNDLE), tiny_bundle(seed=1)
    async with serve(cloud) as address, SplitClient(over_the_air(address, tmp_path)) as client:
        await client.classify(PICTURES[0])
        cloud.bundle = newer
        cloud.seen.clear()
        first = await client.classify(PICTURES[1])  # refused: the server has moved on
        assert first.source == "device"
        await until(lambda: client.bundle.metadata.version == newer.metadata.version)
        result = await client.classify(PICTURES[1])
        assert (result.source, [result.label]) == ("cloud", labels(newer, cloud.seen[1:]))


async def test_update_that_fails_its_self_check_is_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cloud, bad = Cloud(BUNDLE), tiny_bundle(seed=2)

    def check(bundle: Bundle) -> None:
        if bundle.metadata.version == bad.metadata.version:
            raise BundleError("model tiny: level 1 gives other bits than it should")
        Pipeline(bundle).check()

    async with serve(cloud) as address:
        store = ModelStore(tmp_path, "tiny", [address], Security(), check)
        first = await store.first()
        cloud.bundle = bad
        with caplog.at_level(logging.WARNING):
            assert await store.newer(first.metadata.version) is None
            assert await store.newer(first.metadata.version) is None  # not even fetched again
        assert caplog.text.count("is not used") == 1
        kept = store.local()
        assert kept is not None
        assert kept.metadata.version == BUNDLE.metadata.version
        cloud.bundle = tiny_bundle(seed=3)
        newest = await store.newer(first.metadata.version)
        assert newest is not None
        assert newest.metadata.version == cloud.bundle.metadata.version


async def test_broken_transfer_is_resumed(tmp_path: Path) -> None:
    offsets: list[int] = []

    class Recording(Cloud):
        async def GetDevicePart(self, request: Any, context: Any) -> Any:  # noqa: N802
            offsets.append(request.offset)
            async for part in super().GetDevicePart(request, context):
                yield part

    data = serialise(BUNDLE, DEVICE_GROUPS)
    (tmp_path / f"tiny.{BUNDLE.metadata.version[:16]}.part").write_bytes(data[:1000])
    async with serve(Recording(BUNDLE)) as address:
        store = ModelStore(tmp_path, "tiny", [address], Security(), lambda _: None)
        assert (await store.first()).metadata.version == BUNDLE.metadata.version
    assert offsets == [1000]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda part: setattr(part, "chunk", part.chunk[:-1] + b"x"),
        lambda part: setattr(part, "chunk", part.chunk[:500]),
        lambda part: setattr(part, "sha256", "0" * 64),
        lambda part: setattr(part, "total_bytes", 2**40),
        lambda part: setattr(part, "chunk", part.chunk * 2),
    ],
)
async def test_damaged_model_is_not_used(tmp_path: Path, spoil: Callable[[Any], None]) -> None:
    class Spoiling(Cloud):
        async def GetDevicePart(self, request: Any, context: Any) -> Any:  # noqa: N802
            async for part in super().GetDevicePart(request, context):
                spoil(part)
                yield part

    async with serve(Spoiling(BUNDLE)) as address:
        store = ModelStore(tmp_path, "tiny", [address], Security(), lambda _: None)
        with pytest.raises((LinkError, BundleError)):
            await store.first()
    assert store.local() is None


async def test_damaged_kept_copy_gives_way_to_the_one_before(tmp_path: Path) -> None:
    write_bundle(BUNDLE, tmp_path / "tiny.previous.safetensors")
    (tmp_path / "tiny.safetensors").write_bytes(b"half a file")
    kept = ModelStore(tmp_path, "tiny", ["localhost:1"], Security(), lambda _: None).local()
    assert kept is not None
    assert kept.metadata.version == BUNDLE.metadata.version


async def test_model_that_the_server_does_not_have(tmp_path: Path) -> None:
    class Empty(Cloud):
        async def GetModel(self, request: Any, context: Any) -> Any:  # noqa: N802
            await context.abort(grpc.StatusCode.NOT_FOUND, "this server has mnist")

    async with serve(Empty(BUNDLE)) as address:
        with pytest.raises(UnknownModelError, match="this server has mnist"):
            async with SplitClient(over_the_air(address, tmp_path)):
                pass
