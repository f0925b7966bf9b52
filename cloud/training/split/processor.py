"""Where a training runs: a processor and the numbers that suit it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from shared.errors import UsageError

DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class Processor:
    """A torch device, and whether steps are recorded as CUDA graphs and replayed."""

    device: torch.device
    graphs: bool = False

    @property
    def cuda(self) -> bool:
        """Whether it is a GPU."""
        return self.device.type == "cuda"


CPU = Processor(torch.device("cpu"))


def processor(name: str, *, graphs: bool = True) -> Processor:
    """The processor of that name, "auto" being a GPU where there is one.

    ``UsageError``: no such name, or no GPU here.
    """
    if name not in DEVICES:
        raise UsageError(f"--device: {name!r} is unknown; known: {', '.join(DEVICES)}")
    found = torch.cuda.is_available()
    if name == "cuda" and not found:
        raise UsageError("--device: this machine has no CUDA device that torch can use; give cpu")
    if name == "cpu" or not found:
        return CPU
    torch.backends.cudnn.benchmark = True  # shapes are few and come back in every epoch
    return Processor(torch.device("cuda"), graphs)
