"""Incomplete layers in torch: the paper's incomplete dot products, complete or at a fraction."""

from shared.layers.binary import IncompleteBinaryConv2d, IncompleteBinaryLinear
from shared.layers.conv import IncompleteConv2d
from shared.layers.linear import IncompleteLinear
from shared.layers.norm import SwitchableBatchNorm
from shared.layers.separable import IncompleteDepthwiseSeparableConv2d
from shared.layers.sign import sign
from shared.layers.slimmable import SlimmableBatchNorm
from shared.layers.ternary import ternary_sign

__all__ = [
    "IncompleteBinaryConv2d",
    "IncompleteBinaryLinear",
    "IncompleteConv2d",
    "IncompleteDepthwiseSeparableConv2d",
    "IncompleteLinear",
    "SlimmableBatchNorm",
    "SwitchableBatchNorm",
    "sign",
    "ternary_sign",
]
