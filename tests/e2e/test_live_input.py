"""Live input at the real client: streams, videos, watched folders, standard input; publishing."""

from __future__ import annotations

import asyncio
import json
import queue
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from PIL import Image

from device.cli.publishing import Publisher
from device.split.sample import SampleResult
from device.split.settings import ClientSettings
from shared.data.sample import sample_digits
from shared.fleet.broker import BrokerClient
from tests.support.broker import mosquitto
from tests.support.cameras import MjpegCamera, jpeg, page, serve_mjpeg, write_video
from tests.support.clouds import until
from tests.support.processes import ROOT, client_command, environment, run_client, start_server

IMAGES, LABELS = sample_digits()
SHOWN = (0, 3, 5, 7)  # digits of the sample that every test shows
NAMES = [str(LABELS[index]) for index in SHOWN]
LIMIT_S = 60


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with start_server() as started:
        yield started.address


@dataclass
class Running:
    """A client that goes on, and the lines that it has printed so far."""

    process: subprocess.Popen[bytes]
    lines: queue.Queue[bytes] = field(default_factory=queue.Queue)

    def read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line)

    def next(self, count: int) -> list[dict[str, Any]]:
        return [json.loads(self.lines.get(timeout=LIMIT_S)) for _ in range(count)]

    def stop(self) -> tuple[int, str]:
        """End it as Ctrl-C does; its status and what it says."""
        self.process.send_signal(signal.SIGINT)
        status = self.process.wait(LIMIT_S)
        assert self.process.stderr is not None
        return status, self.process.stderr.read().decode()


@contextmanager
def running(server: str, *flags: str) -> Iterator[Running]:
    words = client_command("--server", server, "--fraction", "1.0", "--output", "jsonl", *flags)
    with subprocess.Popen(
        words,
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        client = Running(process)
        thread = threading.Thread(target=client.read)
        thread.start()
        try:
            yield client
        finally:
            process.kill()
            thread.join()


def answers(lines: Sequence[dict[str, Any]]) -> list[str]:
    return [line["class_name"] for line in lines]


def test_an_mjpeg_stream_is_answered_through_breaks_and_the_newest_wins(server: str) -> None:
    camera = MjpegCamera([jpeg(page(SHOWN[0]))], period_s=0.002, breaks_after=60)
    with serve_mjpeg(camera), running(server, "--input", camera.address) as client:
        lines = client.next(3)
        while camera.connections < 3:
            lines += client.next(1)
        status, said = client.stop()
    assert set(answers(lines)) == {NAMES[0]}
    assert all(line["input"].startswith(camera.address + "[") for line in lines)
    assert status == 128 + signal.SIGINT
    assert "opened again" in said
    assert "pictures dropped: newer ones came before they were used" in said


def test_a_password_in_an_address_is_not_printed(server: str) -> None:
    camera = MjpegCamera([jpeg(page(SHOWN[0]))])
    with serve_mjpeg(camera):
        address = camera.address.replace("://", "://me:secret@")
        with running(server, "--input", address) as client:
            (line,) = client.next(1)
            _, said = client.stop()
    assert line["input"] == camera.address + "[0]"
    assert "secret" not in said


def test_an_address_that_does_not_answer_ends_the_start(server: str) -> None:
    done = run_client(
        "--server", server, "--input", "http://127.0.0.1:9/video", "--output", "jsonl"
    )
    assert done.status == 2
    assert done.err == (
        "error: --input: http://127.0.0.1:9/video cannot be read (Connection refused)\n"
    )


def test_a_video_is_answered_whole_and_by_its_own_clock(server: str, tmp_path: Path) -> None:
    frames = [page(index) for index in SHOWN for _ in range(10)]  # a second of each
    path = str(write_video(tmp_path / "digits.mp4", frames, "libx264"))
    flags = ("--server", server, "--fraction", "1.0", "--input", path, "--output", "json")
    whole = run_client(*flags, model="mnist-binary").document
    assert answers(whole["samples"]) == [name for name in NAMES for _ in range(10)]
    assert whole["summary"]["dropped"] == 0
    some = run_client(*flags, "--every", "1s", model="mnist-binary").document
    assert answers(some["samples"]) == NAMES
    changed = run_client(*flags, "--on-change", model="mnist-binary").document
    assert answers(changed["samples"]) == NAMES
    assert changed["summary"]["unchanged"] == 36


def test_files_of_a_watched_folder(server: str, tmp_path: Path) -> None:
    watched = tmp_path / "in"
    watched.mkdir()
    Image.fromarray(IMAGES[1]).save(watched / "before.png")
    with running(server, "--watch", str(watched), "--input", str(watched)) as client:
        assert client.next(1)[0]["input"] == str(watched / "before.png")
        (watched / "broken.jpg").write_bytes(b"no picture")
        for number, index in enumerate(SHOWN):
            Image.fromarray(IMAGES[index]).save(tmp_path / "one.png")
            (tmp_path / "one.png").rename(watched / f"{number}.png")
        lines = client.next(len(SHOWN))
        status, said = client.stop()
    assert answers(lines) == NAMES
    assert [Path(line["input"]).name for line in lines] == ["0.png", "1.png", "2.png", "3.png"]
    assert f"skipped: {watched / 'broken.jpg'} is not an image" in said
    assert status == 128 + signal.SIGINT


def test_pictures_on_standard_input_are_answered_as_they_come(server: str) -> None:
    with running(server, "--input", "-") as client:
        stdin = client.process.stdin
        assert stdin is not None
        for number, index in enumerate(SHOWN):
            stdin.write(jpeg(page(index)))
            stdin.flush()
            (line,) = client.next(1)
            assert line["class_name"] == NAMES[number]
        status, _ = client.stop()  # although more could come
    assert status == 128 + signal.SIGINT


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--every", "2s"), "--every: needs --watch"),
        (("--on-change",), "--on-change: needs --watch"),
        (("--every", "0s", "--input", "camera"), "--every: '0s' is not allowed"),
        (("--input", "camera:0", "--output", "json"), "--output json: prints once"),
        (("--watch", "nothing/here"), "--watch: nothing/here is not a folder"),
        (("--publish", "http://x/y"), "--publish: give mqtt://HOST:PORT/TOPIC"),
        (("--publish", "mqtt://x:1883"), "--publish: give mqtt://HOST:PORT/TOPIC"),
        (("--publish", "mqtt://x/a/#"), "--publish: give mqtt://HOST:PORT/TOPIC"),
    ],
)
def test_mistakes_are_one_line(server: str, flags: tuple[str, ...], named: str) -> None:
    done = run_client("--server", server, *flags)
    assert done.status == 2
    assert done.err.startswith(f"error: {named}")
    assert done.err.count("\n") == 1


def test_a_closed_pipe_gives_one_line_and_the_status_of_its_signal(server: str) -> None:
    command = client_command("--server", server, "--output", "jsonl")
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()
    assert said == "error: the output was closed by its reader\n"
    assert process.returncode == 128 + signal.SIGPIPE


async def test_answers_are_published(server: str, tmp_path: Path) -> None:
    messages: list[str] = []
    with mosquitto(tmp_path) as broker:
        listener = BrokerClient(
            broker.broker, "listener", lambda _, payload, __: messages.append(payload.decode())
        )
        async with listener:
            await listener.listen("answers/of/this")
            flags = ("--publish", f"{broker.url}/answers/of/this", "--output", "jsonl")
            done = await asyncio.to_thread(run_client, "--server", server, *flags)
            await until(lambda: len(messages) >= 200)
    assert done.status == 0, done.err
    assert messages == done.out.splitlines()
    assert len(messages) == 200


def test_a_broker_with_tls_needs_no_tls_towards_the_server(server: str, tmp_path: Path) -> None:
    with mosquitto(tmp_path, ("default/pi",)) as broker:
        user = f"default%2Fpi:{quote(broker.passwords['default/pi'], safe='')}"
        address = f"mqtts://{user}@localhost:{broker.port}/taper/v1/default/pi/result"
        trusted = ("--ca", str(broker.folder / "ca.crt"))
        done = run_client("--server", server, "--publish", address, *trusted)
        assert done.status == 0, done.err
        done = run_client("--server", server, "--publish", address, "--wait", "5")
        assert done.status == 3, done.err
        assert done.err.startswith("error: --publish: ")
        assert "certificate" in done.err
        assert "answered" not in done.err


async def test_answers_wait_for_a_broker_that_goes_away(tmp_path: Path) -> None:
    messages: list[str] = []
    answer = SampleResult(0, 7, "seven", "device", 1.0, 0.0, 8, 0, 1.0)
    with mosquitto(tmp_path) as broker:
        address = f"{broker.url}/answers"
        async with Publisher(address, ClientSettings()) as publisher:
            publisher.send(answer, "first")
            await asyncio.sleep(0.3)
            await asyncio.to_thread(broker.kill)
            publisher.send(answer, "second")
            await asyncio.to_thread(broker.start)
            listener = BrokerClient(
                broker.broker, "listener", lambda _, payload, __: messages.append(payload.decode())
            )
            async with listener:
                await listener.listen("answers")
                await asyncio.sleep(0.1)
                publisher.send(answer, "third")
                await until(lambda: any("third" in message for message in messages))


def test_a_broker_that_is_not_there_is_named(server: str) -> None:
    # The server is waited for as long, and must have answered before.
    flags = ("--server", server, "--wait", "5", "--publish", "mqtt://127.0.0.1:9/answers")
    done = run_client(*flags)
    assert done.status == 3
    assert done.err.startswith("error: --publish: 127.0.0.1:9: ")
    assert done.err.count("\n") == 1
