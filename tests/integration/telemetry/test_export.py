"""Exports of the telemetry store, read back with independent readers."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest
from pyarrow import parquet

from cloud.fleet.__main__ import main
from cloud.telemetry.store import Store
from shared.fleet.messages import Telemetry
from tests.support.telemetry import BEGAN_S, sent, series


@pytest.fixture
async def store(url: str) -> str:
    async with Store(url) as opened:
        await opened.append([*series("b", range(1, 31)), *series("a", range(1, 31))])
        await opened.append([sent("x", 1, fleet="sea")])
    return url


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """Exit status and what was printed."""
    with pytest.raises(SystemExit) as ended:
        main(words)
    captured = capsys.readouterr()
    status = ended.value.code
    assert isinstance(status, int)
    return status, captured.out + captured.err


def test_parquet_has_every_field_of_every_message(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "fleet.parquet"
    words = ("export", "--store", store, "--fleet", "city", "--output", str(path))
    assert run(capsys, *words) == (0, f"{path}: 60 rows\n")
    found = parquet.read_table(path).to_pylist()
    assert [(one["device"], one["sequence"]) for one in found] == [
        (name, number) for name in ("a", "b") for number in range(1, 31)
    ]
    last = found[-1]
    assert (last.pop("fleet"), last.pop("received_s")) == ("city", BEGAN_S + 1800)
    assert Telemetry(**last) == sent("b", 30).message
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith(".")] == []


def test_a_csv_export_begins_at_since(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "fleet.csv"
    words = ["export", "--store", store, "--fleet", "city", "-o", str(path)]
    # 2023-11-14T22:13:20 is the beginning: twenty minutes later there are eleven left of each.
    assert run(capsys, *words, "--since", "2023-11-14T22:33:20")[0] == 0
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {int(row["sequence"]) for row in rows} == set(range(20, 31))
    assert len(rows) == 22
    assert run(capsys, *words, "--since", "1h") == (0, f"{path}: 0 rows\n")
    assert path.read_text().startswith('"fleet","device","session","sequence"')


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["-o", "x"], "--format: x does not say it; give parquet or csv"),
        (["-o", "x.csv", "--format", "xls"], "--format: 'xls' is not allowed; give parquet or csv"),
        (["-o", "x.csv", "--since", "yesterday"], "--since: 'yesterday' is not allowed; give 30m"),
        (["-o", "x.csv", "--fleet", "a/b"], "--fleet: 'a/b' is no name"),
        (["-o", "x.csv"], "--fleet: the store has nothing of 'default'; it has city, sea"),
        (["-o", "/no/such/x.csv", "--fleet", "city"], "--output: /no/such/x.csv cannot be written"),
        (["-o", "x.csv", "--store", "missing"], "--store: missing: there is no such file"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str], expected: str, store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, text = run(capsys, "export", "--store", store, *words)
    assert status == 2
    assert text.startswith(f"error: {expected}")
    assert text.count("\n") == 1


def test_a_file_stays_as_it_was_if_the_export_fails(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "folder.csv"
    (path / "inside").mkdir(parents=True)
    status, text = run(capsys, "export", "--store", store, "--fleet", "city", "-o", str(path))
    assert (status, "cannot be written" in text) == (2, True)
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith(".")] == []


def test_without_the_extra_one_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "cloud.telemetry.export")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert run(capsys, "export", "-o", "x.csv") == (
        2,
        "error: pyarrow is not installed; install taper's extra 'fleet', from a checkout: "
        "pip install '.[fleet]', or from a wheel: pip install 'taper_split-VERSION.whl[fleet]'\n",
    )
