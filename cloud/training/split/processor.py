"""The processor that a training runs on, and settings that suit it."""

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
    """Return the processor of that name; "auto" is a GPU if there is one.

    ``UsageError`` for an unknown name, or if there is no GPU.
    """
    if name not in DEVICES:
        raise UsageError(f"--device: {name!r} is unknown; known: {', '.join(DEVICES)}")
    found = torch.cuda.is_available()
    if name == "cuda" and not found:
        raise UsageError("--device: this machine has no CUDA device that torch can use; give cpu")
    if name == "cpu" or not found:
        return CPU
    torch.backends.cudnn.benchmark = True  # pays, as there are few shapes, which recur
    return Processor(torch.device("cuda"), graphs)
