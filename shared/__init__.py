"""Code that device and cloud share: fractions and profiles, networks, bundles, the protocol.

Nothing here imports ``device`` or ``cloud``; only ``layers`` and ``networks`` import torch.
"""
