"""Second looks of the C engine against the client's: decisions, requests, responses, the plan."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from google.protobuf.message import DecodeError

from device.micro.blob import make_blob
from device.micro.command import generate, main
from device.micro.plan import BoardLook, board_looks
from device.policy.simple import Look
from device.split.look_requests import LookRequests
from device.split.looking import look_on_device
from device.split.pipeline import Pipeline
from protos.split.v1 import split_pb2 as pb
from shared.bundles import bundle_path
from shared.data.sample import sample_digits
from shared.errors import UsageError
from shared.model.bundle import Bundle, read_bundle
from shared.model.exits import NEVER
from shared.model.identity import VERSION_DIGITS
from shared.model.looks import NO_LOOK, LookPlan, plans_on_test, read_plans
from shared.protocol.codec import FeatureCodec
from shared.protocol.messages import (
    Answer,
    Failure,
    Hints,
    Looks,
    More,
    Request,
    Response,
    request_to_message,
    response_from_message,
    serialise_response,
)
from tests.support.boards import SANITIZED, board_frame, build_for_host, run_raw

OK, BAD_MESSAGE, REFUSED, BAD_WISH = 0, 7, 8, 9  # of taper_status
STAY, SEND = 0, 1  # of taper_step
SERVER_DECIDES = 2**64 - 1
LOOK = np.dtype(
    [("level", "<u4"), ("stays_from", "<i8"), ("again_below", "<i8"), ("ask_below", "<u8")],
    align=True,
)
PLAN = np.dtype([("count", "<u4"), ("looks", LOOK, 2)], align=True)
FIRST, AFTER_ASKED, AT_ONCE = range(3)  # which look was sent


class Outcome(NamedTuple):
    """What follows from the looks at a picture: how many here, the step, and both requests."""

    taken: int
    step: int
    request: bytes
    second: bytes


def c_plans(plans: Sequence[Sequence[BoardLook]]) -> bytes:
    """Plans as ``taper_plan``."""
    table = np.zeros(len(plans), PLAN)
    for row, looks in zip(table, plans, strict=True):
        row["count"] = len(looks)
        for place, look in zip(row["looks"], looks, strict=False):
            place["level"], place["stays_from"] = look.level, look.stays_from
            place["again_below"], place["ask_below"] = look.again_below, look.ask_below
    return table.tobytes()


def read_outcomes(content: bytes) -> Iterator[Outcome]:
    """What ``looks.c`` wrote."""
    at = 0
    while at < len(content):
        taken, step, first, second = struct.unpack_from("<4I", content, at)
        at += 16
        request = content[at : at + first]
        at += first
        yield Outcome(taken, step, request, content[at : at + second])
        at += second


def clients_looks(plan: LookPlan, ask_below: int | None) -> tuple[Look, ...]:
    """``plan`` as the client's policies give it."""
    first = Look(plan.first, plan.exit_threshold, plan.escalate_below, ask_below)
    return (first,) if plan.second == NO_LOOK else (first, Look(plan.second, NEVER))


class Client:
    """The Python client's part, up to the bytes of its requests."""

    def __init__(self, bundle: Bundle) -> None:
        self.pipeline = Pipeline(bundle)
        self.meta, self.codec = bundle.metadata, FeatureCodec(bundle)

    def request(self, features: npt.NDArray[np.uint8], level: int, looks: Looks | None) -> bytes:
        frame = board_frame(self.codec, features, level)
        version = self.meta.version[:VERSION_DIGITS]
        request = Request(7, self.meta.name, version, frame, None, 0, looks)
        return request_to_message(request).SerializeToString()

    def follow(self, image: npt.NDArray[np.uint8], looks: Sequence[Look]) -> Outcome:
        output, stays = look_on_device(self.pipeline, image, looks)
        taken, coming = len(output.levels), output.coming
        if stays:
            return Outcome(taken, STAY, b"", b"")
        if coming is None:
            return Outcome(taken, SEND, self.request(output.features, output.level, None), b"")
        told = Looks(next_level=coming.level, ask_below=coming.ask_below)
        again = self.pipeline.run(image, coming.level)
        return Outcome(
            taken,
            SEND,
            self.request(output.features, output.level, told),
            self.request(again, coming.level, Looks(earlier=1)),
        )


@pytest.fixture(scope="module")
def looker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the program that looks by plans."""
    folder = tmp_path_factory.mktemp("looks")
    build_for_host(folder, folder, *SANITIZED, program="looks")
    return folder


@pytest.mark.parametrize("name", ["mnist-binary", "mnist-binary-paper"])
def test_decisions_and_requests_are_the_clients_for_every_plan(name: str, looker: Path) -> None:
    bundle = read_bundle(bundle_path(name))
    levels = range(len(bundle.architecture.device_levels))
    images = sample_digits()[0][:24, :, :, None]
    known = read_plans(bundle)
    # One that looks again at once more often than the known ones, so that these digits show it.
    doubtful = replace(next(plan for plan in known if plan.second != NO_LOOK), escalate_below=0.95)
    plans = (*known, doubtful)
    ours = [board_looks(bundle, levels, plan) for plan in plans]
    theirs = [clients_looks(plan, plan.ask_below) for plan in plans]
    ours.append((replace(ours[-1][0], ask_below=SERVER_DECIDES), ours[-1][1]))
    theirs.append(clients_looks(doubtful, None))
    blob = make_blob(bundle, levels)
    content = struct.pack("<2I", len(blob), len(ours)) + blob + c_plans(ours) + images.tobytes()
    found = list(read_outcomes(run_raw([str(looker / "host")], content, looker)))
    client = Client(bundle)
    wanted = [client.follow(image, looks) for image in images for looks in theirs]
    assert found == wanted
    assert any(one.second for one in found)
    # Looks that are taken at once, and samples that stay, were among them.
    has_exit = bundle.architecture.exit_head
    assert any(one.taken == 2 for one in found) == has_exit
    assert any(one.step == STAY for one in found) == has_exit


@pytest.fixture(scope="module")
def plan() -> LookPlan:
    """The plan that ``reader`` goes by."""
    plans = plans_on_test(read_bundle(bundle_path("mnist-binary")))
    return max(plans, key=lambda one: one.accuracy)


@pytest.fixture(scope="module")
def reader(plan: LookPlan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the program that reads responses."""
    folder = tmp_path_factory.mktemp("responses")
    generate("mnist-binary", folder / "model", min_accuracy=plan.accuracy)
    build_for_host(folder / "model", folder, *SANITIZED, program="responses")
    return folder


class Reading(NamedTuple):
    """What a response says: status, label, whether to look again, failure and its delay, id."""

    status: int
    label: int = 0
    again: int = 0
    retry_after_ms: int = 0
    id: int = 0
    failure: int = 0


def read_all(folder: Path, responses: Sequence[tuple[int, bytes]]) -> list[Reading]:
    """What the engine reads in responses to the looks that were sent."""
    content = b"".join(struct.pack("<2I", sent, len(one)) + one for sent, one in responses)
    results = run_raw([str(folder / "host")], content, folder)
    return [Reading(*row) for row in struct.iter_unpack("<4IQq", results)]


def client_reads(plan: LookPlan, sent: int, content: bytes) -> Reading:
    """What the client makes of a response, in the engine's terms."""
    try:
        response = response_from_message(pb.InferResponse.FromString(content))
    except DecodeError:
        return Reading(BAD_MESSAGE)
    failure = response.failure
    if failure is not None:
        label = response.answers[-1].label if response.answers else 0
        return Reading(REFUSED, label, 0, failure.retry_after_ms, response.id, failure.code)
    if len(response.answers) != 1 or response.answers[0].label >= 10:
        return Reading(BAD_MESSAGE)
    looks = (Looks(next_level=plan.second), Looks(earlier=1), None)[sent]
    places = LookRequests().follow(response.more, looks, 1, None)
    status = BAD_WISH if response.more is not None and not places else OK
    return Reading(status, response.answers[0].label, len(places), 0, response.id)


def responses(plan: LookPlan) -> dict[str, Response]:
    """Responses of every kind."""
    answer = (Answer(7, ((7, 0.75), (1, 0.125))),)
    hints = Hints(0.5, 1)
    level = plan.second
    return {
        "sure": Response(2**63 + 5, answer, 3, 2**32 - 1, 12, hints=hints),
        "label 0": Response(1, (Answer(0),)),
        "asks": Response(7, answer, 3, 5, 6, hints=hints, more=More(level, 10_000)),
        "asks for the one": Response(7, answer, more=More(level, 10_000, (0,))),
        "another level": Response(7, answer, more=More(level - 1, 10_000)),
        "a level of none": Response(7, answer, more=More(2**32 - 1)),
        "another sample": Response(7, answer, more=More(level, 10_000, (1,))),
        "samples": Response(7, answer, more=More(level, 10_000, (0, 0))),
        "busy": Response(7, failure=Failure(8, "the server is overloaded", 250), hints=hints),
        "two answers": Response(7, (Answer(1), Answer(2))),
        "no answer": Response(7),
        "no such label": Response(7, (Answer(10),)),
    }


def test_responses_are_read_as_the_client_reads_them(plan: LookPlan, reader: Path) -> None:
    known = responses(plan)
    sent = [(name, look) for name in known for look in (FIRST, AFTER_ASKED, AT_ONCE)]
    content = [(look, serialise_response(known[name])) for name, look in sent]
    found = dict(zip(sent, read_all(reader, content), strict=True))
    wanted = {key: client_reads(plan, *one) for key, one in zip(sent, content, strict=True)}
    assert found == wanted
    by_name = {name: found[name, FIRST] for name in known}
    assert by_name["sure"] == Reading(OK, 7, id=2**63 + 5)
    assert by_name["asks"] == by_name["asks for the one"] == Reading(OK, 7, 1, id=7)
    assert by_name["busy"] == Reading(REFUSED, retry_after_ms=250, id=7, failure=8)
    refused = {"another level", "a level of none", "another sample", "samples"}
    assert {name for name, one in by_name.items() if one.status == BAD_WISH} == refused
    wrong = {"two answers", "no answer", "no such label"}
    assert {name for name, one in by_name.items() if one.status == BAD_MESSAGE} == wrong
    # The look that was asked for, or taken at once, is the last.
    assert found["asks", AFTER_ASKED] == found["asks", AT_ONCE] == Reading(BAD_WISH, 7, id=7)


def test_responses_that_are_cut_off_are_refused(plan: LookPlan, reader: Path) -> None:
    whole = [serialise_response(one) for one in responses(plan).values()]
    content = [(FIRST, one[:end]) for one in whole for end in range(len(one))]
    found = read_all(reader, content)
    assert found == [client_reads(plan, *one) for one in content]
    assert sum(one.status == BAD_MESSAGE for one in found) > len(found) // 2


def test_damaged_responses_never_lead_out_of_bounds(plan: LookPlan, reader: Path) -> None:
    whole = [serialise_response(one) for one in responses(plan).values()]
    dice = random.Random(1)
    content = []
    for _ in range(20_000):
        damaged = bytearray(dice.choice(whole) if dice.random() < 0.9 else dice.randbytes(20))
        for _ in range(dice.randint(1, 4)):
            at = dice.randrange(len(damaged))
            damaged[at] = dice.choice((dice.randrange(256), damaged[at] ^ 1 << dice.randrange(8)))
        content.append((dice.randrange(3), bytes(damaged)))
    found = read_all(reader, content)
    wanted = [client_reads(plan, *one) for one in content]
    # What the client can read means the same; it also looks into fields that a board skips.
    pairs = [pair for pair in zip(found, wanted, strict=True) if pair[1].status != BAD_MESSAGE]
    assert len(pairs) > 1000
    # A board refuses groups, a form of fields that the protocol does not have.
    other = [mine for mine, clients in pairs if mine != clients]
    assert len(other) < 5
    assert {mine.status for mine in other} <= {BAD_MESSAGE}
    assert {one.status for one in found} == {OK, BAD_MESSAGE, REFUSED, BAD_WISH}


@pytest.mark.parametrize("wanted", ["0.9999", "0", "nan"])
def test_an_accuracy_that_no_plan_reaches_is_one_line(
    wanted: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["mnist-binary", "--output", str(tmp_path / "out"), "--min-accuracy", wanted])
    assert ended.value.code == UsageError.exit_status
    assert f"--min-accuracy: {wanted} is not allowed; give" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
