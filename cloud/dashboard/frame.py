"""Parts that pages share: header, colours, state of the connections, cards and tiles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from nicegui import ui

from cloud.dashboard.live import LiveFleet
from cloud.dashboard.people import Person

EVERY_S = 1.0
CHART = "w-full h-56"
TILES = "tiles gap-3 w-full"
CHARTS = "grid grid-cols-1 md:grid-cols-2 gap-4 w-full"
STYLE = """
.nicegui-content { padding: 0; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); }
.tile-value { font-variant-numeric: tabular-nums; }
.q-table td, .q-table th { font-variant-numeric: tabular-nums; }
"""


@contextmanager
def page(live: LiveFleet, person: Person, title: str, back: bool = False) -> Iterator[None]:
    """Show the header; what the block creates is below it. ``back`` adds a link to the fleet."""
    ui.colors(primary="#2f6fdb", secondary="#14a89a", accent="#f0963c")
    ui.add_css(STYLE)
    ui.page_title(f"{title} - taper")
    dark = ui.dark_mode(value=None)
    with ui.header(elevated=True).classes("items-center gap-2 px-4 py-2 no-wrap"):
        if back:
            ui.button(icon="arrow_back", on_click=lambda: ui.navigate.to("/")).props(
                'flat round dense color=white aria-label="Back"'
            )
        ui.label(title).classes("text-lg font-medium truncate").props("data-testid=title")
        ui.space()
        who = ui.label(f"{person.name}, {person.role.value}").classes("text-xs gt-xs")
        who.props("data-testid=person")
        _connections(live)
        colours = ui.button(icon="contrast").props("flat round dense color=white")
        with colours.props('aria-label="Colours"'), ui.menu():
            for name, value in (("Dark", True), ("Light", False), ("As the system", None)):
                ui.menu_item(name, on_click=_setter(dark, value))
    with ui.column().classes("w-full max-w-7xl mx-auto p-4 gap-4"):
        yield


def _setter(dark: ui.dark_mode, value: bool | None) -> Callable[[], object]:
    return lambda: dark.set_value(value)


def _connections(live: LiveFleet) -> None:
    broker = ui.badge("broker").props("rounded")
    cloud = None if live.cloud is None else ui.badge("cloud").props("rounded")
    with broker:
        broker_tip = ui.tooltip("")
    with cloud or broker:
        cloud_tip = ui.tooltip("")

    def refresh() -> None:
        broker.props(f"color={'positive' if live.connected else 'negative'}")
        broker.set_text("broker" if live.connected else "broker away")
        broker_tip.set_text("connected" if live.connected else live.broker_error)
        if cloud is not None and live.cloud is not None:
            well = not live.cloud.error
            cloud.props(f"color={'positive' if well else 'negative'}")
            cloud.set_text("cloud" if well else "cloud away")
            cloud_tip.set_text(live.cloud.error or live.cloud.url)

    refresh()
    ui.timer(EVERY_S, refresh)


@contextmanager
def card(title: str, classes: str = "") -> Iterator[None]:
    """Show a card with a title; what the block creates is inside."""
    with ui.card().classes(f"w-full gap-1 p-4 {classes}").props("flat bordered"):
        ui.label(title).classes("text-sm text-gray-500")
        yield


def tile(title: str) -> tuple[ui.label, ui.label]:
    """Show a number with a title; return the labels of the number and of the note below it."""
    with ui.card().classes("gap-0 p-3").props("flat bordered"):
        ui.label(title).classes("text-xs text-gray-500")
        value = ui.label("-").classes("tile-value text-2xl font-medium")
        note = ui.label("").classes("text-xs text-gray-500")
    return value, note


def show(chart: ui.echart, options: dict[str, Any]) -> None:
    """Draw ``options`` if they differ from those shown."""
    if chart.options != options:
        chart.options.clear()
        chart.options.update(options)
        chart.update()


def percent(value: float | None, digits: int = 0) -> str:
    """Format a share, 0 to 1, in percent; a dash for None."""
    return "-" if value is None else f"{100 * value:.{digits}f} %"


def number(value: float | None) -> str:
    """Format a value; a dash for None."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
