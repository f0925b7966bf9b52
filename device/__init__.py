"""The device half: client, battery, policy and the link to the cloud. Nothing here imports torch.

The public names are listed in ``__all__`` and explained in ``docs/api.md``; import them with
``from device import SplitClient``. Each is loaded when it is first used.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from device.policy.simple import Decision, Look
    from device.split.client import SplitClient
    from device.split.outbox import LateAnswer
    from device.split.sample import SampleResult
    from device.split.settings import ClientSettings, ModelSettings, SpoolSettings
    from device.split.sync import SyncSplitClient
    from device.transport.channel import Security
    from shared.errors import (
        BundleError,
        FractionError,
        InvalidRequestError,
        LateError,
        LinkError,
        OverloadedError,
        RequestError,
        ServerFaultError,
        SpooledError,
        TaperError,
        UnauthenticatedError,
        UnavailableError,
        UnknownModelError,
        UsageError,
        VersionMismatchError,
    )

__all__ = [
    "BundleError",
    "ClientSettings",
    "Decision",
    "FractionError",
    "InvalidRequestError",
    "LateAnswer",
    "LateError",
    "LinkError",
    "Look",
    "ModelSettings",
    "OverloadedError",
    "RequestError",
    "SampleResult",
    "Security",
    "ServerFaultError",
    "SplitClient",
    "SpoolSettings",
    "SpooledError",
    "SyncSplitClient",
    "TaperError",
    "UnauthenticatedError",
    "UnavailableError",
    "UnknownModelError",
    "UsageError",
    "VersionMismatchError",
]

# gRPC's fork handlers crash the forked children of a process that uses gRPC with asyncio. Without
# the handlers a child survives, and opening a channel in it is an error. Must be set before gRPC is
# imported.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

_HOMES = {
    "ClientSettings": "device.split.settings",
    "Decision": "device.policy.simple",
    "LateAnswer": "device.split.outbox",
    "Look": "device.policy.simple",
    "ModelSettings": "device.split.settings",
    "SampleResult": "device.split.sample",
    "Security": "device.transport.channel",
    "SplitClient": "device.split.client",
    "SpoolSettings": "device.split.settings",
    "SyncSplitClient": "device.split.sync",
}


def __getattr__(name: str) -> Any:
    """Load a public name from its module (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, "shared.errors")), name)
