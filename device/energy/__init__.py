"""Batteries, chargers and clocks. The energy that work costs is in ``shared.energy``."""
