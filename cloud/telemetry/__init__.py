"""The telemetry store: tables, writer, queries, reports and exports.

SQLite or PostgreSQL through SQLAlchemy Core; needs the extra ``fleet``.
"""
