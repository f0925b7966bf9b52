"""The tables of the telemetry store. Times are seconds since 1970, by the recorder's clock."""

from __future__ import annotations

from typing import Any, get_type_hints

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
)

from cloud.telemetry.sums import SUMMED
from shared.fleet.messages import Telemetry

SCHEMA_VERSION = 4  # to be raised with every change of a table; see cloud.telemetry.migrations
# In PostgreSQL the tables have their own schema, as the database may hold other things.
POSTGRES_SCHEMA = "taper"
metadata = MetaData()

schema = Table("taper_schema", metadata, Column("version", Integer, nullable=False))

# One column for each field of the message, in its order, since rows are read by position.
TYPES: dict[str, type[Any]] = get_type_hints(Telemetry)
FIELDS = Telemetry.__struct_fields__
COLUMN_TYPES: dict[type[Any], type[Any]] = {
    str: Text,
    int: BigInteger,
    float: Double,
    bool: Boolean,
}

telemetry = Table(
    "telemetry",
    metadata,
    Column("fleet", Text, nullable=False),
    *(Column(name, COLUMN_TYPES[TYPES[name]], nullable=False) for name in FIELDS),
    Column("received_s", Double, nullable=False),
    PrimaryKeyConstraint("fleet", "device", "epoch", "sequence"),
    sqlite_with_rowid=False,  # stores a device's telemetry contiguously, in order
)
Index("telemetry_received", telemetry.c.fleet, telemetry.c.received_s)

# The last birth, death, desired and reported state of each device, one row for each kind. The
# session of a desired state is its version.
state = Table(
    "device_state",
    metadata,
    Column("fleet", Text, primary_key=True),
    Column("device", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("epoch", Text, nullable=False),
    Column("session", BigInteger, nullable=False),
    Column("received_s", Double, nullable=False),
    Column("payload", Text, nullable=False),  # the message as JSON
    sqlite_with_rowid=False,
)

# The history of states, and results of commands; the digest detects repeated messages.
event = Table(
    "event",
    metadata,
    Column("fleet", Text, primary_key=True),
    Column("device", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("digest", Text, primary_key=True),
    Column("received_s", Double, nullable=False),
    Column("payload", Text, nullable=False),
    sqlite_with_rowid=False,
)
Index("event_received", event.c.fleet, event.c.received_s)

# Every device that has sent telemetry, and the epoch of its latest message.
device = Table(
    "device",
    metadata,
    Column("fleet", Text, primary_key=True),
    Column("device", Text, primary_key=True),
    Column("epoch", Text, nullable=False),
    sqlite_with_rowid=False,
)

# All sequence numbers ever stored, including expired ones, as inclusive ranges.
received = Table(
    "received",
    metadata,
    Column("fleet", Text, primary_key=True),
    Column("device", Text, primary_key=True),
    Column("epoch", Text, primary_key=True),
    Column("first", BigInteger, primary_key=True),
    Column("last", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

# Sums over the telemetry of ``width_s`` seconds from ``start_s`` by the devices' clocks. The device
# "" stands for the whole fleet.
rollup = Table(
    "rollup",
    metadata,
    Column("fleet", Text, nullable=False),
    Column("width_s", BigInteger, nullable=False),
    Column("device", Text, nullable=False),
    Column("start_s", BigInteger, nullable=False),
    Column("messages", BigInteger, nullable=False),
    *(Column(name, COLUMN_TYPES[TYPES[name]], nullable=False) for name in SUMMED),
    Column("waited_ms", Double, nullable=False),
    Column("latency_max_ms", Double, nullable=False),
    Column("battery", Double, nullable=False),  # sums over messages
    Column("battery_low", Double, nullable=False),
    Column("fraction", Double, nullable=False),
    Column("cloud_fraction", Double, nullable=False),  # sum over the cloud's answers
    Column("confidence", Double, nullable=False),  # sum over samples of the exit head
    PrimaryKeyConstraint("fleet", "width_s", "device", "start_s"),
    sqlite_with_rowid=False,
)

# Roll-outs, see cloud.fleet.rollout.record; ``driver`` is the process that carries one out and
# ``alive_s`` the time of its last sign of life.
rollout = Table(
    "rollout",
    metadata,
    Column("fleet", Text, primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("rules", Text, nullable=False),  # as JSON
    Column("progress", Text, nullable=False),  # as JSON
    Column("wish", Text, nullable=False),  # an operator's wish: pause, abort or ""
    Column("who", Text, nullable=False),
    Column("started_s", Double, nullable=False),
    Column("changed_s", Double, nullable=False),
    Column("driver", Text, nullable=False),
    Column("alive_s", Double, nullable=False),
    sqlite_with_rowid=False,
)

# The devices of a roll-out, and what they had before.
rollout_device = Table(
    "rollout_device",
    metadata,
    Column("fleet", Text, primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("device", Text, primary_key=True),
    Column("wave", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("desired", Text),  # the model desired before; NULL if left to the device
    Column("model", Text, nullable=False),  # the model reported before
    Column("version", Text, nullable=False),
    sqlite_with_rowid=False,
)

# The audit trail: who changed what and when, and the result.
change = Table(
    "change",
    metadata,
    Column("fleet", Text, primary_key=True),
    Column("made_s", Double, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("who", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("what", Text, nullable=False),
    Column("result", Text, nullable=False),
    sqlite_with_rowid=False,
)
