"""The dashboard behind the HAProxy that ships: TLS, passwords, roles, a path prefix."""

from __future__ import annotations

import base64
import os
import shutil
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.broker import mosquitto
from tests.support.browser import dashboard
from tests.support.clouds import free_port
from tests.support.processes import ROOT
from tests.support.proxies import need_haproxy

DEPLOY = ROOT / "deploy" / "haproxy"
PEOPLE = {"alice": "operator", "bob": "viewer"}


@dataclass
class Site:
    """The proxy's address, its certificate, and the dashboard's own address behind it."""

    url: str
    certificate: Path
    behind: str

    def get(self, path: str, user: str = "", **headers: str) -> tuple[int, str]:
        """Status and text of a page."""
        request = urllib.request.Request(self.url + path)
        if user:
            word = base64.b64encode(f"{user}:secret-{user}".encode()).decode()
            request.add_header("Authorization", f"Basic {word}")
        for name, value in headers.items():
            request.add_header(name.replace("_", "-"), value)
        context = ssl.create_default_context(cafile=str(self.certificate))
        try:
            with urllib.request.urlopen(request, timeout=20, context=context) as got:
                return got.status, got.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()


def password(user: str) -> str:
    """A line of ``people.cfg``."""
    words = ["openssl", "passwd", "-5", f"secret-{user}"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return f"    user {user} password {done.stdout.strip()}\n"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    need_haproxy()
    folder = tmp_path_factory.mktemp("people")
    certificate, key = folder / "page.crt", folder / "page.key"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    files = ["-nodes", "-keyout", str(key), "-out", str(certificate), "-days", "2"]
    subprocess.run([*make, *files, *subject], check=True, capture_output=True)
    (folder / "page.pem").write_text(certificate.read_text() + key.read_text())
    text = (DEPLOY / "people.cfg").read_text()
    lines = [line for line in text.splitlines() if not line.strip().startswith("user ")]
    people = folder / "people.cfg"
    people.write_text("\n".join(lines) + "\n" + "".join(map(password, PEOPLE)))
    port = free_port()
    with ExitStack() as stack:
        broker = stack.enter_context(mosquitto(folder / "broker"))
        flags = ("--broker", broker.url, "--trust-header", "X-Taper-User")
        behind = stack.enter_context(dashboard(folder / "log", *flags))
        settings = {
            "TAPER_PAGE_BIND": f"127.0.0.1:{port}",
            "TAPER_PAGE_CERT": str(folder / "page.pem"),
            "TAPER_PAGE_SERVER": behind.removeprefix("http://"),
        }
        words = ["haproxy", "-f", str(DEPLOY / "dashboard.cfg"), "-f", str(people)]
        proxy = subprocess.Popen(
            [shutil.which("haproxy") or "/usr/sbin/haproxy", *words[1:]],
            env={**os.environ, **settings},
        )
        stack.callback(proxy.wait, 20)
        stack.callback(proxy.terminate)
        made = Site(f"https://localhost:{port}", certificate, behind)
        wait_for(made)
        yield made


def wait_for(site: Site) -> None:
    end_s = time.monotonic() + 30
    while True:
        try:
            assert site.get("/fleet/")[0] == 401
            return
        except (urllib.error.URLError, AssertionError):
            if time.monotonic() > end_s:
                raise
            time.sleep(0.2)


def test_nobody_gets_in_without_a_password(site: Site) -> None:
    assert site.get("/fleet/")[0] == 401
    assert site.get("/fleet/", "mallory")[0] == 401
    assert site.get("/", "alice")[0] == 403  # outside of the prefix


def test_people_have_the_role_that_the_proxy_says(site: Site) -> None:
    status, page = site.get("/fleet/", "alice")
    assert status == 200
    assert "alice, operator" in page
    assert '"data-testid":"set"' in page
    status, page = site.get("/fleet/", "bob", X_Taper_Role="operator", X_Taper_User="alice")
    assert status == 200
    assert "bob, viewer" in page
    assert '"data-testid":"set"' not in page
    assert "an operator changes settings" in page


def test_a_page_of_another_site_cannot_call_it(site: Site) -> None:
    path = "/fleet/_nicegui_ws/socket.io/?EIO=4&transport=polling"
    assert site.get(path, "alice")[0] != 403
    status, text = site.get(path, "alice", Origin="https://evil.example")
    assert (status, "another site" in text) == (403, True)


def test_the_page_cannot_be_reached_past_the_proxy_without_a_name(site: Site) -> None:
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(site.behind, timeout=10)


async def test_links_and_files_are_under_the_prefix(
    site: Site, tmp_path_factory: pytest.TempPathFactory
) -> None:
    status, page = site.get("/fleet/", "alice")
    assert (status, "/fleet/_nicegui/" in page) == (200, True)
    assert 'src="/_nicegui' not in page
