"""The client's flags for exits, outages, spool, planning, models over the air; and kill -9."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest

from device.split.spool import Spool
from shared.model.bundle import write_bundle
from shared.packed import DeviceHalf
from shared.protocol.messages import Request, Response
from tests.support.clouds import Cloud, free_port, images, serve, tiny_bundle, until
from tests.support.processes import (
    ROOT,
    Finished,
    client_command,
    environment,
    run,
    run_client,
    start_server,
)

BUNDLE = tiny_bundle()


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A bundle file of the small network, with an exit head."""
    write_bundle(BUNDLE, tmp_path / "tiny.safetensors")
    return str(tmp_path / "tiny.safetensors")


@pytest.fixture
def pictures(tmp_path: Path) -> str:
    """Twenty images for it."""
    np.save(tmp_path / "pictures.npy", images(20))
    return str(tmp_path / "pictures.npy")


async def client(*flags: str) -> Finished:
    """Run the client while a server runs in this process."""
    return await asyncio.to_thread(run, client_command(*flags))


async def test_exits_and_their_flags(model: str, pictures: str) -> None:
    async with serve(Cloud(BUNDLE)) as address:
        flags = ["--server", address, "--model", model, "--input", pictures, "--output", "json"]
        flags += ["--fraction", "1.0"]
        here = await client(*flags, "--exit-threshold", "0")
        there = await client(*flags, "--no-exit")
        both = await client(*flags, "--no-exit", "--exit-threshold", "0.5")
        wrong = await client(*flags, "--exit-threshold", "1.5")
    assert here.document["summary"]["sources"] == {"device": 20}
    assert there.document["summary"]["sources"] == {"cloud": 20}
    assert here.document["samples"][0]["confidence"] > 0
    assert (both.status, wrong.status) == (2, 2)
    assert "--no-exit" in both.err
    assert "--exit-threshold" in wrong.err


async def test_planning_is_explained(model: str, pictures: str) -> None:
    async with serve(Cloud(BUNDLE)) as address:
        flags = ("--server", address, "--model", model, "--input", pictures, "--output", "json")
        done = await client(*flags, "--lifetime", "7d", "--battery", "50", "--explain")
        wrong = await client(*flags, "--lifetime", "soon")
        fixed = await client(*flags, "--lifetime", "7d", "--fraction", "0.5")
    assert done.status == 0, done.err
    assert done.err.startswith("auto: fraction ")
    assert done.document["summary"]["decisions"][0].startswith("auto: fraction ")
    assert (wrong.status, fixed.status) == (2, 2)
    assert "--fraction auto" in fixed.err


async def test_samples_share_packets(model: str, pictures: str) -> None:
    cloud = Cloud(BUNDLE)
    async with serve(cloud) as address:
        flags = ["--server", address, "--model", model, "--input", pictures, "--output", "json"]
        flags += ["--fraction", "1.0", "--no-exit"]
        done = await client(*flags, "--in-flight", "10", "--max-wait-ms", "100")
    assert done.status == 0, done.err
    assert len(cloud.seen) < 10
    assert sum(request.frame.samples for request in cloud.seen) == 20


async def test_model_from_server(pictures: str, tmp_path: Path) -> None:
    flags = ("--model-from-server", "--model-folder", str(tmp_path / "kept"), "--input", pictures)
    async with serve(Cloud(BUNDLE)) as address:
        done = await client(*flags, "--server", address, "--output", "json")
    assert done.status == 0, done.err
    assert (tmp_path / "kept" / "tiny.safetensors").exists()
    away = ("--server", f"127.0.0.1:{free_port()}", "--output", "json", "--start-offline")
    offline = await client(*flags, *away)
    assert offline.status == 0, offline.err
    assert offline.document["summary"]["sources"] == {"device": 20}
    nothing = ("--model-folder", str(tmp_path / "none"), "--wait", "0.2")
    assert run_client(*flags, *away, *nothing).status == 3


def test_offline_start_only_if_asked_for(model: str, pictures: str, tmp_path: Path) -> None:
    flags = ("--server", f"127.0.0.1:{free_port()}", "--wait", "0.2", "--input", pictures)
    assert run_client(*flags, model=model).status == 3
    offline = run_client(*flags, "--start-offline", "--output", "json", model=model)
    assert offline.status == 0, offline.err
    assert offline.document["summary"]["sources"] == {"device": 20}
    spool = str(tmp_path / "s.db")
    kept = run_client(*flags, "--no-exit", "--spool", spool, "--output", "json", model=model)
    assert kept.status == 0, kept.err
    assert kept.document["summary"]["kept"] == 20
    assert "20 samples wait in the spool" in kept.err


def test_spool_that_cannot_be_used(model: str, pictures: str, tmp_path: Path) -> None:
    flags = ("--server", f"127.0.0.1:{free_port()}", "--wait", "0.2", "--input", pictures)
    done = run_client(*flags, "--spool", str(tmp_path), model=model)
    assert (done.status, done.err.count("\n")) == (2, 1)
    (tmp_path / "s.db").write_bytes(b"no spool at all")
    done = run_client(*flags, "--spool", str(tmp_path / "s.db"), model=model)
    assert done.status == 0
    assert "damaged" in done.err
    assert (tmp_path / "s.db.damaged-1").exists()


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (("--server", "nowhere"), "--server"),
        (("--token", "secret", "--server", "cloud:1"), "--tls"),
        (("--ca", "ca.pem"), "--tls"),
        (("--tls", "--ca", "missing.pem"), "--ca"),
        (("--max-wait-ms", "-1"), "--max-wait-ms"),
        (("--min-accuracy", "7"), "--min-accuracy"),
        (("--max-bytes", "-1"), "--max-bytes"),
        (("--max-bytes", "30", "--fraction", "0.5"), "--max-bytes"),
        (("--fraction", "1:0.125"), "--fraction"),
        (("--fraction", "clever"), "--fraction"),
        (("--spool", "s.db", "--spool-max", "0"), "--spool-max"),
    ],
)
def test_flags_that_are_wrong(flags: tuple[str, ...], text: str) -> None:
    done = run_client(*flags, "--wait", "0.2")
    assert done.status == 2
    assert text in done.err
    assert len(done.err.strip().splitlines()) == 1


def bits_of(seed: int, count: int) -> list[bytes]:
    """The packed bits of ``images(count, seed)``, which tell every sample from every other."""
    rows = [row.tobytes() for row in DeviceHalf(BUNDLE).run(images(count, seed), 2)]
    assert len(set(rows)) == count
    return rows


def seen_by(cloud: Cloud, first: int) -> list[bytes]:
    """The samples that reached the cloud since its request number ``first``."""
    return [
        request.frame.payload[start : start + 16]
        for request in cloud.seen[first:]
        for start in range(0, len(request.frame.payload), 16)
    ]


def waiting(path: Path) -> dict[int, bytes]:
    with Spool(path) as spool:
        return {one.id: one.bits for one in spool.oldest(10_000)}


async def test_device_killed_in_mid_run_loses_and_repeats_nothing(
    model: str, tmp_path: Path
) -> None:
    spool, port, cloud = tmp_path / "s.db", free_port(), Cloud(BUNDLE)
    command = client_command("--server", f"127.0.0.1:{port}", "--model", model)
    command += ["--spool", str(spool), "--fraction", "1.0", "--no-exit", "--output", "jsonl"]
    confirmed: set[bytes] = set()
    for seed in range(4):
        rows = bits_of(seed, 2000 if seed < 3 else 20)
        np.save(tmp_path / "many.npy", images(len(rows), seed))
        before = waiting(spool)
        first = len(cloud.seen)
        async with serve(cloud, port):
            device = await asyncio.to_thread(
                subprocess.Popen,
                [*command, "--input", str(tmp_path / "many.npy"), "--in-flight", "8"],
                cwd=ROOT,
                env=environment(),
                stdout=subprocess.PIPE,
            )
            reading = asyncio.create_task(asyncio.to_thread(device.communicate))
            if seed < 3:  # the last run may end in peace
                await until(lambda first=first: len(cloud.seen) > first + 100, 60)  # type: ignore[misc]
                device.send_signal(signal.SIGKILL)
            out, _ = await reading
        lines = [json.loads(line) for line in out.splitlines() if line.endswith(b"}")]
        assert lines
        sent, after = seen_by(cloud, first), waiting(spool)
        assert confirmed.isdisjoint(sent), "what was confirmed in an earlier run was sent again"
        told = [
            before[line["number"]] if line.get("late") else rows[line["index"]] for line in lines
        ]
        assert len(told) == len(set(told)), "an answer was given twice"
        assert set(told).isdisjoint(after.values()), "what was confirmed would be sent again"
        # Only what was confirmed, but not told any more before the kill, may be in neither.
        missing = (set(sent) | set(before.values())) - set(told) - set(after.values())
        assert len(missing) <= (8 + 64 if seed < 3 else 0)
        confirmed |= set(told) | missing
    assert not waiting(spool)


async def test_a_refused_token_ends_with_status_1_even_if_the_device_could_answer(
    model: str, pictures: str, tmp_path: Path
) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("gate-1 a-token-of-more-than-16\n")
    with start_server("--model", model, "--token-file", str(tokens)) as server:
        flags = ["--server", server.address, "--model", model, "--input", pictures]
        flags += ["--token", "wrong"]
        sent = await client(*flags, "--no-exit")
        stayed = await client(*flags, "--exit-threshold", "0")
        offline = await client(*flags, "--no-exit", "--start-offline", "--output", "json")
    assert [done.status for done in (sent, stayed, offline)] == [1, 1, 1]
    for done in (sent, stayed, offline):
        assert "refuses the token" in done.err.splitlines()[-1]
    assert offline.document["summary"]["sources"] == {"device": 20}


async def test_an_empty_token_variable_counts_as_unset_and_a_newline_goes(
    model: str, pictures: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud = Cloud(BUNDLE)
    async with serve(cloud) as address:
        flags = ["--server", address, "--model", model, "--input", pictures, "--no-exit"]
        for value in ("", "\n", "secret\r\n"):
            monkeypatch.setenv("TAPER_TOKEN", value)
            done = await client(*flags)
            assert done.status == 0, done.err
    sent = [metadata.get("authorization") for metadata in cloud.metadata]
    assert sent == [None, None, "Bearer secret"]


async def test_the_table_has_a_line_for_every_image(model: str, pictures: str) -> None:
    async with serve(Cloud(BUNDLE)) as address:
        flags = ("--server", address, "--model", model, "--input", pictures, "--in-flight", "5")
        done = await client(*flags, "--exit-threshold", "0", "--top-k", "2")
    assert done.status == 0, done.err
    lines = done.out.splitlines()
    assert lines[0].split() == [
        *("input", "answer", "confidence", "source", "fraction", "bytes", "latency", "candidates")
    ]
    assert [line.split()[0] for line in lines[1:21]] == [f"{pictures}[{n}]" for n in range(20)]
    assert all(line.count("%") == 3 and " device " in line for line in lines[1:21])


async def test_confidence_is_in_every_answer(model: str, pictures: str) -> None:
    with start_server("--model", model) as server:
        flags = ("--server", server.address, "--model", model, "--input", pictures)
        for exits in (("--no-exit",), ("--exit-threshold", "0")):
            done = await client(*flags, *exits, "--output", "json")
            for sample in done.document["samples"]:
                assert 0 < sample["confidence"] <= 1
                assert sample["candidates"] == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_prints_what_is_there_and_ends_with_its_status(
    model: str, pictures: str, number: signal.Signals
) -> None:
    async def stop_answering(request: Request) -> Response | None:
        if len(cloud.seen) > 5:
            await asyncio.Event().wait()
        return None

    cloud = Cloud(BUNDLE, stop_answering)
    async with serve(cloud) as address:
        flags = ("--server", address, "--model", model, "--input", pictures, "--no-exit")
        process = await asyncio.create_subprocess_exec(
            *client_command(*flags, "--output", "json", "--timeout", "60"),
            cwd=ROOT,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        await until(lambda: len(cloud.seen) > 5, 60)
        process.send_signal(number)
        out, err = await process.communicate()
    assert process.returncode == 128 + number, err
    assert json.loads(out)["summary"]["answered"] == 5


async def test_lines_arrive_one_by_one(model: str, pictures: str) -> None:
    async def stop_answering(request: Request) -> Response | None:
        if len(cloud.seen) > 3:
            await going_on.wait()
        return None

    cloud, going_on = Cloud(BUNDLE, stop_answering), asyncio.Event()
    variables = {name: value for name, value in environment().items() if name != "PYTHONUNBUFFERED"}
    async with serve(cloud) as address:
        flags = ("--server", address, "--model", model, "--input", pictures, "--no-exit")
        process = await asyncio.create_subprocess_exec(
            *client_command(*flags, "--output", "jsonl", "--timeout", "60"),
            cwd=ROOT,
            env=variables,
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        async with asyncio.timeout(60):
            first = [json.loads(await process.stdout.readline()) for _ in range(3)]
        assert [line["index"] for line in first] == [0, 1, 2]
        assert len(cloud.seen) <= 4  # the fourth has no answer yet
        going_on.set()
        await process.communicate()
    assert process.returncode == 0


@pytest.mark.parametrize("output", ["table", "json", "jsonl"])
def test_a_full_disk_gives_one_line(model: str, pictures: str, output: str) -> None:
    command = client_command("--model", model, "--input", pictures, "--output", output)
    command += ["--start-offline", "--exit-threshold", "0", "--server", "localhost:1"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, cwd=ROOT, env=environment(), text=True
        )
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "error: the output cannot be written (No space left on device)"
    ]


def test_a_full_disk_gives_one_line_for_the_version_too() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            client_command("--version"), stdout=full, stderr=subprocess.PIPE, cwd=ROOT, text=True
        )
    assert done.returncode == 1
    assert done.stderr == "error: the output cannot be written (No space left on device)\n"
