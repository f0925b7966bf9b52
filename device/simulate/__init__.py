"""Policies compared over simulated days on real images (``python -m device.simulate``)."""
