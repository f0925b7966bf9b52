"""The packed runtime: both halves of a network from a bundle, without torch."""

from shared.packed.halves import CloudHalf, DeviceHalf

__all__ = ["CloudHalf", "DeviceHalf"]
