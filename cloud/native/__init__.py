"""The scheduling core in C++: fairness, admission, the cloud's level, accounting of work.

Start reading at ``dispatcher.hpp``; ``scheduler.hpp`` adds threads and answers without Python. The
core is built wherever there is a compiler. Where it was not built, the first use of any of its
names raises an error of one line, and a server cannot start.
"""

from __future__ import annotations

from shared.errors import UsageError

try:
    from cloud.native._core import (
        RUN_FIXED_S,
        Batch,
        CostModel,
        Demand,
        Dispatcher,
        FairQueue,
        Item,
        LaterLook,
        LevelController,
        LinearFit,
        Model,
        Outcome,
        Queued,
        QueueLimits,
        QueueState,
        Rejection,
        RejectReason,
        Scheduler,
        Slice,
        SojournTimes,
        Statistics,
        StreamState,
        Ticket,
        reject_reason,
    )
except ImportError as error:
    _missing = str(error)

    def __getattr__(name: str) -> object:
        """Raise an error that tells how to build the core, at the first use of any name."""
        if name.startswith("_") or name not in __all__:
            raise AttributeError(name)
        raise UsageError(
            f"server: its compiled scheduler cannot be used ({_missing}); install a C++17 "
            "compiler, and taper again"
        )


__all__ = [
    "RUN_FIXED_S",
    "Batch",
    "CostModel",
    "Demand",
    "Dispatcher",
    "FairQueue",
    "Item",
    "LaterLook",
    "LevelController",
    "LinearFit",
    "Model",
    "Outcome",
    "QueueLimits",
    "QueueState",
    "Queued",
    "RejectReason",
    "Rejection",
    "Scheduler",
    "Slice",
    "SojournTimes",
    "Statistics",
    "StreamState",
    "Ticket",
    "reject_reason",
]
