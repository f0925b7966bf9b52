"""The packed runtime, which runs both halves of a bundle's network without torch."""

from shared.packed.halves import CloudHalf, DeviceHalf

__all__ = ["CloudHalf", "DeviceHalf"]
