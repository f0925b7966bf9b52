"""Version 1 of the fleet contract."""
