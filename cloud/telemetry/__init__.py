"""The telemetry store: tables, the one writer, and what is read from them.

SQLite or PostgreSQL through SQLAlchemy Core; needs the extra ``fleet``.
"""
