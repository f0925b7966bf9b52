"""The playground's host without a browser: policy, origins, limits, certificates, bad flags."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from cloud.playground.__main__ import main
from cloud.playground.application import INFER, LARGEST_QUESTION, check_built
from shared.bundles import bundle_path
from shared.data.sample import sample_digits
from shared.errors import UsageError
from shared.model.bundle import read_bundle
from shared.packed import DeviceHalf
from tests.support.clouds import free_port
from tests.support.playgrounds import long, playground
from tests.support.processes import start_server

TOKEN = "a-token-of-more-than-16"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A playground whose cloud server wants a token."""
    folder = tmp_path_factory.mktemp("playground")
    (folder / "tokens").write_text(f"page {TOKEN}\n")
    port = free_port()
    flags = ("--http-port", str(port), "--token-file", str(folder / "tokens"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAPER_TOKEN", TOKEN)
        with (
            start_server(*flags, "--model", "mnist-binary"),
            playground(folder / "log", "--server", f"http://localhost:{port}") as address,
        ):
            yield address


def ask(
    url: str, method: str, path: str, body: bytes = b"", **headers: str
) -> tuple[int, bytes, dict[str, str]]:
    place = urlsplit(url).netloc
    if place.startswith("127.") and url.startswith("https"):
        trusting = ssl._create_unverified_context()
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            place, context=trusting, timeout=20
        )
    else:
        connection = http.client.HTTPConnection(place, timeout=20)
    try:
        connection.request(method, path, body or None, headers)
        answer = connection.getresponse()
        return answer.status, answer.read(), {k.lower(): v for k, v in answer.headers.items()}
    finally:
        connection.close()


def question() -> bytes:
    half, (images, _) = DeviceHalf(read_bundle(bundle_path("mnist-binary"))), sample_digits()
    (row,) = half.run(images[:1, :, :, None], 2).tolist()
    tensor = {"name": "features", "datatype": "UINT8", "shape": [1, len(row)], "data": row}
    return json.dumps({"parameters": {"level": 2}, "inputs": [tensor]}).encode()


def test_everything_is_served_with_a_policy_that_allows_no_inline_script(url: str) -> None:
    for path in ("/", "/static/app.js", "/static/device/taper.wasm", "/digits", "/nothing"):
        _, _, headers = ask(url, "GET", path)
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self' 'wasm-unsafe-eval';" in policy
        assert "unsafe-inline" not in policy
        assert headers["x-content-type-options"] == "nosniff"
    page = ask(url, "GET", "/")[1].decode()
    assert "://" not in page
    assert "style=" not in page


def test_the_page_may_ask_and_the_token_stays_on_the_host(url: str) -> None:
    status, body, _ = ask(url, "POST", INFER, question(), Origin=url)
    assert status == 200, body
    assert json.loads(body)["model_name"] == "mnist-binary"
    assert json.loads(ask(url, "GET", "/cloud")[1]) == {"ready": True}
    for path in ("/", "/static/app.js", "/static/device/mnist-binary.json"):
        assert TOKEN.encode() not in ask(url, "GET", path)[1]


@pytest.mark.parametrize("origin", [{}, {"Origin": "https://elsewhere.example"}])
def test_pages_of_other_origins_may_not_ask(url: str, origin: dict[str, str]) -> None:
    status, body, _ = ask(url, "POST", INFER, question(), **origin)
    assert (status, body) == (403, b"origin: only this page may ask\n")


def test_names_that_are_not_this_machines_are_refused(url: str) -> None:
    for host, status in (("elsewhere.example", 403), ("localhost", 200), ("[::1]:80", 200)):
        assert ask(url, "GET", "/", Host=host)[0] == status


def test_what_is_too_large_or_asks_for_more_than_the_page_needs_is_refused(url: str) -> None:
    status, body, _ = ask(url, "POST", INFER, b"x" * (LARGEST_QUESTION + 1), Origin=url)
    assert status == 413
    assert b"body: more than" in body
    assert ask(url, "POST", "/v2/repository/models/mnist-binary/unload", b"", Origin=url)[0] == 404
    status, body, _ = ask(url, "POST", INFER, b"no json", Origin=url)
    assert (status, json.loads(body)) == (400, {"error": "body: is no JSON"})


@long
def test_a_self_signed_certificate_makes_it_https(tmp_path: Path) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    with playground(tmp_path / "log", "--self-signed", "--server", nobody) as secure:
        assert secure.startswith("https://127.0.0.1:")
        assert ask(secure, "GET", "/")[0] == 200
        status, body, _ = ask(secure, "POST", INFER, question(), Origin=secure)
        assert status == 502
        assert json.loads(body)["error"].startswith("cloud: cannot be reached")
        assert json.loads(ask(secure, "GET", "/cloud")[1]) == {"ready": False}


def test_a_device_half_that_was_not_built_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"taper\.wasm.* missing; in a checkout 'make web'"):
        check_built(False, tmp_path)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--server", "localhost:8000"), "--server: 'localhost:8000' is not allowed"),
        (("--server", "http://x:99999"), "--server: 'http://x:99999' is not allowed"),
        (("--tls-cert", "x"), "--tls-cert, --tls-key: give both or none"),
        (("--self-signed", "--tls-cert", "x", "--tls-key", "y"), "--self-signed: --tls-cert is"),
        (("--tls-cert", "x", "--tls-key", "y"), "--tls-cert: x cannot be read"),
        (("--server", "https://x", "--ca", "nothing"), "--ca: nothing cannot be read"),
        (("--host", "192.0.2.1"), "--host/--port: cannot listen on 192.0.2.1:"),
    ],
)
def test_a_wrong_flag_is_one_line(
    url: str, flags: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(flags)
    assert ended.value.code == UsageError.exit_status
    said = capsys.readouterr().err
    assert said.startswith(f"error: {says}")
    assert len(said.splitlines()) == 1
