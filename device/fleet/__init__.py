"""Many simulated devices in one process, each with its own agent (``python -m device.fleet``)."""
