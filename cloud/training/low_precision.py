"""Whether bfloat16 pays on a processor."""

from __future__ import annotations

import torch


def has_bfloat16(device: torch.device) -> bool:
    """Whether ``device`` computes in bfloat16 faster than in float32.

    Every GPU of today does. A CPU does if oneDNN finds instructions for it (on x86: AVX-512);
    otherwise it is emulated, which makes a step several times as long.
    """
    return device.type != "cpu" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def low_precision(device: torch.device, *, wanted: bool = True) -> torch.autocast:
    """A context in which convolutions and products are computed in bfloat16, if it pays there."""
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted and has_bfloat16(device))
