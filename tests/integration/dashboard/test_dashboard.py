"""The dashboard as people see it: a real browser, broker, fleet and cloud server."""

from __future__ import annotations

import getpass
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from cloud.dashboard.__main__ import main
from tests.support.broker import Mosquitto, mosquitto
from tests.support.browser import DESKTOP, PHONE, Browser, browser, dashboard
from tests.support.clouds import free_port
from tests.support.fleets import process
from tests.support.processes import start_server

pytestmark = pytest.mark.alone

DEVICES = 8
SCENARIO = "name: quick\nduration: 1h\nsettings: {rate_per_s: 3, telemetry_s: 1}\n"


@dataclass
class Shown:
    """A dashboard in a browser, and the broker behind it."""

    browser: Browser
    url: str
    broker: Mosquitto
    store: Path

    def online(self, count: int) -> None:
        self.browser.until(lambda: self.browser.text("online") == str(count))

    def set_all(self) -> None:
        """Set what is chosen, and say that all devices are meant."""
        found = self.browser.driver.find_elements
        self.browser.press("set")
        self.browser.press("confirm")
        self.browser.until(lambda: not found(By.CSS_SELECTOR, "[data-testid=confirm]"))

    def choose(self, name: str, text: str) -> None:
        self.browser.press(name)
        option = f"//div[contains(@class, 'q-menu')]//*[text()='{text}']"
        found = self.browser.driver.find_elements
        self.browser.press_on(By.XPATH, option)
        self.browser.until(lambda: not found(By.CSS_SELECTOR, ".q-menu"))


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    folder = tmp_path_factory.mktemp("dashboard")
    scenario = folder / "quick.yaml"
    scenario.write_text(SCENARIO)
    store = folder / "store.sqlite"
    with ExitStack() as stack:
        broker = stack.enter_context(mosquitto(folder / "broker"))
        metrics = free_port()
        server = stack.enter_context(start_server("--metrics-port", str(metrics)))
        to_broker = ("--broker", broker.url)
        fleet = ["--devices", str(DEVICES), "--server", server.address, *to_broker]
        fleet += ["--scenario", str(scenario), "--ledger", str(folder / "ledger")]
        stack.enter_context(process("device.fleet", *fleet, log=folder / "fleet.log"))
        keep = ["record", *to_broker, "--store", str(store)]
        stack.enter_context(process("cloud.fleet", *keep, log=folder / "controller.log"))
        page = f"http://127.0.0.1:{metrics}/metrics"
        flags = (*to_broker, "--metrics", page, "--store", str(store))
        url = stack.enter_context(dashboard(folder / "dashboard.log", *flags))
        yield Shown(stack.enter_context(browser()), url, broker, store)


def test_fleet_is_shown_and_follows(shown: Shown) -> None:
    tab = shown.browser
    tab.open(shown.url)
    shown.online(DEVICES)
    rows = tab.driver.find_elements(By.CSS_SELECTOR, "[data-testid=devices] tbody tr")
    assert len(rows) == DEVICES
    tab.until(lambda: "requests/s" in tab.page())  # the cloud's page was read twice
    first = tab.page()
    tab.until(lambda: tab.page() != first)  # nobody reloads it
    charts = tab.driver.find_elements(By.CSS_SELECTOR, "canvas")
    assert len(charts) == 6
    groups = tab.driver.find_elements(By.CSS_SELECTOR, "[data-testid=groups] tbody tr")
    assert [row.text.split()[:3] for row in groups] == [["devices", str(DEVICES), str(DEVICES)]]
    assert tab.errors() == []


def test_fraction_that_is_set_is_reported(shown: Shown) -> None:
    tab = shown.browser
    tab.open(shown.url)
    shown.online(DEVICES)
    shown.choose("fraction", "0.25")
    shown.set_all()
    tab.until(lambda: tab.text("pending") == f"{DEVICES} of {DEVICES} reported")
    cells = (
        "return [...document.querySelectorAll('[data-testid=devices] tbody tr')]"
        ".map(row => row.children[4].innerText.trim())"
    )
    tab.until(lambda: tab.driver.execute_script(cells) == ["0.25"] * DEVICES)
    # The audit trail says who, what and what came of it; it is in the store too.
    tab.until(lambda: f"{DEVICES} of {DEVICES} reported" in tab.text("changes"))
    assert f"{getpass.getuser()} all fraction=0.25 " in " ".join(tab.text("changes").split())
    with closing(sqlite3.connect(shown.store)) as database:
        rows = database.execute("SELECT who, target, what, result FROM change").fetchall()
    result = f"{DEVICES} of {DEVICES} reported"
    assert rows == [(getpass.getuser(), "all", "fraction=0.25", result)]
    assert tab.errors() == []


def test_every_setting_can_be_set_and_a_wrong_value_is_named(shown: Shown) -> None:
    tab = shown.browser
    tab.open(f"{shown.url}/device/device-00001")
    shown.choose("setting", "audit_rate")
    tab.named("value").send_keys("7")
    tab.press("set")
    tab.until(lambda: "audit_rate: 7.0 is not allowed; give 0 to 1" in tab.page())
    tab.named("value").send_keys(Keys.BACKSPACE, "0.5")
    tab.press("set")
    tab.until(lambda: tab.text("pending") == "1 of 1 reported")
    tab.until(lambda: "audit_rate 0.5 0.5" in " ".join(tab.text("settings").split()))


def test_the_page_of_a_device_shows_its_last_values(shown: Shown) -> None:
    tab = shown.browser
    tab.open(shown.url)
    shown.online(DEVICES)
    # In one step: the table is filled anew every second.
    click = "const a = document.querySelector('[data-testid=devices] tbody a'); a.click();"
    name = tab.driver.execute_script(f"{click} return a.innerText.trim()")
    tab.until(lambda: tab.driver.current_url.endswith(f"/device/{name}"))
    tab.until(lambda: "Where answers came from" in tab.page() and "online" in tab.page())
    assert len(tab.driver.find_elements(By.CSS_SELECTOR, "canvas")) == 4
    shown.choose("fraction", "0.75")
    tab.press("set")
    tab.until(lambda: tab.text("pending") == "1 of 1 reported")
    tab.open(f"{shown.url}/device/nobody")
    tab.until(lambda: "nothing of it in fleet" in tab.page())
    assert tab.errors() == []


def test_a_phone_needs_no_sideways_scrolling(shown: Shown) -> None:
    tab = shown.browser
    tab.like(PHONE, dark=True)
    try:
        tab.open(shown.url)
        shown.online(DEVICES)
        width = tab.driver.execute_script("return document.documentElement.scrollWidth")
        assert width == PHONE[0]
        headings = (
            "return [...document.querySelectorAll('[data-testid=devices] thead th')]"
            ".filter(one => one.offsetParent)"
            ".map(one => one.innerText.replace('arrow_upward', '').trim())"
        )
        assert tab.driver.execute_script(headings) == [
            "device", "state", "battery", "d", "right, %",
        ]  # fmt: skip
        dark = "return document.body.classList.contains('body--dark')"
        assert tab.driver.execute_script(dark)
    finally:
        tab.like(DESKTOP)


def test_the_page_shows_that_the_broker_is_away_and_back(shown: Shown) -> None:
    tab = shown.browser
    tab.open(shown.url)
    shown.online(DEVICES)
    shown.broker.kill()
    tab.until(lambda: "broker away" in tab.page().lower())
    shown.set_all()
    tab.until(lambda: "is not connected" in tab.page())
    shown.broker.start()
    tab.until(lambda: "broker away" not in tab.page().lower())
    shown.online(DEVICES)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--metrics", "localhost"), "--metrics: 'localhost' is not allowed; give http://"),
        (("--broker", "localhost"), "--broker: 'localhost' is not allowed"),
        (("--store", "oracle://x/y"), "--store:"),
        (("--fleet", "a b"), "--fleet: 'a b' is no name"),
        (("--host", "0.0.0.0"), "--host: 0.0.0.0 can be reached by others"),
        (("--trust-header", "a b"), "--trust-header, --role-header: 'a b' is no header's name"),
    ],
)
def test_a_wrong_flag_is_one_line_that_names_it(
    flags: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(flags)
    assert ended.value.code == 2
    printed = capsys.readouterr().err
    assert said in printed
    assert printed.count("\n") == 1
