"""The device half: client, battery, policy and the link to the cloud. Never imports torch.

``from device import ClientSettings, SplitClient``: a public name is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from device.split.client import SplitClient
    from device.split.sample import SampleResult
    from device.split.settings import ClientSettings
    from device.split.sync import SyncSplitClient

__all__ = ["ClientSettings", "SampleResult", "SplitClient", "SyncSplitClient"]

_HOMES = {
    "SampleResult": "device.split.sample",
    "ClientSettings": "device.split.settings",
    "SplitClient": "device.split.client",
    "SyncSplitClient": "device.split.sync",
}


def __getattr__(name: str) -> Any:
    """Load a public name from where it lives (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
