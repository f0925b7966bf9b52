"""The page of one device."""

from __future__ import annotations

import time
from typing import Any

import msgspec
from nicegui import ui

from cloud.dashboard.charts import device_charts
from cloud.dashboard.control import Control
from cloud.dashboard.frame import (
    CHART,
    CHARTS,
    EVERY_S,
    TILES,
    card,
    number,
    page,
    percent,
    show,
    tile,
)
from cloud.dashboard.live import LiveFleet
from cloud.dashboard.people import Person
from cloud.dashboard.view import ago
from cloud.fleet.problems import MEANINGS, problems
from cloud.fleet.state import DeviceState
from shared.fleet.messages import DeviceSettings, Telemetry

HISTORY_EVERY_S = 5.0
COLUMNS = (("setting", "setting"), ("desired", "desired"), ("reported", "reported"),
           ("refused", "refused"))  # fmt: skip


async def one_device(live: LiveFleet, person: Person, name: str) -> None:
    """Show the latest state of the device ``name`` and its timeline."""
    with page(live, person, name, back=True):
        with ui.element("div").classes(TILES):
            names = ("state", "battery", "fraction d", "right", "latency", "model")
            tiles = {title: tile(title) for title in names}
        with ui.element("div").classes(CHARTS):
            charts = {}
            for title in device_charts([]):
                with card(title):
                    charts[title] = ui.echart({"series": []}).classes(CHART)
        note = ui.label("").classes("text-sm text-gray-500")
        wrong = ui.label("").classes("text-sm text-negative")
        with card("Desired and reported"):
            columns = [{"name": key, "field": key, "label": label, "align": "left"}
                       for key, label in COLUMNS]  # fmt: skip
            table = ui.table(columns=columns, rows=[], row_key="setting").classes("w-full")
            table.props("flat dense wrap-cells data-testid=settings")
        Control(live, person, name)
        stored: list[Telemetry] = []

        async def remember() -> None:
            nonlocal stored
            fresh, error = await live.history(name)
            stored = fresh or stored
            note.set_text(error)

        def refresh() -> None:
            last = {one.sequence: one for one in (*stored, *live.tail(name))}
            messages = [last[sequence] for sequence in sorted(last)]
            for title, options in device_charts(messages).items():
                show(charts[title], options)
            fill_device(tiles, live, name)
            device = live.device(name)
            if device is not None:
                found = problems(device, time.monotonic())
                wrong.set_text("; ".join(MEANINGS[one] for one in found))
                rows = setting_cells(device)
                if rows != table.rows:
                    table.rows = rows
                    table.update()

        await remember()
        refresh()
        ui.timer(HISTORY_EVERY_S, remember)
        ui.timer(EVERY_S, refresh)


def fill_device(tiles: dict[str, tuple[ui.label, ui.label]], live: LiveFleet, name: str) -> None:
    """Fill in the numbers at the top of a device's page."""
    row = next((row for row in live.view().rows if row.name == name), None)
    if row is None:
        tiles["state"][0].set_text("unknown")
        tiles["state"][1].set_text(f"nothing of it in fleet {live.fleet}")
        return
    state = "pending" if row.pending else "online" if row.online else "away"
    texts = {
        "state": (state, ago(time.time() - row.seen_s) if row.seen_s else ""),
        "battery": (percent(row.battery), "plugged in" if row.plugged else ""),
        "fraction d": (number(row.fraction), row.groups),
        "right": (percent(row.accuracy, 1), f"{number(row.energy_mj)} mJ an answer"),
        "latency": (f"{number(row.latency_ms)} ms", row.error),
        "model": (row.model or "-", f"version {row.version[:12]}" if row.version else ""),
    }
    for title, (value, said) in texts.items():
        tiles[title][0].set_text(value)
        tiles[title][1].set_text(said)


def setting_cells(device: DeviceState) -> list[dict[str, Any]]:
    """Return table rows of desired and reported settings: first the versions, then each setting."""
    desired, reported = device.desired, device.reported
    said = DeviceSettings() if reported is None else reported.settings
    refused = {} if reported is None else {one.field: one.reason for one in reported.refused}
    rows = [
        {
            "setting": "version",
            "desired": desired.version or "none",
            "reported": "nothing" if reported is None else reported.version,
            "refused": "",
        }
    ]
    ours, theirs = msgspec.structs.asdict(desired.settings), msgspec.structs.asdict(said)
    for name, value in ours.items():
        mine, its = "its own" if value is None else value, theirs[name]
        own = "" if its is None else its
        rows.append({"setting": name, "desired": mine, "reported": own,
                     "refused": refused.get(name, "")})  # fmt: skip
    return rows
