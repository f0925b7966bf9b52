"""Options of the charts for ECharts. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from cloud.dashboard.cloud_page import CloudPoint
from cloud.dashboard.live import FleetPoint
from cloud.dashboard.view import BATTERY_BINS, Summary, View
from shared.fleet.messages import Telemetry

Options = dict[str, Any]
Line = list[tuple[float, float]]

# Legible on white and on black.
GREY = "#8a8f98"
BLUE, TEAL, ORANGE, RED = "#5b8def", "#14a89a", "#f0963c", "#e0575b"
LINE = {"lineStyle": {"color": "rgba(138,143,152,0.25)"}}


def axis(name: str, kind: str = "value", **more: Any) -> Options:
    """Return an axis labelled ``name``; ``more`` are further options of ECharts."""
    return {
        "type": kind,
        "name": name,
        "nameLocation": "middle",
        "nameGap": 26,
        "nameTextStyle": {"color": GREY},
        "axisLabel": {"color": GREY, "hideOverlap": True},
        "splitLine": LINE,
        **more,
    }


def base(x: Options, y: Options | list[Options], series: list[Options]) -> Options:
    """Return the options that all charts share, with these axes and series."""
    return {
        "animation": False,
        "grid": {"left": 48, "right": 16, "top": 28, "bottom": 44},
        "tooltip": {"trigger": "axis"},
        "legend": {"top": 0, "textStyle": {"color": GREY}, "itemHeight": 8},
        "xAxis": x,
        "yAxis": y,
        "series": series,
    }


def battery_chart(view: View) -> Options:
    """Return a bar chart: number of devices by tenths of a full battery."""
    step = 100 // BATTERY_BINS
    names = [f"{step * place}-{step * (place + 1)}" for place in range(BATTERY_BINS)]
    colours = [RED, RED, *[ORANGE] * 2, *[TEAL] * (BATTERY_BINS - 4)]
    data = [
        {"value": count, "itemStyle": {"color": colour}}
        for count, colour in zip(view.battery_bins, colours, strict=True)
    ]
    y = axis("devices", nameGap=34, minInterval=1)
    bars = {"type": "bar", "data": data, "barCategoryGap": "20%"}
    return base(axis("battery, %", "category", data=names), y, [bars])


def fraction_chart(view: View) -> Options:
    """Return a bar chart: number of devices by the fraction in use."""
    x = axis("fraction d", "category", data=[name for name, _ in view.fractions])
    bars = {
        "type": "bar",
        "data": [count for _, count in view.fractions],
        "itemStyle": {"color": BLUE},
        "barMaxWidth": 48,
    }
    return base(x, axis("devices", nameGap=34, minInterval=1), [bars])


def scatter_chart(view: View) -> Options:
    """Return a scatter chart: accuracy over energy, one point for each device."""
    points = [
        {"name": name, "value": [energy, round(100 * accuracy, 2), fraction]}
        for energy, accuracy, name, fraction in view.scatter
    ]
    options = base(
        axis("energy an answer, mJ", "log"),
        axis("right, %", nameGap=34, scale=True, max=100),
        [{"type": "scatter", "symbolSize": 9, "data": points}],
    )
    options["tooltip"] = {"trigger": "item", "formatter": "{b}: {c}"}
    options["visualMap"] = {
        "min": 0, "max": 1, "dimension": 2, "show": False,
        "inRange": {"color": [ORANGE, TEAL, BLUE]},
    }  # fmt: skip
    return options


def cloud_chart(points: Sequence[CloudPoint]) -> Options:
    """Return a line chart: the cloud's load and fraction over time."""
    made = over_time(
        [
            ("load", RED, [(one.unix_s, one.load) for one in points]),
            ("fraction c", BLUE, [(one.unix_s, one.fraction) for one in points]),
        ],
        "",
        low=0.0,
    )
    made["yAxis"]["max"] = max(1.0, *(math.ceil(one.load) for one in points), 0.0)
    return made


def fleet_charts(points: Sequence[FleetPoint]) -> dict[str, Options]:
    """Return the charts of the whole fleet over the last hour, by title."""

    def line(value: Callable[[Summary], float | None], scale: float = 1.0) -> Line:
        found = [(one.unix_s, value(one.summary)) for one in points]
        return [(unix_s, scale * one) for unix_s, one in found if one is not None]

    return {
        "Devices": over_time(
            [
                ("known", GREY, line(lambda one: one.devices)),
                ("online", TEAL, line(lambda one: one.online)),
            ],
            "devices",
            0.0,
        ),
        "Right, local, charge": over_time(
            [
                ("right", BLUE, line(lambda one: one.accuracy, 100)),
                ("answered on the device", ORANGE, line(lambda one: one.on_device, 100)),
                ("battery", TEAL, line(lambda one: one.battery, 100)),
            ],
            "%",
            0.0,
        ),
    }


def over_time(
    lines: Sequence[tuple[str, str, Sequence[tuple[float, float]]]],
    unit: str,
    low: float | None = None,
) -> Options:
    """Return a chart of lines over time.

    Each line is (name, colour, points), a point (seconds since 1970, value). ``low`` is the lower
    end of the vertical axis, by default chosen by ECharts.
    """
    series = [
        {
            "name": name,
            "type": "line",
            "showSymbol": False,
            "color": colour,
            "data": [[round(1000 * unix_s), round(value, 4)] for unix_s, value in points],
        }
        for name, colour, points in lines
    ]
    y = axis(unit, nameGap=34, scale=low is None)
    if low is not None:
        y["min"] = low
    if unit == "%":
        y["max"] = 100
    return base(axis("", "time"), y, series)


def device_charts(messages: Sequence[Telemetry]) -> dict[str, Options]:
    """Return the charts of a device's page, by title."""
    power = [(one.unix_s, 100 * one.battery) for one in messages]
    width = [(one.unix_s, 100 * one.fraction) for one in messages]
    mean = [(one.unix_s, one.latency_ms) for one in messages]
    worst = [(one.unix_s, one.latency_max_ms) for one in messages]
    own = [(one.unix_s, float(one.answered_device)) for one in messages]
    cloud = [(one.unix_s, float(one.answered_cloud)) for one in messages]
    failed = [(one.unix_s, float(one.failed)) for one in messages]
    right = [(one.unix_s, 100 * one.right / one.labelled) for one in messages if one.labelled]
    return {
        "Battery and fraction": over_time(
            [("battery", TEAL, power), ("fraction d", BLUE, width)], "%", 0.0
        ),
        "Right answers": over_time([("right", TEAL, right)], "%"),
        "Where answers came from": over_time(
            [("device", TEAL, own), ("cloud", BLUE, cloud), ("failed", RED, failed)], "samples", 0.0
        ),
        "Latency": over_time([("mean", BLUE, mean), ("worst", ORANGE, worst)], "ms", 0.0),
    }
