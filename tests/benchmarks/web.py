"""``python -m tests.benchmarks.web``: the device half in a browser, and the playground's page.

``--full`` runs 1,000 test images of MNIST (which must be fetched before), otherwise the 200 shipped
digits.
"""

from __future__ import annotations

import gzip
import http.client
import os
import tempfile
import time
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from statistics import mean, median
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt

from cloud.playground.application import STATIC
from cloud.training.data.datasets import DATA_DIR_VARIABLE, load
from device.web.command import build
from shared.bundles import bundle_path
from shared.data.sample import sample_digits
from shared.model.bundle import Bundle, read_bundle
from shared.packed import DeviceHalf
from tests.benchmarks.harness import Check, Report, main, ratio, table
from tests.support.boards import Result, expected
from tests.support.browser import Browser, browser
from tests.support.clouds import free_port
from tests.support.playgrounds import MODEL, Page, playground
from tests.support.processes import start_server
from tests.support.web_module import build_module, in_browser, run_in_browser, run_in_node

MANY = 1000
KIB = 1024
ROUNDS, CALLS, LOADS = 9, 200, 7
LEVELS = (2, 5)  # d = 0.3 and d = 1


def run(full: bool) -> Report:
    """Measure sizes and times, and compare the outputs with those of the packed runtime."""
    report, pictures = Report(), images(full)
    bundle = read_bundle(bundle_path(MODEL))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        built = build_module(MODEL, folder)
        size = sum((built / name).stat().st_size for name in ("taper.wasm", f"{MODEL}.blob"))
        found = {"node": run_in_node(built, MODEL, pictures)[0]}
        port = free_port()
        stack.enter_context(start_server("--http-port", str(port), "--model", MODEL))
        # Includes the files for fleets, which belong to the page too.
        build(STATIC / "device", MODEL)
        flags = ("--server", f"http://127.0.0.1:{port}")
        url = stack.enter_context(playground(folder / "log", *flags))
        tab = stack.enter_context(browser())
        Page(tab, url).open()
        found["chromium"] = run_in_browser(tab, MODEL, pictures)
        times = {level: side_by_side(tab, bundle, pictures[0], level) for level in LEVELS}
        paints = [first_paint_s(tab, url) for _ in range(LOADS)]
        sizes = page_sizes(url)
    same = {name: identical(results, bundle, pictures) for name, results in found.items()}
    slower = {level: ratio(*both) for level, both in times.items()}
    report.results = {
        "images": len(pictures),
        "identical": same,
        "us_by_level": {
            level: [median(one) * 1e6 for one in both] for level, both in times.items()
        },
        "first_paint_s": paints,
        "page_bytes": sizes,
    }
    report.checks = [
        Check("wasm_kb", round(size / KIB, 1), "KB", 96, "lower"),
        Check("wasm_vs_portable", round(max(slower.values()), 2), "times", 4, "lower"),
        Check("first_paint_s", round(median(paints), 3), "s", 1, "lower"),
        Check("page_kb", round(sum(sizes.values()) / KIB, 1), "KB", 300, "lower"),
        Check("identical_outputs", min(same.values()), "", 1, "higher"),
    ]
    fractions = bundle.architecture.device_levels
    rows = [
        (f"d = {fractions[level]:g}", *(f"{median(one) * 1e6:.0f}" for one in both))
        for level, both in times.items()
    ]
    title = "device half, microseconds for one digit"
    report.tables = [table(title, ("", "WebAssembly in Chromium", "portable kernels"), rows)]
    return report


def images(full: bool) -> npt.NDArray[np.uint8]:
    """Return digits (N, 28, 28, 1)."""
    if not full:
        return sample_digits()[0][:, :, :, None]
    folder = Path(os.environ.get(DATA_DIR_VARIABLE, "data"))
    return load("mnist", folder, "test").images[:MANY]


def identical(results: list[Result], bundle: Bundle, pictures: npt.NDArray[np.uint8]) -> float:
    """Return the share of pictures and levels with the packed runtime's bits, exit and request."""
    wanted = expected(bundle, range(len(bundle.architecture.device_levels)), pictures)
    return mean(result.equals(one) for result, one in zip(results, wanted, strict=True))


def side_by_side(
    tab: Browser, bundle: Bundle, picture: npt.NDArray[np.uint8], level: int
) -> tuple[list[float], list[float]]:
    """Measure the seconds of a run in the browser and by the portable kernels, in turn."""
    half, one = DeviceHalf(bundle, "portable"), picture[None]
    body = """
        const picture = Uint8Array.from(given[0]);
        const times = [];
        for (let slice = 0; slice < 4; slice++) {
          const began = performance.now();
          for (let call = 0; call < given[2]; call++) device.run(picture, given[1]);
          times.push((performance.now() - began) / 1000 / given[2]);
        }
        return Math.min(...times);
    """
    pixels = picture.reshape(-1).tolist()
    ours, theirs = [], []
    for _ in range(ROUNDS):
        ours.append(float(in_browser(tab, body, MODEL, pixels, level, CALLS)))
        theirs.append(min(_seconds(half, one, level) for _ in range(4)))
    return ours, theirs


def _seconds(half: DeviceHalf, one: npt.NDArray[np.uint8], level: int) -> float:
    began = time.perf_counter()
    for _ in range(CALLS):
        half.run(one, level)
    return (time.perf_counter() - began) / CALLS


def first_paint_s(tab: Browser, url: str) -> float:
    """Measure seconds from the start of an uncached load to the first contentful paint."""
    tab.driver.execute_cdp_cmd("Network.clearBrowserCache", {})
    Page(tab, url).open()
    script = "return performance.getEntriesByName('first-contentful-paint')[0].startTime"
    return float(tab.driver.execute_script(script)) / 1000


def page_sizes(url: str) -> dict[str, int]:
    """Return the gzipped bytes of every file that the page may load."""
    return {path: _sent(url, path) for path in ("/", "/digits", *_static_files())}


def _static_files() -> Iterable[str]:
    for path in sorted(STATIC.rglob("*")):
        if path.is_file() and path.name != "index.html":
            yield f"/static/{path.relative_to(STATIC)}"


def _sent(url: str, path: str) -> int:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    try:
        connection.request("GET", path, headers={"Accept-Encoding": "gzip"})
        answer = connection.getresponse()
        body = answer.read()
        if answer.getheader("Content-Encoding") == "gzip":
            gzip.decompress(body)  # fails unless the body really is gzipped
        return len(body)
    finally:
        connection.close()


if __name__ == "__main__":
    main("web", __doc__ or "", run)
