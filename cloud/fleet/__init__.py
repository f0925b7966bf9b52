"""Operating a fleet: its client and recorder, the commands, scenarios, roll-outs."""
