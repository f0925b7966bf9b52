"""Second looks at a real server: who is asked, what is refused, what is counted."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import grpc
import numpy as np
import numpy.typing as npt
import pytest

from protos.split.v1 import split_pb2 as pb
from protos.split.v1 import split_pb2_grpc
from shared.bundles import bundle_path
from shared.model.bundle import Bundle, read_bundle, write_bundle
from shared.packed import CloudHalf, DeviceHalf
from shared.protocol.codec import FeatureCodec
from shared.protocol.looks import KEEP_MS, margins, wanted
from shared.protocol.messages import (
    Looks,
    Request,
    Response,
    request_to_message,
    response_from_message,
)
from tests.support.clouds import images, tiny_bundle
from tests.support.served import Served, serve

MODEL = "mnist-binary-paper"
NARROW, WIDE, CLOUD = 0, 5, 3
PATIENCE_S = 60.0
INVALID = grpc.StatusCode.INVALID_ARGUMENT.value[0]
Digits = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serve("--model", MODEL) as process:
        yield process


@pytest.fixture(scope="module")
def paper() -> Bundle:
    return read_bundle(bundle_path(MODEL))


def request(
    bundle: Bundle,
    pictures: npt.NDArray[np.uint8],
    level: int,
    looks: Looks | None,
    number: int = 7,
) -> Request:
    frame = FeatureCodec(bundle).encode(DeviceHalf(bundle).run(pictures, level), level)
    return Request(7, "", "", frame, looks=looks)


async def exchange(address: str, *requests: Request) -> list[Response]:
    """The answers to requests of one stream, each sent after the answer to the one before.

    A server without time to spare asks nobody: such answers are not taken.
    """
    async with asyncio.timeout(PATIENCE_S):
        while True:
            answers = await _exchange(address, requests)
            if all(one.hints is None or one.hints.suggested_level is None for one in answers):
                return answers
            await asyncio.sleep(0.2)


async def _exchange(address: str, requests: Sequence[Request]) -> list[Response]:
    answers = []
    async with grpc.aio.insecure_channel(address) as channel:
        call = split_pb2_grpc.SplitInferenceStub(channel).InferStream()
        for one in requests:
            await call.write(request_to_message(one))
            message = await call.read()
            assert isinstance(message, pb.InferResponse)
            answers.append(response_from_message(message))
        await call.done_writing()
    return answers


def labels(response: Response) -> list[int]:
    return [answer.label for answer in response.answers]


def logits(
    bundle: Bundle, pictures: npt.NDArray[np.uint8], level: int, cloud_level: int = CLOUD
) -> npt.NDArray[np.float32]:
    return CloudHalf(bundle).run(DeviceHalf(bundle).run(pictures, level), level, cloud_level)


@pytest.mark.parametrize("count", [1, 16, 40])  # at once, and through the queue
async def test_more_is_wanted_of_samples_with_a_small_margin(
    served: Served, paper: Bundle, digits: Digits, count: int
) -> None:
    pictures = digits[0][:count]
    found = margins(logits(paper, pictures, NARROW))
    ask_below = 2**62 if count == 1 else int(np.percentile(found, 30)) + 1
    asked = request(paper, pictures, NARROW, Looks(0, WIDE, ask_below))
    before = served.sample("taper_looks_asked_total")
    (answer,) = await exchange(served.address, asked)
    first = logits(paper, pictures, NARROW, answer.cloud_level)  # a busy server may be narrower
    assert answer.more == wanted(first, WIDE, ask_below)
    assert answer.more is not None
    assert answer.more.keep_ms == KEEP_MS
    assert labels(answer) == first.argmax(axis=1).tolist()
    places = answer.more.samples or range(count)
    assert served.sample("taper_looks_asked_total") - before == len(places)


@pytest.mark.parametrize("count", [1, 40])
async def test_older_clients_never_see_more(
    served: Served, paper: Bundle, digits: Digits, count: int
) -> None:
    (answer,) = await exchange(served.address, request(paper, digits[0][:count], NARROW, None))
    assert len(answer.answers) == count
    assert answer.more is None


async def test_a_second_look_comes_whole_under_the_same_id(
    served: Served, paper: Bundle, digits: Digits
) -> None:
    picture = digits[0][:1]
    before = served.sample("taper_second_looks_total")
    first, second = await exchange(
        served.address,
        request(paper, picture, NARROW, Looks(0, WIDE, 2**62)),
        request(paper, picture, WIDE, Looks(earlier=1)),
    )
    assert first.more is not None
    assert first.more.level == WIDE
    assert second.id == first.id
    assert second.more is None
    whole = logits(paper, picture, WIDE, second.cloud_level)
    assert labels(second) == whole.argmax(axis=1).tolist()
    assert served.sample("taper_second_looks_total") - before == 1


async def test_a_second_look_without_a_first_is_answered_and_counted(
    served: Served, paper: Bundle, digits: Digits
) -> None:
    """The first may have been at another server, or at this one before it was started again."""
    picture = digits[0][:1]
    before = served.sample("taper_second_looks_unknown_total")
    (answer,) = await exchange(served.address, request(paper, picture, WIDE, Looks(earlier=1)))
    whole = logits(paper, picture, WIDE, answer.cloud_level)
    assert labels(answer) == whole.argmax(axis=1).tolist()
    assert served.sample("taper_second_looks_unknown_total") - before >= 1


async def test_two_second_looks_are_refused_and_counted(
    served: Served, paper: Bundle, digits: Digits
) -> None:
    picture = digits[0][:1]
    before = served.sample("taper_second_looks_refused_total")
    second = request(paper, picture, WIDE, Looks(earlier=1))
    *_, refused = await exchange(
        served.address, request(paper, picture, NARROW, Looks(0, WIDE, 2**62)), second, second
    )
    assert refused.failure is not None
    assert refused.failure.code == INVALID
    assert refused.failure.message == "looks: request 7 has had its second look"
    assert refused.id == 7
    assert served.sample("taper_second_looks_refused_total") - before == 1


@pytest.mark.parametrize("next_level", [NARROW, 6, 2**32 - 1])
async def test_a_look_at_a_level_that_does_not_exist_is_refused(
    served: Served, paper: Bundle, digits: Digits, next_level: int
) -> None:
    asked = request(paper, digits[0][:1], NARROW, Looks(0, next_level))
    (answer,) = await exchange(served.address, asked)
    assert answer.failure is not None
    assert answer.failure.code == INVALID
    assert answer.failure.message.startswith(f"looks.next_level: {next_level} is not allowed")
    assert "\n" not in answer.failure.message


async def test_a_second_look_of_another_version_is_refused(tmp_path: Path) -> None:
    bundles = [tiny_bundle(0), tiny_bundle(1)]
    for number, bundle in enumerate(bundles):
        write_bundle(bundle, tmp_path / f"{number}.safetensors")
    first, second = (
        request(bundle, images(1), level, looks)._replace(
            model="tiny", version=bundle.metadata.version
        )
        for bundle, level, looks in zip(
            bundles, (0, 2), (Looks(0, 2, 2**62), Looks(earlier=1)), strict=True
        )
    )
    with serve("--models", str(tmp_path)) as served:
        _, refused = await exchange(served.address, first, second)
        assert served.sample("taper_second_looks_refused_total") == 1
    assert refused.failure is not None
    assert refused.failure.code == INVALID
    assert refused.failure.message.startswith("looks: the first look of request 7 was of version")
