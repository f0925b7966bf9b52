"""TLS and tokens of a real server: who gets in, what is replaced while it runs, what is logged."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from protos.split.v1 import split_pb2, split_pb2_grpc
from tests.support.debian import need
from tests.support.processes import ROOT, Finished, run
from tests.support.served import Served, classify, eventually, serve

PAPER = "mnist-binary-paper"
TOKEN = "gate-1-token-of-many-letters"
NEXT_TOKEN = "gate-1-next-token-of-many-letters"


def make_certificates(folder: Path) -> Path:
    """A new authority, a server's certificate for localhost and a client's."""
    command = [str(ROOT / "deploy" / "tls" / "make-certificates"), str(folder)]
    need("tls", "openssl")
    subprocess.run(command, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates of the authority that everybody here trusts."""
    return make_certificates(tmp_path_factory.mktemp("ours"))


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates of an authority that nobody here trusts."""
    return make_certificates(tmp_path_factory.mktemp("strangers"))


def tls(folder: Path, ca: str = "") -> tuple[str, ...]:
    """The server's flags for TLS, mutual if ``ca`` is named."""
    flags = ("--tls-cert", str(folder / "server.crt"), "--tls-key", str(folder / "server.key"))
    return (*flags, "--client-ca", str(folder / ca)) if ca else flags


def device(folder: Path, own: Path | None = None) -> tuple[str, ...]:
    """The device's flags: what it trusts, and its own certificate."""
    flags: tuple[str, ...] = ("--tls", "--ca", str(folder / "ca.crt"))
    if own is not None:
        flags += ("--cert", str(own / "client.crt"), "--key", str(own / "client.key"))
    return flags


def assert_kept_out(done: Finished, text: str, status: int = 3) -> None:
    """The client ended with ``status`` and one line that says ``text``."""
    assert done.status == status, done
    lines = done.err.strip().splitlines()
    assert len(lines) == 1, lines
    assert text in lines[0]


def shown(served: Served) -> str:
    """The certificate that the server shows to a new connection."""
    host, _, port = served.address.rpartition(":")
    return ssl.get_server_certificate((host, int(port)), timeout=10).strip()


def test_tls_keeps_out_who_does_not_speak_it_and_serves_who_trusts(
    ours: Path, strangers: Path
) -> None:
    with serve("--model", PAPER, *tls(ours)) as served:
        assert classify(served, *device(ours)).document["summary"]["answered"] == 200
        assert_kept_out(classify(served), "speaks TLS; add --tls")
        assert_kept_out(classify(served, *device(strangers)), "issued by an unknown authority")


def test_mutual_tls_wants_a_certificate_of_its_own_authority(ours: Path, strangers: Path) -> None:
    with serve("--model", PAPER, *tls(ours, "ca.crt")) as served:
        assert classify(served, *device(ours, ours)).document["summary"]["answered"] == 200
        assert_kept_out(classify(served, *device(ours)), "asks for a client certificate")
        refused = classify(served, *device(ours, strangers))
        assert_kept_out(refused, "refuses the certificate of --cert")


@pytest.fixture
def replaceable(ours: Path, tmp_path: Path) -> Iterator[tuple[Served, Path, Path]]:
    """A server whose certificate may be replaced, the folder of it, and the server's log."""
    folder, log = tmp_path / "tls", tmp_path / "log"
    shutil.copytree(ours, folder)
    with serve("--model", PAPER, *tls(folder), log=log) as served:
        yield served, folder, log


def test_a_certificate_replaced_while_running_is_shown_to_new_connections(
    replaceable: tuple[Served, Path, Path],
) -> None:
    served, folder, log = replaceable
    credentials = grpc.ssl_channel_credentials((folder / "ca.crt").read_bytes())
    with grpc.secure_channel(f"localhost:{served.address.rpartition(':')[2]}", credentials) as old:
        check = health_pb2_grpc.HealthStub(old).Check
        check(health_pb2.HealthCheckRequest(), timeout=10)
        before = shown(served)
        (folder / "server.crt").unlink()
        make_certificates(folder)  # of the same authority, as at a renewal
        assert shown(served) == (folder / "server.crt").read_text().strip() != before
        assert check(health_pb2.HealthCheckRequest(), timeout=10).status == 1  # still connected
    assert classify(served, *device(folder)).document["summary"]["answered"] == 200
    assert "the certificate was read again" in log.read_text()


def test_certificate_files_that_are_no_good_leave_the_old_certificate(
    replaceable: tuple[Served, Path, Path], strangers: Path
) -> None:
    served, folder, log = replaceable
    before = shown(served)
    bad = {
        "server.crt": [b"", b"-----BEGIN CERTIFICATE-----\nbm90aGluZw==\n", b"\xff\x00" * 50],
        "server.key": [(strangers / "server.key").read_bytes(), b"-----BEGIN EC PRIVATE KEY-----"],
    }
    for name, contents in bad.items():
        good = (folder / name).read_bytes()
        for content in contents:
            (folder / name).write_bytes(content)
            assert shown(served) == before
        (folder / name).unlink()
        assert shown(served) == before
        (folder / name).write_bytes(good)
        assert shown(served) == before
    assert classify(served, *device(folder)).document["summary"]["answered"] == 200
    kept = [line for line in log.read_text().splitlines() if "stays as it was" in line]
    assert len(kept) == 5, kept
    assert any("--tls-key" in line and "is not the key of --tls-cert" in line for line in kept)


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("server.crt", "-----BEGIN CERTIFICATE-----\nbm90aGluZw==\n", "--tls-cert: is no cert"),
        ("server.key", "-----BEGIN EC PRIVATE KEY-----\nAAAA\n", "is no key in PEM"),
        ("server.key", "stranger", "is not the key of --tls-cert"),
        ("ca.crt", "hello", "--client-ca: is no certificate"),
    ],
)
def test_a_bad_certificate_file_at_the_start_is_named(
    ours: Path, strangers: Path, tmp_path: Path, workers: str, name: str, content: str, text: str
) -> None:
    folder = tmp_path / "tls"
    shutil.copytree(ours, folder)
    (folder / name).write_text((strangers / name).read_text() if content == "stranger" else content)
    command = [sys.executable, "-m", "cloud.server", "--port", "0", "--workers", workers]
    done = run([*command, *tls(folder, "ca.crt")])
    assert done.status == 2, done
    assert text in done.err
    assert len(done.err.strip().splitlines()) == 1, done.err


def test_bad_certificates_of_a_device_are_named(
    ours: Path, strangers: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.pem"
    bad.write_text("-----BEGIN CERTIFICATE-----\nbm90aGluZw==\n")
    mixed = ("--cert", str(ours / "client.crt"), "--key", str(strangers / "client.key"))
    cases = {
        "--ca: is no certificate": ("--tls", "--ca", str(bad)),
        "is not the key of --cert": (*device(ours), *mixed),
    }
    for text, flags in cases.items():
        done = run([sys.executable, "-m", "device.client", "--server", "localhost:1", *flags])
        assert done.status == 2, done
        assert text in done.err
        assert len(done.err.strip().splitlines()) == 1, done.err


def test_tokens_are_read_again_and_never_logged(ours: Path, tmp_path: Path) -> None:
    tokens, log = tmp_path / "tokens", tmp_path / "log"
    tokens.write_text(f"gate-1 {TOKEN}\n")
    flags = ("--token-file", str(tokens), "--log-level", "debug", "--log-format", "json")
    with serve("--model", PAPER, *flags, *tls(ours), log=log) as served:
        assert classify(served, *device(ours), "--token", TOKEN).status == 0
        wrong = classify(served, *device(ours), "--token", NEXT_TOKEN)
        assert_kept_out(wrong, "refuses the token", status=1)
        assert status_of(served, ours, NEXT_TOKEN) == "authorization: this token is not known here"
        assert status_of(served, ours, None) == "authorization: a bearer token is needed here"

        tokens.write_text(f"gate-1 {NEXT_TOKEN}\n")
        eventually(lambda: status_of(served, ours, NEXT_TOKEN) == "")
        assert status_of(served, ours, TOKEN) != ""
        tokens.write_text("gate-1 short\n")
        eventually(lambda: "tokens stay as they were" in log.read_text())
        assert status_of(served, ours, NEXT_TOKEN) == ""
        assert served.sample("taper_requests_total", status="UNAUTHENTICATED") >= 1
    lines = log.read_text()
    assert "read again" in lines
    assert TOKEN not in lines
    assert NEXT_TOKEN not in lines
    assert "short" not in lines


def status_of(served: Served, folder: Path, token: str | None) -> str:
    """The detail of UNAUTHENTICATED that a call with ``token`` gets; "" if it is let in."""
    credentials = grpc.ssl_channel_credentials((folder / "ca.crt").read_bytes())
    metadata = () if token is None else (("authorization", f"Bearer {token}"),)
    with grpc.secure_channel(served.address, credentials) as channel:
        ask = split_pb2_grpc.SplitInferenceStub(channel).GetModel
        try:
            ask(split_pb2.GetModelRequest(model=PAPER), metadata=metadata, timeout=10)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNAUTHENTICATED:
                return str(error.details())
            raise
    return ""
