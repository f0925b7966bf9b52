"""The spool: durable, bounded, honest about damage; and its laws under random use."""

from __future__ import annotations

import logging
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device.split.spool import Sample, Spool
from shared.errors import UsageError
from tests.support.databases import connections, fill_disk


def sample(number: int, level: int = 0, model: str = "m") -> Sample:
    return Sample(model, "v1", level, number.to_bytes(4, "little"))


def bits(samples: list[Sample]) -> list[int]:
    return [int.from_bytes(one.bits, "little") for one in samples]


def test_samples_stay_in_order_until_confirmed(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with Spool(path) as spool:
        numbers = spool.put(sample(i) for i in range(5))
        spool.confirm([n for n in numbers[:2] if n])
        assert bits(spool.oldest(10)) == [2, 3, 4]
    with Spool(path) as again:
        assert bits(again.oldest(2)) == [2, 3]
        assert again.waiting() == 3
        assert bits(again.oldest(10, without=[numbers[2] or 0])) == [3, 4]
        # A number is never used again: what was confirmed cannot come back under its name.
        assert again.put([sample(9)])[0] == 6


def test_only_samples_of_one_kind_travel_together(tmp_path: Path) -> None:
    with Spool(tmp_path / "s.db") as spool:
        spool.put([sample(0), sample(1), sample(2, level=1), sample(3)])
        assert bits(spool.oldest(10)) == [0, 1]


def test_full_spool_keeps_what_it_promised(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Spool(tmp_path / "s.db", limit=3) as spool, caplog.at_level(logging.WARNING):
        assert spool.put(sample(i) for i in range(5)) == [1, 2, 3, None, None]
        assert spool.put([sample(9)]) == [None]
        assert bits(spool.oldest(10)) == [0, 1, 2]
        assert len(caplog.records) == 1
        assert "holds 3 samples" in caplog.text
        spool.refuse(1, "unknown model")
        assert spool.put([sample(7)]) == [4]  # what nobody will answer makes room
        assert spool.refused() == []


def test_full_disk_takes_nothing_and_loses_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = connections(monkeypatch)
    with Spool(tmp_path / "s.db") as spool, caplog.at_level(logging.WARNING):
        spool.put([sample(1)])
        fill_disk(opened[-1])
        big = Sample("m", "v1", 0, bytes(100_000))
        assert spool.put([big, big]) == [None, None]
        assert "full" in caplog.text
        assert bits(spool.oldest(10)) == [1]
        spool.confirm([1])
        assert spool.waiting() == 0


@pytest.mark.parametrize(
    "content", [b"not a database", b"SQLite format 3\0" + bytes(100), b"\xff" * 9000]
)
def test_damaged_spool_is_set_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    path = tmp_path / "s.db"
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING), Spool(path) as spool:
        assert spool.put([sample(1)]) == [1]
    assert "damaged" in caplog.text
    assert (tmp_path / "s.db.damaged-1").read_bytes() == content
    path.write_bytes(content)
    Spool(path).close()
    assert (tmp_path / "s.db.damaged-2").exists()


def test_of_torn_pages_the_whole_samples_are_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "s.db"
    with Spool(path) as spool:
        spool.put(sample(i) for i in range(5000))
        spool.confirm(range(1, 11))
        spool.refuse(11, "unknown model")
        spool.mark_answered([12, 5000])
    data = bytearray(path.read_bytes())
    data[20_480:40_960] = bytes(20_480)
    path.write_bytes(data)
    with Spool(path) as spool:
        kept = spool.oldest(5000)
        assert 4000 < spool.waiting() == len(kept) < 5000
        assert [(one.id, *bits([one])) for one in kept] == [(one.id, one.id - 1) for one in kept]
        assert kept[0].id == 12
        assert [one.id for one in kept if one.answered] == [12, 5000]
        assert spool.put([sample(0)]) == [5001]
    assert (tmp_path / "s.db.damaged-1").exists()
    assert f"{len(kept)} samples of s.db.damaged-1 are kept" in caplog.text


def test_what_has_rotted_in_a_damaged_spool_is_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with Spool(path) as spool:
        spool.put([sample(1), sample(2), sample(3)])
    with sqlite3.connect(path) as database:
        database.execute("UPDATE sample SET bits = x'00' WHERE id = 2")
        database.execute("PRAGMA user_version = 7")
    database.close()
    with Spool(path) as spool:
        assert bits(spool.oldest(10)) == [1, 3]


def test_a_spool_of_release_0_1_is_used(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with Spool(path) as spool:
        spool.put([sample(1)])
    with sqlite3.connect(path) as database:
        database.execute("ALTER TABLE sample DROP COLUMN answered")
        database.execute("ALTER TABLE sample DROP COLUMN image")
    database.close()
    with Spool(path) as spool:
        spool.put([sample(2)])
        spool.mark_answered([2])
        assert [one.answered for one in spool.oldest(10)] == [False, True]


def test_bits_of_another_version_take_the_place_of_a_samples_bits(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with Spool(path) as spool:
        spool.put([Sample("m", "v1", 0, b"old", image=b"picture"), sample(2)])
        (first, *_) = spool.oldest(10)
        spool.change(replace(first, version="v2", level=1, bits=b"new"))
    with Spool(path) as spool:
        assert spool.oldest(10) == [
            replace(first, version="v2", level=1, bits=b"new"),
        ]
        assert spool.waiting() == 2


def test_foreign_database_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE photos (id INTEGER)")
    other.close()
    Spool(path).close()
    assert (tmp_path / "s.db.damaged-1").exists()


def test_rotten_sample_is_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = connections(monkeypatch)
    with Spool(tmp_path / "s.db") as spool:
        spool.put([sample(1), sample(2)])
        with opened[-1] as database:
            database.execute("UPDATE sample SET bits = x'00' WHERE id = 1")
        assert bits(spool.oldest(10)) == [2]
        assert spool.refused() == [(1, "damaged")]


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with Spool(tmp_path / "s.db"), pytest.raises(UsageError, match="in use by another process"):
        Spool(tmp_path / "s.db")


def test_file_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--spool"):
        Spool(tmp_path / "nowhere" / "s.db")
    with pytest.raises(UsageError, match="--spool"):
        Spool(tmp_path)
    with pytest.raises(UsageError, match="--spool-max"):
        Spool(tmp_path / "s.db", limit=0)


def test_clock_that_jumps_changes_no_order(tmp_path: Path) -> None:
    times = iter([1e9, -5.0, 4e9])
    with Spool(tmp_path / "s.db", wall=lambda: next(times)) as spool:
        for number in range(3):
            spool.put([sample(number)])
        assert bits(spool.oldest(10)) == [0, 1, 2]


Action = tuple[str, int]


@settings(deadline=None)  # every example makes real files
@given(
    st.lists(st.tuples(st.sampled_from(["put", "confirm", "crash", "refuse"]), st.integers(0, 9)))
)
def test_spool_is_a_queue_that_survives(
    tmp_path_factory: pytest.TempPathFactory, actions: list[Action]
) -> None:
    path = tmp_path_factory.mktemp("spool") / "s.db"
    spool = Spool(path, limit=6)
    waiting: list[int] = []
    refused: list[int] = []
    for action, which in actions:
        if action == "put":
            (number,) = spool.put([sample(which)])
            if len(waiting) + len(refused) >= 6 and refused:
                refused.pop(0)
            assert (number is None) == (len(waiting) + len(refused) >= 6)
            if number is not None:
                waiting.append(number)
        elif action == "confirm" and waiting:
            spool.confirm([waiting.pop(which % len(waiting))])
        elif action == "refuse" and waiting:
            number = waiting.pop(which % len(waiting))
            refused = sorted([*refused, number])
            spool.refuse(number, "no")
        elif action == "crash":
            spool.close()
            spool = Spool(path, limit=6)
        assert [one.id for one in spool.oldest(100)] == waiting
    spool.close()
