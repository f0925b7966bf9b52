"""An earlier training step, with which ``tests.benchmarks.training`` compares the present one.

It is unchanged, but works on the weights of a present network. Maps are -1 and 1 instead of 0 and
1, signs of weights are computed for each pair of levels, borders are copied, every sign is
converted to float32, and every step waits for its loss.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from cloud.training.split.pairs import Pairs
from shared.layers.norm import SwitchableBatchNorm
from shared.model.architecture import Kind
from shared.networks.binary_stage import BinaryStage
from shared.networks.binarynet import BinaryNet

WIDEST_WEIGHT = 2.0


class _Sign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.where(x >= 0, 1.0, -1.0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad * (x.abs() <= 1)  # type: ignore[no-any-return]


class EarlierStep:
    """Trains ``net``, all of whose stages are binary, a batch at a time."""

    def __init__(self, net: BinaryNet, learning_rate: float) -> None:
        self._net = net
        self._optimiser = torch.optim.Adam(net.parameters(), lr=learning_rate)
        self._device, self._cloud = (
            cast("list[BinaryStage]", list(half)) for half in (net.device, net.cloud)
        )

    def step(self, images: Tensor, labels: Tensor, pairs: Pairs) -> float:
        """Train a step on images (B, C, H, W) in 0..255 and labels (B,); return the loss."""
        with torch.autocast("cpu", torch.bfloat16):
            loss, widest = self._loss(images, labels, pairs)
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        self._net.clip_latent_weights()
        return float(widest.detach())

    def _loss(self, images: Tensor, labels: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
        net, total, lesson = self._net, torch.zeros(()), torch.empty(0)
        widest = total
        sums = _sums(self._device[0], images, self._device[0].stage.out_channels)
        for level, cloud_levels in pairs:
            bits = self._bits(sums, level)
            classes = net.architecture.classes
            exits = [] if net.exit is None else [_logits(net.exit, bits, classes, level)]
            outputs = [self._answer(bits, level, c) for c in cloud_levels]
            if not lesson.numel():
                logits = outputs.pop(0).float()
                widest = F.cross_entropy(logits, labels)
                total = total + WIDEST_WEIGHT * widest
                lesson = F.softmax(logits.detach(), dim=1)
            for logits in (*outputs, *exits):
                total = total + F.cross_entropy(logits.float(), lesson)
        return total, widest

    def _bits(self, sums: Tensor, level: int) -> Tensor:
        shapes = [after for _, _, after in self._net.architecture.device_shapes(level)]
        x = _sign(_norm(self._device[0].norm, sums[:, : shapes[0].channels], level)).float()
        for stage, after in zip(self._device[1:], shapes[1:], strict=True):
            x = _sign(_norm(stage.norm, _sums(stage, x, after.channels), level)).float()
        return x

    def _answer(self, bits: Tensor, level: int, cloud_level: int) -> Tensor:
        net, x = self._net, bits
        pair = net.pair(level, cloud_level)
        *inner, last = self._cloud
        shapes = net.architecture.cloud_shapes(level, cloud_level)
        for stage, (_, _, after) in zip(inner, shapes, strict=False):
            x = _sign(_norm(stage.norm, _sums(stage, x, after.channels), pair)).float()
        return _logits(last, x, net.architecture.classes, pair)


def _sign(x: Tensor) -> Tensor:
    return _Sign.apply(x)  # type: ignore[no-any-return, no-untyped-call]


def _sums(stage: BinaryStage, x: Tensor, out_channels: int) -> Tensor:
    n = x.shape[1]
    binary = _sign(stage.conv.weight[:out_channels, :n])
    binary = binary * stage.conv.coefficients[:n].view(1, -1, 1, 1)
    if stage.stage.kind is not Kind.BINARY_LINEAR:
        x = F.pad(x, (1, 1, 1, 1), value=0 if stage.stage.kind is Kind.IMAGE_CONV else -1)
    x = F.conv2d(x, binary)
    return F.max_pool2d(x, stage.stage.pool) if stage.stage.pool > 1 else x


def _norm(norm: SwitchableBatchNorm, x: Tensor, level: int) -> Tensor:
    n, chosen = x.shape[1], norm.affine_of[level]
    scale, shift = norm.weight[chosen, :n].sum(0), norm.bias[chosen, :n].sum(0)
    return F.batch_norm(x, None, None, scale, shift, training=True)


def _logits(stage: BinaryStage, x: Tensor, classes: int, level: int) -> Tensor:
    return _norm(stage.norm, _sums(stage, x, classes), level).flatten(1)
