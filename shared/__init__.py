"""What the device and the cloud have in common: the number system, networks, bundles and the wire.

Nothing here imports ``device`` or ``cloud``; only ``layers`` and ``networks`` import torch.
"""
