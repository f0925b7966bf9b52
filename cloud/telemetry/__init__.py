"""The telemetry store: tables, their writer, queries, reports and exports.

SQLite or PostgreSQL through SQLAlchemy Core; needs the extra ``fleet``.
"""
