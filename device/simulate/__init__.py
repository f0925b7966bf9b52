"""Compare policies over simulated days on real images (``python -m device.simulate``)."""
