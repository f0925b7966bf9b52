"""Operating a fleet: client and recorder, commands, scenarios."""
