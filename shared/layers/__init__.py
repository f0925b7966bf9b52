"""Incomplete layers in torch: the paper's incomplete dot products, complete or at a fraction."""

from shared.layers.binary import IncompleteBinaryConv2d, IncompleteBinaryLinear
from shared.layers.norm import SwitchableBatchNorm
from shared.layers.sign import sign

__all__ = ["IncompleteBinaryConv2d", "IncompleteBinaryLinear", "SwitchableBatchNorm", "sign"]
