"""The costs of a network at a fraction: multiply-accumulates and bytes of parameters."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from shared.layers.leading import Counted
from shared.layers.slimmable import SlimmableBatchNorm
from shared.networks.incomplete import IncompleteNetwork

NORM_NUMBERS = 2  # numbers per channel, after statistics are folded into scale and shift
NORM_BYTES = 4 * NORM_NUMBERS


@dataclass(frozen=True)
class Cost:
    """Multiply-accumulates for one image, and bytes of the parameters used."""

    macs: int
    parameter_bytes: int


@dataclass(frozen=True)
class Call:
    """A layer's part in a pass, with the shapes of its input and output."""

    name: str
    module: nn.Module
    x: tuple[int, ...]
    y: tuple[int, ...]

    @property
    def used(self) -> dict[str, tuple[int, ...]]:
        """The shape of the leading block that is used of each of the layer's parameters."""
        if not isinstance(self.module, Counted):
            return {}
        linear = len(self.x) == 2
        n, m = (self.x[-1], self.y[-1]) if linear else (self.x[1], self.y[1])
        return self.module.used(n, m)


def calls(network: IncompleteNetwork, input_shape: Sequence[int], fraction: float) -> list[Call]:
    """List layers and batch norms in the order in which an image (C, H, W) runs through them."""
    found: list[Call] = []
    # Recorded by running one image of zeros through the network, on its device.
    device = next(network.parameters()).device
    with _recorded(network, found), torch.no_grad():
        was_training = network.training
        network.eval()
        network(torch.zeros(1, *input_shape, device=device), fraction)
        network.train(was_training)
    return found


def cost(network: IncompleteNetwork, input_shape: Sequence[int], fraction: float = 1.0) -> Cost:
    """Return the cost of ``network`` for one image of ``input_shape`` (C, H, W) at ``fraction``.

    Weights count with their stored size: 32 bits, or 1 in binary layers. A batch norm counts as two
    numbers per channel without multiply-accumulates, since it can be folded into the layer before.
    """
    macs = bits = 0
    for call in calls(network, input_shape, fraction):
        if isinstance(call.module, Counted):
            macs += call.module.macs(call.x, call.y)
            numbers = sum(math.prod(shape) for shape in call.used.values())
            bits += numbers * call.module.parameter_bits
        else:
            bits += 8 * NORM_BYTES * call.y[1]
    return Cost(macs, -(-bits // 8))


@contextmanager
def _recorded(network: nn.Module, found: list[Call]) -> Iterator[None]:
    handles = []

    def recorder(name: str) -> Any:
        def record(module: nn.Module, args: tuple[Any, ...], y: Tensor) -> None:
            found.append(Call(name, module, tuple(args[0].shape), tuple(y.shape)))

        return record

    for name, module in network.named_modules():
        counted: bool = isinstance(module, Counted)
        if counted or isinstance(module, SlimmableBatchNorm):
            handles.append(module.register_forward_hook(recorder(name)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
