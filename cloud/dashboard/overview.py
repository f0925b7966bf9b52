"""The page of the whole fleet."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from nicegui import ui

from cloud.dashboard.charts import (
    battery_chart,
    cloud_chart,
    fleet_charts,
    fraction_chart,
    scatter_chart,
)
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
from cloud.dashboard.view import MOST_ROWS, GroupRow, Row, Summary, View, ago, chosen
from cloud.fleet.problems import MEANINGS, Problem

OVERVIEW = ("online", "right", "exits right", "answers/s", "bytes an answer", "battery")
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
    ("problems", "problems", "left"),
    ("version", "model", "left"),
    ("error", "error", "left"),
)
# The columns that fit on a phone.
ON_PHONES = ("name", "state", "battery", "fraction", "accuracy")
GROUP_COLUMNS = (
    ("name", "group"), ("devices", "devices"), ("online", "online"), ("problems", "with problems"),
    ("battery", "battery, %"), ("accuracy", "right, %"), ("local", "local, %"),
    ("agreement", "exits right, %"), ("failures", "failed, %"), ("energy", "mJ an answer"),
    ("rate", "answers/s"),
)  # fmt: skip
CHANGE_COLUMNS = (
    ("when", "when (UTC)"), ("who", "who"), ("target", "target"), ("what", "what"),
    ("result", "result"),
)  # fmt: skip
NAME_CELL = """
<q-td :props="props"><a :href="props.row.href" class="text-primary">
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


def overview(live: LiveFleet, person: Person, prefix: str) -> None:
    """Show the whole fleet to ``person``; links to devices begin with ``prefix``."""
    with page(live, person, f"Fleet {live.fleet}"):
        with ui.element("div").classes(TILES):
            names = [*OVERVIEW, *(["cloud fraction c"] if live.cloud is not None else [])]
            tiles = {name: tile(name) for name in names}
            tiles["online"][0].props("data-testid=online")
        refreshing = [_problems(live), _charts(live), _groups()]
        Control(live, person)
        refreshing.append(_devices(live, prefix))
        _changes(live)

        last: View | None = None

        def refresh() -> None:
            nonlocal last
            seen = live.view()
            fill_tiles(tiles, seen.summary, live)
            if seen is not last:
                last = seen
                for one in refreshing:
                    one(seen)

        refresh()
        ui.timer(EVERY_S, refresh)


Refresh = Callable[[View], None]


def _problems(live: LiveFleet) -> Refresh:
    """Show a line with the current problems of devices; hidden if there are none."""
    line = ui.label("").classes("text-sm text-negative").props("data-testid=problems")

    def refresh(seen: View) -> None:
        texts = [f"{count} {MEANINGS[Problem(name)]}" for name, count in seen.problems]
        line.set_text("; ".join(texts) if live.connected else "")
        line.set_visibility(bool(texts))

    return refresh


def _charts(live: LiveFleet) -> Refresh:
    with ui.element("div").classes(CHARTS):
        charts = {}
        titles = ["Battery", "Fractions", "Accuracy against energy", *fleet_charts([])]
        for title in titles + ["Cloud"] * (live.cloud is not None):
            clock = " over the last hour, by this server's clock" * (title in fleet_charts([]))
            with card(title + clock):
                charts[title] = ui.echart({"series": []}).classes(CHART)

    def refresh(seen: View) -> None:
        show(charts["Battery"], battery_chart(seen))
        show(charts["Fractions"], fraction_chart(seen))
        show(charts["Accuracy against energy"], scatter_chart(seen))
        for title, options in fleet_charts(list(live.points)).items():
            show(charts[title], options)

    def follow_cloud() -> None:
        if live.cloud is not None:
            show(charts["Cloud"], cloud_chart(list(live.cloud.points)))

    ui.timer(EVERY_S, follow_cloud)
    return refresh


def _groups() -> Refresh:
    with card("Groups"):
        columns = [_column(name, label, "left" if name == "name" else "right")
                   for name, label in GROUP_COLUMNS]  # fmt: skip
        table = ui.table(columns=columns, rows=[], row_key="name").classes("w-full")
        table.props("flat dense data-testid=groups")

    def refresh(seen: View) -> None:
        rows = [group_cells(one) for one in seen.groups]
        if rows != table.rows:
            table.rows = rows
            table.update()

    return refresh


def _devices(live: LiveFleet, prefix: str) -> Refresh:
    with card("Devices"):
        with ui.row().classes("items-center gap-3"):
            wanted = ui.input(placeholder="name, group or error").props("dense outlined clearable")
            choices = {"": "all devices", **{one.value: MEANINGS[one] for one in Problem}}
            problem = ui.select(choices, value="").props("dense outlined data-testid=problem")
        columns = [_column(*one) for one in COLUMNS]
        table = ui.table(columns=columns, rows=[], row_key="name", pagination=15)
        table.classes("w-full").props("flat dense data-testid=devices")
        slots = {"name": NAME_CELL, "state": STATE_CELL, "battery": BATTERY_CELL}
        for name, cell in slots.items():
            table.add_slot(f"body-cell-{name}", cell)
        more = ui.label("").classes("text-xs text-gray-500")

    def refresh(seen: View) -> None:
        rows, found = chosen(seen.rows, str(wanted.value or ""), str(problem.value or ""))
        table.rows = [cells(row, prefix) for row in rows]
        table.update()
        more.set_text(f"the first {MOST_ROWS} of {found}" if found > MOST_ROWS else "")

    wanted.on_value_change(lambda: refresh(live.view()))
    problem.on_value_change(lambda: refresh(live.view()))
    return refresh


def _changes(live: LiveFleet) -> None:
    """Show the audit trail."""
    kept = "" if live.trail.kept else " since this page's server began; --store keeps them"
    with card(f"Changes{kept}"):
        columns = [_column(name, label, "left") for name, label in CHANGE_COLUMNS]
        table = ui.table(columns=columns, rows=[], row_key="id", pagination=10).classes("w-full")
        table.props("flat dense wrap-cells data-testid=changes")

    def refresh() -> None:
        rows = [
            {
                "id": one.id, "who": one.who, "target": one.target, "what": one.what,
                "result": one.result, "when": f"{datetime.fromtimestamp(one.made_s, UTC):%F %T}",
            }
            for one in live.trail.changes
        ]  # fmt: skip
        if rows != table.rows:
            table.rows = rows
            table.update()

    refresh()
    ui.timer(EVERY_S, refresh)


def _column(name: str, label: str, align: str) -> dict[str, Any]:
    """Return a column of a table; most columns of devices are hidden on phones."""
    made = {"name": name, "field": name, "label": label, "align": align, "sortable": True}
    if (name, label, align) in COLUMNS and name not in ON_PHONES:
        made |= {"classes": "gt-xs", "headerClasses": "gt-xs"}
    return made


def fill_tiles(
    tiles: dict[str, tuple[ui.label, ui.label]], summary: Summary, live: LiveFleet
) -> None:
    """Fill in the numbers at the top of the page."""
    texts = {
        "online": (f"{summary.online}", f"of {summary.devices}"),
        "right": (percent(summary.accuracy, 1), "of labelled samples"),
        "exits right": _exits(summary),
        "answers/s": (f"{summary.rate:,.1f}", f"{percent(summary.on_device)} on the device"),
        "bytes an answer": (
            number(summary.bytes_per_answer),
            f"{number(summary.energy_mj)} mJ, {number(summary.looks)} looks",
        ),
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


def _exits(summary: Summary) -> tuple[str, str]:
    """Return accuracy of local answers by audits, and a note: interval, drift of confidence."""
    exits, drift = summary.exits, summary.drift
    texts = ["no audited samples"] if exits is None else [
        f"{100 * exits.low:.1f} to {100 * exits.high:.1f} %"
    ]  # fmt: skip
    if drift is not None:
        half = (drift.high - drift.low) / 2
        word = "drifts" if drift.clear else "steady"
        texts.append(f"confidence {word} ({drift.value:+.3f} ± {half:.3f})")
    return percent(None if exits is None else exits.value, 1), ", ".join(texts)


def group_cells(one: GroupRow) -> dict[str, Any]:
    """Return the cells of a row of the table of groups."""
    sums = one.sums

    def part(value: float | None) -> float | None:
        return None if value is None else round(100 * value, 1)

    return {
        "name": one.name,
        "devices": one.devices,
        "online": one.online,
        "problems": one.problems,
        "battery": part(one.battery),
        "accuracy": part(sums.accuracy),
        "local": part(sums.on_device),
        "agreement": part(sums.agreement),
        "failures": part(sums.failures),
        "energy": None if sums.energy_mj is None else round(sums.energy_mj, 3),
        "rate": round(one.rate, 2),
    }


def cells(row: Row, prefix: str) -> dict[str, Any]:
    """Return the cells of a row of the table of devices."""
    state, colour = ("online", "positive") if row.online else ("away", "grey")
    if row.pending:
        state, colour = "pending", "warning"
    return {
        "name": row.name,
        "href": f"{prefix}/device/{row.name}",
        "problems": ", ".join(row.problems),
        "version": f"{row.model} {row.version[:8]}".strip(),
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
