"""What the dashboard shows, from states of devices."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from cloud.dashboard.charts import (
    battery_chart,
    cloud_chart,
    device_charts,
    fleet_charts,
    fraction_chart,
    scatter_chart,
)
from cloud.dashboard.cloud_page import CloudPage, CloudPoint, parse
from cloud.dashboard.live import FleetPoint
from cloud.dashboard.view import MOST_ROWS, Row, Rows, Tail, ago, bins, chosen, view
from cloud.fleet.state import DeviceState
from shared.fleet.messages import PROTOCOL, Birth, Death, Telemetry
from tests.support.clouds import until

MESSAGE = Telemetry(
    "a", 1, 1, 100.0, period_s=2.0, battery=0.55, fraction=0.5, answered_device=6, answered_cloud=2,
    labelled=8, right=6, payload_bytes=40, energy_j=0.016, latency_ms=3.0,
)  # fmt: skip


def device(name: str, *messages: Telemetry, gone: bool = False) -> tuple[DeviceState, Tail]:
    state = DeviceState(name)
    state.learn(Birth(name, 1, 1, 0.0, PROTOCOL, groups=("street",)))
    tail = Tail()
    for one in messages:
        state.learn(replace(one, device=name))
        tail.add(replace(one, device=name), 0.0)
    if gone:
        state.learn(Death(name, 1))
    return state, tail


def test_summary_counts_connected_devices_only() -> None:
    second = replace(MESSAGE, sequence=2, answered_device=8, answered_cloud=0, right=8)
    made = [device("a", MESSAGE, second), device("b", MESSAGE, gone=True), device("c")]
    states = {state.name: state for state, _ in made}
    tails = {state.name: tail for state, tail in made}
    seen = view(states, tails, ["c"])
    summary = seen.summary
    assert (summary.devices, summary.online, summary.pending) == (3, 2, 1)
    assert summary.accuracy == 14 / 16
    assert summary.on_device == 14 / 16
    assert summary.bytes_per_answer == 5.0
    assert summary.looks == 1.0
    assert summary.energy_mj == pytest.approx(2.0)
    assert summary.rate == 4.0
    assert summary.battery == 0.55
    assert [row.pending for row in seen.rows] == [False, False, True]
    assert seen.battery_bins[5] == 1
    assert seen.fractions == (("0.5", 1),)
    assert seen.scatter == ((2.0, 0.875, "a", 0.5),)


def test_only_rows_of_devices_that_changed_are_made_anew() -> None:
    made = [device("a", MESSAGE), device("b", MESSAGE), device("c", MESSAGE)]
    states = {state.name: state for state, _ in made}
    tails = {state.name: tail for state, tail in made}
    known = Rows()
    before = view(states, tails, [], 1.0, known).rows
    tails["b"].add(replace(MESSAGE, sequence=2, device="b", right=8), 2.0)
    known.change("b")
    after = view(states, tails, ["c"], 2.0, known).rows
    assert [one is two for one, two in zip(before, after, strict=True)] == [True, False, False]
    assert (after[1].accuracy, after[2].pending) == (14 / 16, True)
    del states["a"]
    assert [one.name for one in view(states, tails, ["c"], 3.0, known).rows] == ["b", "c"]
    # Silence is the one thing that nothing arrives for.
    quiet = view(states, tails, ["c"], 1000.0, known).rows
    assert [one.problems for one in quiet] == [("silent",), ("silent",)]
    assert view(states, tails, ["c"], 1001.0, known).rows[0] is quiet[0]


def test_nothing_known_is_none_and_not_zero() -> None:
    state, tail = device("a")
    summary = view({"a": state}, {"a": tail}, []).summary
    assert summary.accuracy is summary.battery is summary.energy_mj is None
    assert view({}, {}, []).summary.devices == 0


def test_ends_of_the_battery_have_a_bin() -> None:
    assert bins([0.0, 1.0, 0.999, -0.1, 0.25]) == (2, 0, 1, 0, 0, 0, 0, 0, 0, 2)


def row(name: str, battery: float | None, online: bool = True) -> Row:
    return Row(name, "g", online, False, battery, False, 0.5, None, None, 0.0, None, 0.0, "")


def test_table_has_the_emptiest_first_and_an_end() -> None:
    rows = [row("full", 1.0), row("away", 0.0, online=False), row("low", 0.1), row("mute", None)]
    assert [one.name for one in chosen(rows, "")[0]] == ["low", "full", "mute", "away"]
    assert [one.name for one in chosen(rows, " LOW ")[0]] == ["low"]
    many = [row(f"d{place}", 0.5) for place in range(MOST_ROWS + 5)]
    found, count = chosen(many, "")
    assert (len(found), count) == (MOST_ROWS, MOST_ROWS + 5)


@pytest.mark.parametrize(
    ("seconds", "text"), [(2, "now"), (40, "40 s ago"), (180, "3 min ago"), (90_000, "1 d ago")]
)
def test_a_time_ago_is_written_in_its_largest_unit(seconds: float, text: str) -> None:
    assert ago(seconds) == text


def test_charts_hold_the_numbers() -> None:
    state, tail = device("a", MESSAGE)
    seen = view({"a": state}, {"a": tail}, [])
    assert sum(bar["value"] for bar in battery_chart(seen)["series"][0]["data"]) == 1
    assert fraction_chart(seen)["xAxis"]["data"] == ["0.5"]
    assert scatter_chart(seen)["series"][0]["data"][0]["value"] == [2.0, 75.0, 0.5]
    charts = device_charts([MESSAGE])
    assert charts["Battery and fraction"]["series"][0]["data"] == [[100_000, 55.0]]
    assert charts["Right answers"]["series"][0]["data"] == [[100_000, 75.0]]


def test_axes_end_where_values_can() -> None:
    seen = view({}, {}, [])
    charts = {**device_charts([MESSAGE]), **fleet_charts([FleetPoint(1.0, seen.summary)])}
    shares = [one["yAxis"] for one in charts.values() if one["yAxis"]["name"] == "%"]
    assert len(shares) == 3
    assert [one["max"] for one in shares] == [100] * 3
    assert scatter_chart(seen)["yAxis"]["max"] == 100
    counts = [one["yAxis"] for one in charts.values() if one["yAxis"]["name"] != "%"]
    assert [one["min"] for one in counts] == [0.0] * 3
    assert cloud_chart([CloudPoint(1.0, 1.7, 0.5, 0, 0)])["yAxis"]["max"] == 2


PAGE = """taper_load 0.5
taper_cloud_fraction 0.75
taper_queue_samples 3
taper_requests_total{status="OK"} 90
taper_requests_total{status="RESOURCE_EXHAUSTED"} 10
"""


def test_a_metrics_page_gives_a_point_or_names_what_is_missing() -> None:
    assert parse(PAGE, 1.0) == CloudPoint(1.0, 0.5, 0.75, 3.0, 100.0)
    with pytest.raises(KeyError, match="taper_load"):
        parse("other 1\n", 1.0)


async def test_a_page_that_breaks_off_is_read_again() -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\ntaper_load 1")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(cut, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    page = CloudPage(f"http://127.0.0.1:{port}/metrics")
    task = asyncio.create_task(page.run())
    await until(lambda: "IncompleteRead" in page.error)
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    server.close()
    await server.wait_closed()


def test_rate_needs_two_readings_of_one_server() -> None:
    page = CloudPage("http://x")
    assert page.rate is None
    page.points.append(CloudPoint(1.0, 0, 1, 0, 100.0))
    page.points.append(CloudPoint(3.0, 0, 1, 0, 150.0))
    assert page.rate == 25.0
    page.points.append(CloudPoint(4.0, 0, 1, 0, 2.0))  # it was started again
    assert page.rate is None
