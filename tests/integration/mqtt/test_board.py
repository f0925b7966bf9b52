"""A program on an emulated board, carried to a real broker, answered by a real server."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from device.micro.carry import Packet, desired, main, read_packets, send
from device.micro.command import generate
from shared.bundles import bundle_path
from shared.data.sample import sample_digits
from shared.errors import UsageError
from shared.fleet.broker import BrokerClient
from shared.fleet.messages import (
    Birth,
    Death,
    Desired,
    DeviceSettings,
    MessageKind,
    Reported,
    Telemetry,
    Topic,
)
from shared.fleet.payloads import dump, load
from shared.model.bundle import read_bundle
from shared.model.exits import local_answer, read_calibration
from shared.packed import CloudHalf, DeviceHalf
from tests.support.boards import BOARDS, build_for_board, emulation, run_raw
from tests.support.broker import DEPLOY, Mosquitto, mosquitto
from tests.support.debian import need
from tests.support.served import serve

FLEET, DEVICE, MODEL = "city", "board-1", "mnist-binary"
MEMBER = f"{FLEET}/{DEVICE}"
M4 = BOARDS[1]
DIGITS = 16
LEVEL, FRACTION = 2, "0.3"
Pictures = npt.NDArray[np.uint8]


def run_board(folder: Path, state: bytes, pictures: Pictures) -> list[Packet]:
    """What the board publishes for ``pictures``, having read the desired ``state``."""
    need("board", M4.compiler, M4.emulator[0])
    generate(MODEL, folder / "model")
    program = build_for_board(M4, folder / "model", folder, "member")
    data = struct.pack("<I", len(state)) + state + pictures.tobytes()
    return list(read_packets(run_raw(emulation(M4, program), data, folder)))


def least_sure() -> Pictures:
    """The digits of the sample that the exit head is least sure of: some leave, others stay."""
    half, (images, _) = DeviceHalf(read_bundle(bundle_path(MODEL))), sample_digits()
    logits = half.exit_logits(half.run(images[..., None], LEVEL), LEVEL).tolist()
    margins = [local_answer(one).margin for one in logits]
    return np.ascontiguousarray(images[np.argsort(margins, kind="stable")[:DIGITS]])


def expected(pictures: Pictures) -> tuple[list[int], dict[int, int]]:
    """Numbers of the pictures that leave (from 1), and the cloud's label of each."""
    bundle = read_bundle(bundle_path(MODEL))
    calibration = read_calibration(bundle)
    assert calibration is not None
    half, cloud = DeviceHalf(bundle), CloudHalf(bundle)
    rows = half.run(pictures[..., None], LEVEL)
    answers = [local_answer(logits) for logits in half.exit_logits(rows, LEVEL).tolist()]
    least = calibration.margins[LEVEL]
    leaving = [index for index, answer in enumerate(answers) if answer.margin < least]
    labels = cloud.run(np.ascontiguousarray(rows[leaving]), LEVEL, 3).argmax(axis=1).tolist()
    return leaving, {index + 1: label for index, label in zip(leaving, labels, strict=True)}


async def set_desired(broker: Mosquitto, state: Desired) -> None:
    user = broker.secure("operator")
    async with BrokerClient(user, "operator", session_s=0) as operator:
        await operator.post(f"taper/v1/{MEMBER}/desired", dump(state), retain=True)


async def test_a_board_joins_a_fleet_and_is_answered_over_mqtt(tmp_path: Path) -> None:
    pictures = least_sure()
    leaving, labels = expected(pictures)
    assert 0 < len(leaving) < DIGITS
    with mosquitto(tmp_path / "broker", (MEMBER,)) as broker:
        wanted = Desired(4, DeviceSettings(fraction=FRACTION, telemetry_s=60.0))
        await set_desired(broker, wanted)
        where = broker.secure(MEMBER)
        state = await desired(where, MEMBER)
        packets = run_board(tmp_path, state, pictures)
        flags = ("--mqtt", f"mqtts://localhost:{broker.port}", "--cloud-fraction", "1")
        authority = ("--mqtt-ca", str(broker.folder / "ca.crt"))
        word = broker.passwords["inference"]
        with serve("--model", MODEL, *flags, *authority, TAPER_BROKER_PASSWORD=word):
            answers = await send(where, MEMBER, packets)
    assert {answer.id: answer.answers[0].label for answer in answers} == labels
    kinds = ["birth", "reported", *["infer"] * len(leaving), "telemetry", "death"]
    assert [packet.kind for packet in packets] == kinds
    messages = [read(packet) for packet in packets if packet.kind != "infer"]
    birth, reported, telemetry, death = messages
    assert isinstance(birth, Birth)
    assert birth.levels == read_bundle(bundle_path(MODEL)).architecture.device_levels
    assert isinstance(reported, Reported)
    assert (reported.version, reported.settings.fraction) == (4, FRACTION)
    assert [one.field for one in reported.refused] == ["telemetry_s"]
    assert isinstance(telemetry, Telemetry)
    assert (telemetry.answered_cloud, telemetry.answered) == (len(leaving), DIGITS)
    assert isinstance(death, Death)


def read(packet: Packet) -> object:
    return load(Topic(FLEET, DEVICE, MessageKind(packet.kind)), packet.payload)


def test_provisioning_writes_credentials_as_a_header(tmp_path: Path) -> None:
    with mosquitto(tmp_path / "broker", (MEMBER,)) as broker:
        script = [sys.executable, str(DEPLOY / "provision.py"), str(broker.folder)]
        more = ("--fleet", FLEET, "--device", DEVICE, "--host", "broker.example", "--headers")
        subprocess.run([*script, *more], check=True, capture_output=True)
        header = broker.folder / "headers" / f"{DEVICE}.h"
        assert header.stat().st_mode & 0o077 == 0
        program = tmp_path / "show.c"
        program.write_text(
            f'#include <stdio.h>\n#include "{header}"\n'
            "int main(void) {\n"
            '  printf("%s %d %s %s\\n%s", TAPER_BROKER_HOST, TAPER_BROKER_PORT, TAPER_USER,\n'
            "         TAPER_PASSWORD, taper_broker_ca);\n  return 0;\n}\n"
        )
        strict = ("-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror")
        subprocess.run(["gcc", *strict, program, "-o", tmp_path / "show"], check=True)
        shown = subprocess.run([tmp_path / "show"], check=True, capture_output=True, text=True)
        first, _, authority = shown.stdout.partition("\n")
        assert first == f"broker.example 8883 {MEMBER} {broker.passwords[MEMBER]}"
        assert authority == (broker.folder / "ca.crt").read_text()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"birth", "FILE: is cut off after 0 bytes"),
        (struct.pack("<12sI", b"desired", 0), "FILE: 'desired' is no kind of packet"),
        (struct.pack("<12sI", b"birth", 9) + b"{}", "FILE: a packet of 9 bytes does not fit"),
    ],
)
def test_damaged_packets_are_refused(
    content: bytes, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "packets").write_bytes(content)
    where = ("--fleet", FLEET, "--device", DEVICE, "--broker", "mqtt://127.0.0.1:1")
    with pytest.raises(SystemExit) as ended:
        main(["send", str(tmp_path / "packets"), *where])
    assert ended.value.code == UsageError.exit_status
    assert says in capsys.readouterr().err
