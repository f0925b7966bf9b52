"""Serving processes: one put together from its parts, or several under a supervisor."""
