"""Tests of the fleet with a real broker."""
