"""Networks made of incomplete layers."""

from shared.networks.binarynet import BinaryNet

__all__ = ["BinaryNet"]
