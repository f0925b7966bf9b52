"""A browser as a member of a fleet: a broker with TLS, passwords, rules and WebSockets."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from cloud.fleet.__main__ import main
from cloud.playground.application import LIBRARY, STATIC
from cloud.playground.enrolment import Enrolments
from device.web.broker_library import is_library
from shared.errors import UnauthenticatedError, UsageError
from shared.fleet.codes import code_file, new_code
from tests.support.broker import DEPLOY, Mosquitto, need_mosquitto
from tests.support.browser import browser, dashboard
from tests.support.clouds import free_port
from tests.support.fleets import process, wait_for_line
from tests.support.playgrounds import Page, long, playground
from tests.support.processes import ROOT, environment, start_server

pytestmark = pytest.mark.alone

FLEET = "city"


@dataclass
class Site:
    """A page that may join a fleet, the fleet's broker and the recorder's store."""

    page: Page
    broker: Mosquitto
    store: Path

    def operator(self, *words: str) -> subprocess.CompletedProcess[str]:
        """``cloud.fleet`` as the operator."""
        return self.fleet_command(words[0], *words[1:], *self.access("operator"))

    def access(self, user: str) -> tuple[str, ...]:
        password = credentials(self.broker.folder)[user]
        ca = str(self.broker.folder / "ca.crt")
        url = f"mqtts://localhost:{self.broker.port}"
        who = ("--user", user, "--password", password)
        return ("--broker", url, "--fleet", FLEET, *who, "--ca", ca)

    def fleet_command(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "cloud.fleet", *words]
        return subprocess.run(
            command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=60
        )

    def code(self, device: str) -> str:
        done = self.fleet_command(
            "enrol", device, "--folder", str(self.broker.folder), "--fleet", FLEET
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[0]

    def join(self, code: str) -> None:
        self.page.tab.named("code").clear()
        self.page.tab.named("code").send_keys(code)
        self.page.tab.named("join").click()

    def telemetry(self) -> list[sqlite3.Row]:
        """All stored telemetry, by number."""
        with closing(sqlite3.connect(self.store)) as database:
            database.row_factory = sqlite3.Row
            return database.execute("SELECT * FROM telemetry ORDER BY sequence").fetchall()


def credentials(folder: Path) -> dict[str, str]:
    lines = (folder / "credentials.csv").read_text().splitlines()
    return dict(line.split(",") for line in lines)


def secured_broker(folder: Path, websockets: int) -> Mosquitto:
    need_mosquitto()
    port = free_port()
    script = [sys.executable, str(DEPLOY / "provision.py"), str(folder), "--fleet", FLEET]
    ports = ["--port", str(port), "--websockets", str(websockets)]
    subprocess.run([*script, *ports], check=True, capture_output=True)
    settings = folder / "mosquitto.conf"
    if os.geteuid() == 0:  # as another user it could not read a test's folder
        settings.write_text("user root\n" + settings.read_text())
    return Mosquitto(folder, port, settings)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("fleet")
    websockets, rest = free_port(), free_port()
    store = folder / "store.sqlite"
    with ExitStack() as stack:
        broker = secured_broker(folder / "broker", websockets)
        broker.start()
        stack.callback(broker.kill)
        stack.enter_context(start_server("--http-port", str(rest)))
        flags = ["--server", f"http://127.0.0.1:{rest}"]
        flags += ["--websockets", f"wss://localhost:{websockets}"]
        flags += ["--enrolments", str(folder / "broker" / "enrolments")]
        url = stack.enter_context(playground(folder / "log", *flags, fleet=True))
        tab = stack.enter_context(browser("--ignore-certificate-errors"))
        made = Site(Page(tab, url), broker, store)
        record = ("record", *made.access("controller"), "--store", str(store))
        recorder = stack.enter_context(process("cloud.fleet", *record, log=folder / "log"))
        wait_for_line(recorder, "record")
        made.page.open()
        yield made


@long
def test_a_browser_joins_obeys_reports_and_goes_on_after_a_reload(
    site: Site, tmp_path: Path
) -> None:
    tab = site.page.tab
    code = site.code("phone")
    site.join(code)
    tab.until(lambda: tab.text("member-state") == "connected")
    assert tab.text("member-name") == "phone"
    wanted = ("fraction=0.75", "rate_per_s=10", "telemetry_s=1")
    done = site.operator("set", "phone", *wanted)
    assert done.returncode == 0, done.stdout + done.stderr
    assert tab.text("d-value") == "0.75"
    tab.until(lambda: any(row["answered_device"] > 3 for row in site.telemetry()[1:]))
    assert tab.errors() == []

    with dashboard(tmp_path / "log", *site.access("dashboard")) as url:
        page = tab.driver.current_window_handle
        tab.driver.switch_to.new_window("tab")
        tab.open(url)
        tab.until(lambda: "phone" in tab.page())
        tab.driver.close()
        tab.driver.switch_to.window(page)

    site.page.open()
    tab.until(lambda: tab.text("member-state") == "connected")
    assert tab.text("d-value") == "0.75"
    tab.until(lambda: site.telemetry()[-1]["session"] == 2)
    numbers = [row["sequence"] for row in site.telemetry()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len({row["epoch"] for row in site.telemetry()}) == 1

    done = site.operator("set", "phone", "fraction=auto")
    assert done.returncode == 1
    assert "a browser takes numbers" in done.stdout + done.stderr

    site.broker.kill()
    tab.until(lambda: tab.text("member-state") == "not connected")
    site.broker.start()
    tab.until(lambda: tab.text("member-state") == "connected")

    tab.named("leave").click()
    tab.until(lambda: tab.named("code").is_displayed())
    site.join(code)
    tab.until(lambda: tab.text("join-note").startswith("code: is not known, was used"))


def test_a_code_is_good_once_and_not_for_long(tmp_path: Path) -> None:
    code = new_code()
    content = {"fleet": FLEET, "device": "one", "user": "city/one", "password": "x"}
    waiting = Enrolments(tmp_path)
    for until, good in ((2e10, True), (1.0, False)):
        path = code_file(tmp_path, code)
        path.write_text(json.dumps({**content, "until_unix_s": until}))
        assert code not in path.name
        if good:
            assert waiting.redeem(code.lower().replace("-", " ")) == content
        for _ in range(2):
            with pytest.raises(UnauthenticatedError, match="is not known, was used, or is too old"):
                waiting.redeem(code)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("a b",), "DEVICE: 'a b' is no name"),
        (("one", "--valid", "soon"), "--valid: 'soon' is not allowed"),
        (("one",), "passwords is missing; deploy/mosquitto/provision.py makes it"),
    ],
)
def test_what_cannot_be_enrolled_is_one_line(
    words: tuple[str, ...], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["enrol", *words, "--folder", str(tmp_path)])
    assert ended.value.code == UsageError.exit_status
    assert says in capsys.readouterr().err


def test_the_library_for_brokers_is_the_version_that_is_wanted() -> None:
    library = STATIC / "device" / LIBRARY
    assert not library.exists() or is_library(library)
