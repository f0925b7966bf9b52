"""Decide whether a processor trains faster in bfloat16."""

from __future__ import annotations

import torch


def has_bfloat16(device: torch.device) -> bool:
    """Whether ``device`` computes in bfloat16 faster than in float32.

    Every current GPU does. A CPU does if oneDNN finds instructions for it (on x86: AVX-512).
    Otherwise bfloat16 is emulated, and a step takes several times as long.
    """
    return device.type != "cpu" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def low_precision(device: torch.device, *, wanted: bool = True) -> torch.autocast:
    """Return a context that computes convolutions and products in bfloat16, if that is faster."""
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted and has_bfloat16(device))
