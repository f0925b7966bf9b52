"""The playground as people use it: a real browser, playground and cloud server."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from shared.bundles import bundle_path
from shared.data.sample import sample_digits
from shared.model.bundle import read_bundle
from shared.model.exits import local_answer, read_calibration
from shared.model.looks import ask_table
from shared.packed import CloudHalf, DeviceHalf
from shared.protocol.codec import FeatureCodec
from shared.protocol.looks import margins
from tests.support.browser import DESKTOP, PHONE, browser
from tests.support.clouds import free_port
from tests.support.playgrounds import CAMERA, MODEL, Page, client_answer, long, playground
from tests.support.processes import Server, start_server

pytestmark = pytest.mark.alone


@dataclass
class Site:
    """A page in a browser, and the server behind it."""

    page: Page
    server: Server
    http_port: int
    stack: ExitStack
    folder: Path

    def stop_server(self) -> None:
        self.stack.close()

    def start_server(self) -> None:
        flags = ("--http-port", str(self.http_port), "--cloud-fraction", "1")
        self.server = self.stack.enter_context(start_server(*flags))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("playground")
    port = free_port()
    with ExitStack() as stack:
        tab = stack.enter_context(browser(*CAMERA))
        download = {"behavior": "allow", "downloadPath": str(folder)}
        tab.driver.execute_cdp_cmd("Browser.setDownloadBehavior", download)
        cloud = f"http://127.0.0.1:{port}"
        url = stack.enter_context(playground(folder / "log", "--server", cloud))
        servers = stack.enter_context(ExitStack())
        server = Server("", None)  # type: ignore[arg-type]
        made = Site(Page(tab, url), server, port, servers, folder)
        made.start_server()
        yield made


@pytest.fixture
def page(site: Site) -> Iterator[Page]:
    """The page, newly loaded; at the end nothing may be on its console."""
    site.page.tab.errors()
    site.page.open()
    yield site.page
    assert site.page.tab.errors() == []


def digit(number: int) -> npt.NDArray[np.uint8]:
    picture: npt.NDArray[np.uint8] = sample_digits()[0][number]
    return picture


def agrees_with_the_client(site: Site, folder: Path) -> None:
    """Label, probabilities and bytes are those of the Python client for the same picture."""
    page = site.page
    page.answers_alone(False)
    fraction = ("--fraction", page.tab.text("d-value"), "--no-exit")
    wanted = client_answer(site.server.address, page.seen(), folder, *fraction)
    assert page.tab.text("answer") == wanted["class_name"]
    assert page.tab.text("payload") == f"{wanted['payload_bytes']} bytes"
    assert page.tab.text("by").startswith(f"the cloud, from {wanted['payload_bytes']} bytes")
    shares = dict(wanted["candidates"])
    np.testing.assert_allclose(
        page.percents("cloud-bars"), [shares[label] for label in range(10)], atol=0.0006
    )


def test_a_drawing_is_classified_as_by_the_python_client(
    page: Page, site: Site, tmp_path: Path
) -> None:
    pad = page.tab.named("pad")
    down = ActionChains(page.tab.driver).move_to_element_with_offset(pad, 10, -80).click_and_hold()
    for y in range(-60, 100, 20):
        down = down.move_to_element_with_offset(pad, 10 - y // 10, y)
    down.release().perform()
    page.until_answered()
    assert page.seen().max() > 200
    assert page.tab.text("answer") == "1"
    agrees_with_the_client(site, tmp_path)


@long
def test_keys_draw_too(page: Page) -> None:
    page.tab.named("clear").click()
    page.until_answered()
    assert not page.seen().any()
    assert "Nothing stands out" in page.tab.text("note")
    keys = [Keys.ARROW_UP] * 8 + [" "] + [Keys.ARROW_DOWN] * 16
    page.tab.named("pad").send_keys(*keys)
    page.until_answered()
    assert page.tab.text("answer") == "1"


def test_a_file_of_the_right_size_reaches_the_network_unchanged(
    page: Page, site: Site, tmp_path: Path
) -> None:
    Image.fromarray(digit(7)).save(tmp_path / "seven.png")
    page.choose_file(tmp_path / "seven.png")
    page.tab.until(lambda: page.tab.text("note") == "seven.png")
    page.until_answered()
    assert np.array_equal(page.seen(), digit(7))
    agrees_with_the_client(site, tmp_path)


@long
def test_a_photograph_of_a_page_is_prepared_as_the_python_client_does(
    page: Page, tmp_path: Path
) -> None:
    from shared.images.pictures import prepare_file

    bundle = read_bundle(bundle_path(MODEL))
    path = tmp_path / "page.png"
    for number in range(3):
        photograph(digit(number), number).save(path)
        page.choose_file(path)
        page.tab.until(lambda: page.tab.text("note") == "page.png")
        shape, steps = bundle.architecture.input_shape, bundle.metadata.steps
        wanted = prepare_file(path, "page", shape, steps).image[:, :, 0].astype(int)
        page.until_answered()
        assert np.abs(page.seen().astype(int) - wanted).mean() < 3
        assert page.tab.text("full-label") == str(sample_digits()[1][number])
        page.tab.named("clear").click()


def photograph(strokes: npt.NDArray[np.uint8], seed: int) -> Image.Image:
    """A digit as dark ink on grey paper that is lit from one side, with a little noise."""
    large = np.asarray(Image.fromarray(strokes).resize((224, 224), Image.Resampling.BICUBIC))
    ink = np.zeros((320, 400))
    ink[50:274, 90:314] = large / 255
    light = np.linspace(150, 210, 400)[None, :] * np.ones((320, 1))
    noise = np.random.default_rng(seed).normal(0, 2, ink.shape)
    return Image.fromarray((light * (1 - 0.75 * ink) + noise).clip(0, 255).astype(np.uint8))


def test_a_file_that_is_no_picture_is_named(page: Page, tmp_path: Path) -> None:
    (tmp_path / "words.png").write_text("no picture")
    page.choose_file(tmp_path / "words.png")
    page.tab.until(lambda: page.tab.text("note").startswith("words.png is not a picture"))


@long
def test_the_camera_gives_pictures_until_it_is_stopped(page: Page) -> None:
    before = page.seen()
    page.tab.named("camera").click()
    page.tab.until(lambda: not np.array_equal(page.seen(), before))
    assert page.tab.named("video").is_displayed()
    page.tab.named("camera").click()
    assert page.tab.text("camera") == "Camera"
    page.tab.until(lambda: not page.tab.named("video").is_displayed())


def test_the_slider_changes_bits_bytes_and_operations(page: Page) -> None:
    bundle = read_bundle(bundle_path(MODEL))
    half, codec, network = DeviceHalf(bundle), FeatureCodec(bundle), bundle.architecture
    calibration = read_calibration(bundle)
    assert calibration is not None
    page.answers_alone(False)
    picture = page.seen()[None, :, :, None]
    most = network.sent_shape(len(network.device_levels) - 1).channels
    for level, fraction in enumerate(network.device_levels):
        page.set("d", level)
        bits = half.run(picture, level)
        shape = network.sent_shape(level)
        ones = int(np.unpackbits(bits).sum())
        assert page.tab.text("d-value") == f"{fraction:g}"
        assert page.tab.text("bits-text") == (
            f"{shape.channels} of {most} channels leave: {shape.size} bits, {ones} of them 1"
        )
        assert page.tab.text("payload") == f"{len(codec.encode(bits, level).payload)} bytes"
        assert page.tab.text("macs").startswith(f"{network.device_macs(level):,} ")
        logits = half.exit_logits(bits, level)[0].tolist()
        answer = local_answer(logits, calibration.temperature[level])
        assert page.tab.text("exit-label") == str(answer.label)
        np.testing.assert_allclose(page.percents("exit-bars"), answer.probabilities, atol=0.0006)
    page.set("c", 1)
    assert page.tab.text("cloud-note").startswith("c = 0.25, ")


def test_the_exit_head_answers_what_it_is_sure_of(page: Page) -> None:
    assert page.tab.text("by") == "the exit head on this device; nothing is sent"
    assert page.tab.text("payload") == "0 bytes"
    page.answers_alone(False)
    assert page.tab.text("by").startswith("the cloud, from ")


def test_an_unsure_cloud_gets_a_second_look(page: Page) -> None:
    bundle = read_bundle(bundle_path(MODEL))
    half, codec = DeviceHalf(bundle), FeatureCodec(bundle)
    widest = len(bundle.architecture.device_levels) - 1
    images = sample_digits()[0][:, :, :, None]
    below = [row[widest] for row in ask_table(bundle)]
    level = next(level for level, margin in enumerate(below) if margin)
    first = half.run(images, level)
    unsure = margins(CloudHalf(bundle).run(first, level, 3)) < below[level]
    sure_one, unsure_one = (int(np.flatnonzero(unsure == wanted)[0]) for wanted in (False, True))
    page.answers_alone(False)
    page.looks_twice(True)
    page.set("d", level)
    shown = 0  # the page opened with the first digit
    for wanted in sorted((sure_one, unsure_one)):
        while shown < wanted:
            page.tab.named("digit").click()
            page.until_answered()
            shown += 1
        bits = [first[wanted : wanted + 1], half.run(images[wanted : wanted + 1], widest)]
        narrow, wide = (
            len(codec.encode(rows, place).payload)
            for rows, place in zip(bits, (level, widest), strict=True)
        )
        if wanted == unsure_one:
            by = f"the cloud at the second look, from {narrow} and {wide} bytes"
            assert page.tab.text("by") == by
            page.tab.until(lambda: page.tab.text("payload") == f"{narrow + wide} bytes")  # noqa: B023
            assert page.tab.text("answer") == page.tab.text("full-label")
        else:
            assert page.tab.text("by").startswith(f"the cloud, from {narrow} bytes")
            assert page.tab.text("payload") == f"{narrow} bytes"


@long
def test_the_strip_of_digits_ends_in_a_table(page: Page, site: Site) -> None:
    page.tab.named("play").click()
    page.tab.until(lambda: "200 of 200" in page.tab.text("strip-count"))
    page.tab.until(lambda: page.tab.named("csv").is_enabled())
    page.tab.named("csv").click()
    path = site.folder / "digits.csv"
    page.tab.until(path.exists)
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    assert [int(row["label"]) for row in rows] == sample_digits()[1].tolist()
    right = np.mean([row["right"] == "1" for row in rows])
    shown = page.tab.text("strip-accuracy").removesuffix("%")
    assert float(shown) == pytest.approx(100 * right, abs=0.05)
    assert right > 0.97
    sent = sum(int(row["sent_bytes"]) for row in rows)
    assert page.tab.text("strip-bytes") == f"{sent} bytes"
    assert {row["answered_by"] for row in rows} == {"exit head", "cloud"}
    curve = page.tab.driver.find_element("id", "accuracy-curve").get_attribute("points")
    assert curve is not None
    assert len(curve.split()) == 200


@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_nothing_serious(page: Page, dark: bool) -> None:
    page.tab.like(DESKTOP, dark)
    try:
        assert page.violations() == []
    finally:
        page.tab.like(DESKTOP)


def test_every_control_is_reached_with_the_tab_key(page: Page) -> None:
    script = "return document.activeElement.dataset.testid || document.activeElement.id"
    order = []
    for _ in range(11):
        ActionChains(page.tab.driver).send_keys(Keys.TAB).perform()
        order.append(page.tab.driver.execute_script(script))
    assert order == [
        "pad",
        "clear",
        "digit",
        "file",
        "camera",
        "png-file",
        "d",
        "c",
        "exit",
        "second",
        "play",
    ]


def test_a_phone_needs_no_sideways_scrolling(page: Page) -> None:
    page.tab.like(PHONE, dark=True)
    try:
        page.open()
        width = page.tab.driver.execute_script("return document.documentElement.scrollWidth")
        assert width == PHONE[0]
        assert page.violations() == []
    finally:
        page.tab.like(DESKTOP)


def test_without_the_cloud_the_exit_head_answers_and_says_so(site: Site) -> None:
    page = site.page
    page.open()
    page.answers_alone(False)
    assert page.tab.text("cloud") == "cloud connected"
    site.stop_server()
    page.set("d", 3)
    assert page.tab.text("cloud") == "cloud away"
    assert page.tab.text("answer") == page.tab.text("exit-label")
    assert "since the cloud cannot be reached" in page.tab.text("by")
    site.start_server()
    page.tab.until(lambda: page.tab.text("cloud") == "cloud connected")
    page.until_answered()
    assert page.tab.text("by").startswith("the cloud, from ")
    page.tab.errors()  # Chromium's own lines about the answers of status 502
