"""``python -m cloud.health`` against a real server: one line and an exit status."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from tests.integration.cloud.test_server_security import device, make_certificates, tls
from tests.support.clouds import free_port
from tests.support.processes import Finished, Server, run
from tests.support.served import PATIENCE_S, serve

PAPER = "mnist-binary-paper"


def probe(*words: str) -> Finished:
    """Run the probe to its end."""
    return run([sys.executable, "-m", "cloud.health", *words])


def only_line(done: Finished) -> str:
    """The one line that the probe writes, on whichever stream."""
    lines = (done.out + done.err).splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_a_server_and_its_models_are_well(server: Server) -> None:
    for words in ((server.address,), (server.address, "--model", PAPER)):
        done = probe(*words)
        assert done.status == 0, done
        assert only_line(done).endswith(": SERVING")
    unknown = probe(server.address, "--model", "no-such-model")
    assert unknown.status == 1
    assert "NOT_FOUND" in only_line(unknown)


def test_no_server_and_one_that_says_nothing() -> None:
    away = probe(f"127.0.0.1:{free_port()}", "--timeout", "1")
    assert away.status == 1
    assert "UNAVAILABLE" in only_line(away)
    with serve("--model", PAPER) as served:
        served.process.send_signal(signal.SIGSTOP)
        try:
            silent = probe(served.address, "--timeout", "0.5")
        finally:
            served.process.send_signal(signal.SIGCONT)
        assert silent.status == 1
        assert "DEADLINE_EXCEEDED" in only_line(silent)
        assert probe(served.address, "--timeout", str(PATIENCE_S)).status == 0


def test_over_mutual_tls(tmp_path: Path) -> None:
    folder = make_certificates(tmp_path / "tls")
    trusted = device(folder, folder)[1:]
    with serve("--model", PAPER, *tls(folder, "ca.crt")) as served:
        assert probe(served.address, *trusted).status == 0
        assert probe(served.address, *trusted, "--server-name", "localhost").status == 0
        for words in ((), ("--ca", str(folder / "ca.crt")), (*trusted, "--server-name", "other")):
            kept_out = probe(served.address, *words, "--timeout", "5")
            assert kept_out.status == 1, kept_out
            assert "UNAVAILABLE" in only_line(kept_out)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("nowhere",), "HOST:PORT"),
        (("host:0",), "HOST:PORT"),
        (("--timeout", "0"), "--timeout"),
        (("--timeout", "nan"), "--timeout"),
        (("--timeout", "soon"), "--timeout"),
        (("--cert", "a"), "--cert and --key"),
        (("--ca", "no-such-file"), "--ca: no-such-file cannot be read"),
        (("--mode", "x"), "--mode"),
    ],
)
def test_wrong_flags_are_named(words: tuple[str, ...], text: str) -> None:
    done = probe(*words)
    assert done.status == 2, done
    assert text in only_line(done)
