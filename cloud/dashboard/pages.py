"""The pages: the fleet, and one device."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

from nicegui import app, ui

from cloud.dashboard.charts import (
    battery_chart,
    cloud_chart,
    device_charts,
    fraction_chart,
    scatter_chart,
)
from cloud.dashboard.frame import CHARTS, EVERY_S, TILES, card, control, page, tile
from cloud.dashboard.live import LiveFleet
from cloud.dashboard.view import MOST_ROWS, Row, Summary, ago, chosen
from shared.fleet.messages import Telemetry

CHART = "w-full h-56"
HISTORY_EVERY_S = 5.0
OVERVIEW = ("online", "right", "answers/s", "bytes an answer", "battery", "cloud fraction c")
COLUMNS = (
    ("name", "device", "left"),
    ("state", "state", "left"),
    ("groups", "group", "left"),
    ("battery", "battery", "left"),
    ("fraction", "d", "right"),
    ("accuracy", "right, %", "right"),
    ("energy", "mJ an answer", "right"),
    ("rate", "answers/s", "right"),
    ("latency", "ms", "right"),
    ("seen", "seen", "right"),
    ("error", "error", "left"),
)
NAME_CELL = """
<q-td :props="props"><a :href="'device/' + props.value" class="text-primary">
{{ props.value }}</a></q-td>
"""
STATE_CELL = """
<q-td :props="props"><q-badge rounded :color="props.row.colour" :label="props.value" /></q-td>
"""
BATTERY_CELL = """
<q-td :props="props"><div v-if="props.value !== null" class="row items-center no-wrap"
  style="min-width: 7em"><q-linear-progress :value="props.value" size="8px" rounded
  :color="props.value < 0.2 ? 'negative' : props.value < 0.4 ? 'accent' : 'secondary'"
  style="width: 4em" class="q-mr-sm" />{{ Math.round(100 * props.value) }} %</div></q-td>
"""


def run(live: LiveFleet, host: str, port: int) -> None:
    """Serve the pages until the process ends."""
    tasks: list[asyncio.Task[None]] = []

    def start() -> None:
        tasks.append(asyncio.create_task(live.run(), name="dashboard fleet"))
        if live.cloud is not None:
            tasks.append(asyncio.create_task(live.cloud.run(), name="dashboard cloud"))
        sys.stdout.write(f"dashboard on http://{host}:{port}\n")
        sys.stdout.flush()

    async def stop() -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    app.on_startup(start)
    app.on_shutdown(stop)

    @ui.page("/")
    def fleet_page() -> None:
        overview(live)

    @ui.page("/device/{name}")
    async def device_page(name: str) -> None:
        await one_device(live, name)

    ui.run(
        host=host, port=port, title="taper", favicon="◣", reload=False, show=False,
        show_welcome_message=False, uvicorn_logging_level="warning", reconnect_timeout=10,
    )  # fmt: skip


def overview(live: LiveFleet) -> None:
    """The whole fleet."""
    with page(live, f"Fleet {live.fleet}"):
        with ui.element("div").classes(TILES):
            tiles = {name: tile(name) for name in OVERVIEW}
            tiles["online"][0].props("data-testid=online")
        with ui.element("div").classes(CHARTS):
            charts = {}
            for title in ("Battery", "Fractions", "Accuracy against energy", "Cloud"):
                if title != "Cloud" or live.cloud is not None:
                    with card(title):
                        charts[title] = ui.echart({"series": []}).classes(CHART)
        control(live)
        with card("Devices"):
            wanted = ui.input(placeholder="name, group or error").props("dense outlined clearable")
            table = ui.table(
                columns=[
                    {"name": name, "field": name, "label": label, "align": align, "sortable": True}
                    for name, label, align in COLUMNS
                ],
                rows=[],
                row_key="name",
                pagination=15,
            ).classes("w-full").props("flat dense").props("data-testid=devices")  # fmt: skip
            slots = {"name": NAME_CELL, "state": STATE_CELL, "battery": BATTERY_CELL}
            for name, cell in slots.items():
                table.add_slot(f"body-cell-{name}", cell)
            more = ui.label("").classes("text-xs text-gray-500")

        def refresh() -> None:
            seen = live.view()
            fill_tiles(tiles, seen.summary, live)
            show(charts["Battery"], battery_chart(seen))
            show(charts["Fractions"], fraction_chart(seen))
            show(charts["Accuracy against energy"], scatter_chart(seen))
            if live.cloud is not None:
                show(charts["Cloud"], cloud_chart(list(live.cloud.points)))
            rows, found = chosen(seen.rows, str(wanted.value or ""))
            table.rows = [cells(row) for row in rows]
            table.update()
            more.set_text(f"the first {MOST_ROWS} of {found}" if found > MOST_ROWS else "")

        refresh()
        ui.timer(EVERY_S, refresh)
        wanted.on_value_change(refresh)


def fill_tiles(
    tiles: dict[str, tuple[ui.label, ui.label]], summary: Summary, live: LiveFleet
) -> None:
    """The numbers at the top."""
    texts = {
        "online": (f"{summary.online}", f"of {summary.devices}"),
        "right": (percent(summary.accuracy, 1), "of labelled samples"),
        "answers/s": (f"{summary.rate:,.1f}", f"{percent(summary.on_device)} on the device"),
        "bytes an answer": (number(summary.bytes_per_answer), f"{number(summary.energy_mj)} mJ"),
        "battery": (percent(summary.battery), "mean of those online"),
    }
    points = live.cloud.points if live.cloud is not None else None
    if points and live.cloud is not None:
        point, rate = points[-1], live.cloud.rate
        asked = "" if rate is None else f", {rate:,.0f} requests/s"
        texts["cloud fraction c"] = (f"{point.fraction:g}", f"load {point.load:.0%}{asked}")
    for name, (value, note) in texts.items():
        tiles[name][0].set_text(value)
        tiles[name][1].set_text(note)


def cells(row: Row) -> dict[str, Any]:
    """A row of the table."""
    state, colour = ("online", "positive") if row.online else ("away", "grey")
    if row.pending:
        state, colour = "pending", "warning"
    return {
        "name": row.name,
        "state": state,
        "colour": colour,
        "groups": row.groups,
        "battery": row.battery,
        "fraction": row.fraction,
        "accuracy": None if row.accuracy is None else round(100 * row.accuracy, 1),
        "energy": None if row.energy_mj is None else round(row.energy_mj, 3),
        "rate": round(row.rate, 2),
        "latency": None if row.latency_ms is None else round(row.latency_ms, 2),
        "seen": ago(time.time() - row.seen_s) if row.seen_s else "",
        "error": row.error,
    }


async def one_device(live: LiveFleet, name: str) -> None:
    """One device: its last word and its timeline."""
    with page(live, name, back=True):
        with ui.element("div").classes(TILES):
            names = ("state", "battery", "fraction d", "right", "latency", "desired")
            tiles = {title: tile(title) for title in names}
        with ui.element("div").classes(CHARTS):
            charts = {}
            for title in device_charts([]):
                with card(title):
                    charts[title] = ui.echart({"series": []}).classes(CHART)
        note = ui.label("").classes("text-sm text-gray-500")
        control(live, name)
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

        await remember()
        refresh()
        ui.timer(HISTORY_EVERY_S, remember)
        ui.timer(EVERY_S, refresh)


def fill_device(tiles: dict[str, tuple[ui.label, ui.label]], live: LiveFleet, name: str) -> None:
    """The numbers at the top of a device's page."""
    row = next((row for row in live.view().rows if row.name == name), None)
    if row is None:
        tiles["state"][0].set_text("unknown")
        tiles["state"][1].set_text(f"nothing of it in fleet {live.fleet}")
        return
    reported = live.reported(name)
    state = "pending" if row.pending else "online" if row.online else "away"
    settings = None if reported is None else reported.settings
    texts = {
        "state": (state, ago(time.time() - row.seen_s) if row.seen_s else ""),
        "battery": (percent(row.battery), "plugged in" if row.plugged else ""),
        "fraction d": (number(row.fraction), row.groups),
        "right": (percent(row.accuracy, 1), f"{number(row.energy_mj)} mJ an answer"),
        "latency": (f"{number(row.latency_ms)} ms", row.error),
        "desired": (
            (settings.fraction if settings else None) or "its own",
            f"reported version {reported.version}" if reported else "",
        ),
    }
    for title, (value, said) in texts.items():
        tiles[title][0].set_text(value)
        tiles[title][1].set_text(said)


def show(chart: ui.echart, options: dict[str, Any]) -> None:
    """Draw ``options`` if they are new."""
    if chart.options != options:
        chart.options.clear()
        chart.options.update(options)
        chart.update()


def percent(value: float | None, digits: int = 0) -> str:
    """A share for people."""
    return "-" if value is None else f"{100 * value:.{digits}f} %"


def number(value: float | None) -> str:
    """A value for people."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
