"""The real client against a real server: levels, streams, outages."""

from __future__ import annotations

import socket
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from shared.images.idx import write_idx
from shared.model.bundle import Bundle
from shared.model.looks import ask_table
from shared.packed import CloudHalf, DeviceHalf
from shared.protocol.codec import FeatureCodec
from shared.protocol.looks import margins
from tests.support.processes import (
    ROOT,
    Server,
    client_command,
    environment,
    run_client,
    start_server,
)

Digits = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]


@pytest.mark.parametrize("fraction", ["0.125", "0.25", "0.3", "0.5", "0.75", "1.0"])
def test_split_answers_equal_the_unsplit_network(
    server: Server, bundle: Bundle, digits: Digits, fraction: str
) -> None:
    images, labels = digits
    architecture = bundle.architecture
    level = architecture.device_levels.index(float(fraction))
    widest = len(architecture.cloud_levels) - 1
    features = DeviceHalf(bundle).run(images, level)
    expected = CloudHalf(bundle).run(features, level, widest).argmax(axis=1)
    codec = FeatureCodec(bundle)
    done = run_client("--fraction", fraction, "--server", server.address, "--output", "json")
    assert done.status == 0, done.err
    samples = done.document["samples"]
    assert [sample["index"] for sample in samples] == list(range(200))
    assert [sample["label"] for sample in samples] == expected.tolist()
    assert {sample["fraction"] for sample in samples} == {float(fraction)}
    sizes = [len(codec.encode(row[None], level).payload) for row in features]
    assert [sample["payload_bytes"] for sample in samples] == sizes
    summary = done.document["summary"]
    assert summary["answered"] == 200
    assert summary["accuracy"] == pytest.approx((expected == labels).mean())
    assert summary["sources"] == {"cloud": 200}


@pytest.mark.parametrize("in_flight", ["1", "64"])
def test_a_stream_of_a_thousand_samples(
    server: Server, digits: Digits, tmp_path: Path, in_flight: str
) -> None:
    images, _ = digits
    path = tmp_path / "thousand-images-idx3-ubyte.gz"
    write_idx(path, np.concatenate([images[..., 0]] * 5))
    done = run_client(
        *("--server", server.address, "--input", str(path), "--fraction", "0.3"),
        *("--in-flight", in_flight, "--output", "json"),
    )
    assert done.status == 0, done.err
    found = [sample["label"] for sample in done.document["samples"]]
    assert len(found) == 1000
    assert found == found[:200] * 5


def test_many_clients_at_the_same_time(server: Server) -> None:
    def run(fraction: str) -> float:
        done = run_client("--fraction", fraction, "--server", server.address, "--output", "json")
        assert done.status == 0, done.err
        accuracy: float = done.document["summary"]["accuracy"]
        return accuracy

    with ThreadPoolExecutor(3) as pool:
        assert min(pool.map(run, ["0.3", "0.5", "1.0"])) > 0.9


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def test_client_waits_for_a_server_that_starts_late() -> None:
    port = free_port()
    command = client_command("--model", "mnist-binary-paper", "--wait", "60")
    command += ["--server", f"127.0.0.1:{port}", "--output", "json"]
    client = subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with pytest.raises(subprocess.TimeoutExpired):
        client.wait(3)  # it is waiting, not failing
    with start_server(port=port):
        out, err = client.communicate(timeout=90)
    assert client.returncode == 0, err
    assert b'"answered": 200' in out


def test_client_gives_up_on_a_server_that_never_starts() -> None:
    done = run_client("--server", f"127.0.0.1:{free_port()}", "--wait", "0.5")
    assert done.status == 3
    assert len(done.err.strip().splitlines()) == 1
    assert "could not be reached" in done.err


def test_server_killed_in_mid_run(digits: Digits, tmp_path: Path) -> None:
    path = tmp_path / "many-images-idx3-ubyte"
    write_idx(path, np.concatenate([digits[0][..., 0]] * 100))
    with start_server() as server:
        command = client_command("--model", "mnist-binary-paper", "--server", server.address)
        command += ["--input", str(path), "--output", "jsonl", "--timeout", "3"]
        client = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert client.stdout is not None
        assert client.stderr is not None
        assert client.stdout.readline().startswith("{")
        server.process.kill()
        _, err = client.communicate(timeout=60)
    assert client.returncode == 3, err
    assert "of 20000 samples answered" in err.strip().splitlines()[-1]
    assert "Traceback" not in err


def test_server_that_never_answers() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        done = run_client("--server", address, "--wait", "1", "--timeout", "1")
    assert done.status == 3
    assert "Traceback" not in done.err


def test_terminated_server_answers_what_is_in_flight(digits: Digits, tmp_path: Path) -> None:
    path = tmp_path / "some-images-idx3-ubyte"
    write_idx(path, digits[0][..., 0])
    with start_server() as server:
        command = client_command("--model", "mnist-binary-paper", "--server", server.address)
        command += ["--input", str(path), "--output", "jsonl"]
        client = subprocess.Popen(
            command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True
        )
        assert client.stdout is not None
        lines = [client.stdout.readline()]
        reader = threading.Thread(target=lambda: lines.extend(client.stdout or []))
        reader.start()
        server.process.terminate()
        assert server.process.wait(30) == 0
        client.wait(60)
        reader.join(30)
        client.stdout.close()
    assert client.returncode in (0, 3)  # all answered before the end, or the end said plainly
    assert all(line.startswith("{") for line in lines)


def test_second_looks_where_the_server_asks_by_its_own_table(
    server: Server, bundle: Bundle, digits: Digits
) -> None:
    images, _ = digits
    levels = bundle.architecture.device_levels
    first, second, ask_below = next(
        (first, second, ask_below)
        for first, row in enumerate(ask_table(bundle))
        for second, ask_below in enumerate(row)
        if ask_below
    )
    logits = [
        CloudHalf(bundle).run(DeviceHalf(bundle).run(images, level), level, 3)
        for level in (first, second)
    ]
    asked = margins(logits[0]) < ask_below
    expected = np.where(asked, logits[1].argmax(axis=1), logits[0].argmax(axis=1))
    done = run_client(
        *("--fraction", f"{levels[first]:g}:{levels[second]:g}", "--output", "json"),
        *("--server", server.address, "--in-flight", "8"),
    )
    assert done.status == 0, done.err
    samples = done.document["samples"]
    assert asked.any()
    assert [len(sample["looks"]) - 1 for sample in samples] == asked.tolist()
    assert [sample["label"] for sample in samples] == expected.tolist()
    assert done.document["summary"]["mean_looks"] == pytest.approx(1 + asked.mean())
