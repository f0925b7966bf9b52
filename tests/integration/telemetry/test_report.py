"""The report as a program writes it."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from msgspec.structs import replace

from cloud.telemetry.records import Received
from cloud.telemetry.store import Store
from cloud.telemetry.trail import ChangeRecord, write_change
from shared.fleet.messages import Death, Desired, DeviceSettings, MessageKind, Telemetry, Topic
from tests.integration.telemetry.test_export import run
from tests.support.telemetry import BEGAN_S, birth, said, sent, series

SVG = re.compile(r"<svg.*?</svg>", re.DOTALL)


def with_clock(received: Received, unix_s: float) -> Received:
    assert isinstance(received.message, Telemetry)
    return dataclasses.replace(received, message=replace(received.message, unix_s=unix_s))


def written(folder: Path) -> list[str]:
    return [one.name for one in folder.iterdir() if "page" in one.name]


async def test_a_page_that_needs_nothing_else(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with Store(url) as store:
        await store.append([*series("a", range(1, 301)), *series("b", [*range(1, 200), 205])])
        # A clock that was never set.
        await store.append([with_clock(sent("c", number), 60.0 * number) for number in (1, 2)])
        await store.append([said(birth(name, groups=("north",)), 1.0) for name in "ab"])
        await store.append([said(birth("c", groups=("south",)), 1.0)])
    path = tmp_path / "page.html"
    status, text = run(capsys, "report", "--store", url, "--fleet", "city", "-o", str(path))
    assert (status, text.count("\n")) == (0, 1)
    page = path.read_text()
    assert "2023-11-14 22:10 to 2023-11-15 03:15" in page
    assert "502 messages of\n3 devices; a point is 5 min" in page
    assert "5 messages are missing" in page
    assert "2 came with clocks that are far off" in page
    cells = re.findall(r"<td>(.*?)</td>", page)
    shares = ["75.0 %", "22.2 %", "66.7 %", "11.1 %"]
    assert cells[cells.index("north") :][:10] == [
        "north",
        "2",
        "4,500",
        *shares,
        "33.3",
        "55.6",
        "4",
    ]
    assert "south" in cells
    figures = SVG.findall(page)
    assert len(figures) == 7
    for figure in figures:
        ElementTree.fromstring(figure)
    assert "Accuracy" in page
    assert "where answers came from" in page.lower()
    # Nothing is fetched.
    assert not re.findall(r"<(?:script|link|img|iframe)|\b(?:src|href)=\"(?!#)", page)
    assert "@import" not in page
    assert "width=device-width" in page


async def test_a_fleet_without_telemetry_has_no_report(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with Store(url) as store:
        await store.append([said(birth("a"), 1.0)])
    path = tmp_path / "page.html"
    words = ["report", "--store", url, "-o", str(path)]
    nothing = "error: --since: the store has no telemetry of city since then\n"
    assert run(capsys, *words, "--fleet", "city") == (2, nothing)
    assert run(capsys, *words, "--fleet", "sea")[0] == 2
    assert written(tmp_path) == []


async def test_one_message_is_enough(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with Store(url) as store:
        await store.append([sent("a", 1)])
    path = tmp_path / "page.html"
    assert run(capsys, "report", "--store", url, "--fleet", "city", "-o", str(path))[0] == 0
    assert len(SVG.findall(path.read_text())) == 7


async def test_a_report_says_what_was_done_and_what_went_wrong(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(device: str) -> Received:
        desired = Desired(2, DeviceSettings("0.25", audit_rate=0.1))
        return Received(Topic("city", device, MessageKind.DESIRED), desired, at(100))

    def checked(one: Received) -> Received:
        assert isinstance(one.message, Telemetry)
        audited = replace(
            one.message, audited=100, agreed=97, exits_asked=8, exit_confidence=0.9, idle_j=0.4,
            error="no route to host",
        )  # fmt: skip
        return Received(one.topic, audited, one.received_s)

    def at(minute: int) -> float:
        return BEGAN_S + 60.0 * minute

    async with Store(url) as store:
        await store.append([said(birth("a", groups=("north",)), at(0)), told("a"), told("b")])
        await store.append([checked(one) for one in series("a", range(1, 200))])
        await store.append([said(Death("a", 1, "lost"), at(120)), said(birth("a", 2), at(150))])
    trail = ChangeRecord("city", at(160), "x", "scenario day", "all", "cloud stop", "")
    write_change(url, trail)
    path = tmp_path / "page.html"
    words = ["report", "--store", url, "--fleet", "city", "-o", str(path)]
    assert run(capsys, *words)[0] == 0
    page = path.read_text()
    assert "<li>2023-11-14 23:53 fraction=0.25 audit_rate=0.1 for 2 devices</li>" in page
    assert "<li>2023-11-15 00:53 scenario day: all: cloud stop</li>" in page
    assert "a 30 min (1 time)." in page
    assert "<li>no route to host (60 messages of 1 devices)</li>" in page
    assert "97.0 % (96.8 to 97.2)" in page
    figures = SVG.findall(page)
    assert len(figures) == 8
    # They take the colours of the page, dark or light.
    assert all("currentColor" in one and "#010203" not in one for one in figures)
    assert "#ffffff" not in "".join(figures)


async def test_a_report_says_how_far_the_exit_head_drifts(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def seen(device: str, day: int, confidence: float) -> Received:
        one = sent(device, day)
        assert isinstance(one.message, Telemetry)
        unix_s = BEGAN_S + 86_400.0 * day
        said = replace(one.message, unix_s=unix_s, exits_asked=8, exit_confidence=confidence)
        return dataclasses.replace(one, message=said, received_s=unix_s)

    async with Store(url) as store:
        for number in range(12):
            own = 0.8 + number / 100
            days = [seen(f"d{number}", day, own) for day in range(1, 5)]
            await store.append([*days, seen(f"d{number}", 5, own - 0.05)])
    path = tmp_path / "page.html"
    assert run(capsys, "report", "--store", url, "--fleet", "city", "-o", str(path))[0] == 0
    assert "by -0.0500\n(-0.0500 to -0.0500" in path.read_text()
    assert "<strong>it drifts</strong>" in path.read_text()
