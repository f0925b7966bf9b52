"""Write the progress of a training for TensorBoard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from cloud.training.split.fit import EpochReport
from shared.command import needing_extra


def summary_writer() -> Any:
    """Return the class of TensorBoard's writer; ``UsageError`` says how to install it."""
    with needing_extra("tensorboard", "--tensorboard"):
        from torch.utils.tensorboard import SummaryWriter
    return SummaryWriter


@contextmanager
def board(folder: Path | None) -> Iterator[Callable[[EpochReport], None]]:
    """Yield a function that writes the report of an epoch below ``folder``; None: does nothing."""
    if folder is None:
        yield lambda _: None
        return
    with closing(summary_writer()(str(folder))) as writer:

        def add(report: EpochReport) -> None:
            values = {"loss": report.loss, "accuracy": report.accuracy, "rate": report.rate}
            held = {f"held out/{at}": share for at, share in report.validation.items()}
            for name, value in (*values.items(), *held.items()):
                writer.add_scalar(name, value, report.epoch)
            writer.flush()

        yield add
