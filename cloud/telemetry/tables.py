"""The tables of the telemetry store. Seconds are since 1970, by the recorder's clock."""

from __future__ import annotations

from typing import Any, get_type_hints

from sqlalchemy import BigInteger, Boolean, Column, Double, Index, Integer, MetaData, Table, Text

from shared.fleet.messages import Telemetry

SCHEMA_VERSION = 1  # one more with every change of a table
metadata = MetaData()

schema = Table("taper_schema", metadata, Column("version", Integer, nullable=False))

# A column for each field of the message, in the message's order, so that a row is read by position.
TYPES: dict[str, type[Any]] = get_type_hints(Telemetry)
FIELDS = Telemetry.__struct_fields__
_COLUMNS: dict[type[Any], type[Any]] = {str: Text, int: BigInteger, float: Double, bool: Boolean}
_KEY = ("fleet", "device", "sequence")

telemetry = Table(
    "telemetry",
    metadata,
    Column("fleet", Text, primary_key=True),
    *(
        Column(name, _COLUMNS[TYPES[name]], primary_key=name in _KEY, nullable=False)
        for name in FIELDS
    ),
    Column("received_s", Double, nullable=False),
    sqlite_with_rowid=False,  # a device's telemetry lies together, in order
)
Index("telemetry_received", telemetry.c.fleet, telemetry.c.received_s)

# The last birth, death and reported state of each device: one row a kind.
state = Table(
    "device_state",
    metadata,
    Column("fleet", Text, primary_key=True),
    Column("device", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("session", BigInteger, nullable=False),
    Column("received_s", Double, nullable=False),
    Column("payload", Text, nullable=False),  # the message as JSON
    sqlite_with_rowid=False,
)

# Their history, and the results of commands; the digest tells a message that comes again.
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

# Every device that has sent telemetry; a query for the latest of each starts here.
device = Table(
    "device",
    metadata,
    Column("fleet", Text, primary_key=True),
    Column("device", Text, primary_key=True),
    sqlite_with_rowid=False,
)

# Sequence numbers whose telemetry was stored and then dropped for its age, both ends in.
expired = Table(
    "expired",
    metadata,
    Column("fleet", Text, primary_key=True),
    Column("device", Text, primary_key=True),
    Column("first", BigInteger, primary_key=True),
    Column("last", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
