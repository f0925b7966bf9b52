"""A fast forward pass of a split network for training, equal to ``BinaryNet`` after its norms.

A stage's input x is -1/+1 (or -2/0/+2), padded with its smallest value. Here it is represented by
b = 0/1 (or 0/1/2), padded with 0, where x = 2 b - 1 (or 2 b - 2):

    conv(x, w) = conv(b, 2 w) - a constant for each channel

Every convolution is followed by a norm over the batch, which removes the constant. The advantages:
padding needs no copy of the map, signs of weights are computed once per step instead of once per
pair of levels, and maps keep the data type of the convolutions. Gradients are with respect to x.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from shared.layers.norm import SwitchableBatchNorm
from shared.layers.sign import sign
from shared.model.architecture import Kind
from shared.networks.binary_stage import BinaryStage
from shared.networks.binarynet import BinaryNet

ALIGNED_CHANNELS = 8  # tensor cores need multiples; images are padded with channels of 0


class TrainingPass:
    """The pass of one batch through ``net``: (B, C, H, W) in 0..255 -> logits (B, classes).

    ``dtype`` is the type of maps and of signs of weights; norms are computed in float32.
    ``aligned`` pads the images' channels to ``ALIGNED_CHANNELS``.
    """

    def __init__(
        self, net: BinaryNet, images: Tensor, dtype: torch.dtype, *, aligned: bool = False
    ) -> None:
        self.architecture = net.architecture
        self._net = net
        self._device = cast("list[BinaryStage]", list(net.device))
        self._cloud = cast("list[BinaryStage]", list(net.cloud))
        missing = -images.shape[1] % ALIGNED_CHANNELS if aligned else 0
        self._images = _fill(images.to(dtype), missing)
        exits = [net.exit] if net.exit is not None else []
        self._weights = {
            stage: _signs(stage, dtype) for stage in (*self._device, *self._cloud, *exits)
        }
        first = self._device[0]
        self._weights[first] = _fill(self._weights[first], missing)

    def device(self, level: int) -> Tensor:
        """Compute the bits (0/1) that are sent at a device level: (B, n, H', W')."""
        x = self._images
        for stage, (_, _, after) in zip(
            self._device, self.architecture.device_shapes(level), strict=True
        ):
            x = self._activate(stage, self._sums(stage, x, after.channels), level)
        return x

    def cloud(self, bits: Tensor, level: int, cloud_level: int) -> Tensor:
        """Compute logits (B, classes) from the output of ``device``."""
        x = bits
        pair = self._net.pair(level, cloud_level)
        *inner, last = self._cloud
        shapes = self.architecture.cloud_shapes(level, cloud_level)
        for stage, (_, _, after) in zip(inner, shapes, strict=False):
            x = self._activate(stage, self._sums(stage, x, after.channels), pair)
        return self._logits(last, x, pair)

    def exit(self, bits: Tensor, level: int) -> Tensor | None:
        """Compute logits (B, classes) of the exit head; None if the network has none."""
        return None if self._net.exit is None else self._logits(self._net.exit, bits, level)

    def _sums(self, stage: BinaryStage, x: Tensor, out_channels: int) -> Tensor:
        weight = self._weights[stage][:out_channels, : x.shape[1]]
        if stage.stage.kind is Kind.IMAGE_CONV:
            sums = F.conv2d(x, weight, stride=stage.stage.stride, padding=1)
        else:
            sums = _DoubledConv.apply(x, weight, stage.stage.stride, 1)  # type: ignore[no-untyped-call]
        pool = stage.stage.pool
        return F.max_pool2d(sums, pool) if pool > 1 else sums

    def _logits(self, stage: BinaryStage, x: Tensor, level: int) -> Tensor:
        # The kernel covers the whole map: (B, n, H, W) -> (B, n H W, 1, 1), a matrix product.
        weight = self._weights[stage][:, : x.shape[1]].flatten(1)[:, :, None, None]
        x = x.flatten(1)[:, :, None, None]
        sums = _DoubledConv.apply(x, weight, 1, 0)  # type: ignore[no-untyped-call]
        return _normalise(stage.norm, sums.float(), level).flatten(1)

    @staticmethod
    def _activate(stage: BinaryStage, sums: Tensor, level: int) -> Tensor:
        y = _normalise(stage.norm, sums, level)
        if stage.delta is None:
            return cast("Tensor", _Bit.apply(y))  # type: ignore[no-untyped-call]
        return cast("Tensor", _TwoBits.apply(y, stage.delta[: y.shape[1]]))  # type: ignore[no-untyped-call]


class _DoubledConv(torch.autograd.Function):
    """conv(b, 2 w), with the gradient of conv(x, w) with respect to x = 2 b."""

    @staticmethod
    def forward(ctx: Any, b: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(b, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(b, weight * 2, stride=stride, padding=padding)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        b, weight = ctx.saved_tensors
        ones, stride, padding = [1, 1], [ctx.stride, ctx.stride], [ctx.padding, ctx.padding]
        wanted = [ctx.needs_input_grad[0], True, False]
        x_grad, weight_grad, _ = torch.ops.aten.convolution_backward(
            grad, b, weight, None, stride, padding, ones, False, [0, 0], 1, wanted
        )
        return x_grad, weight_grad * 2, None, None


class _Bit(torch.autograd.Function):
    """1 where y >= 0, else 0; the gradient is that of ``sign``."""

    @staticmethod
    def forward(ctx: Any, y: Tensor) -> Tensor:
        ctx.save_for_backward(y)
        return _bits(y)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return _inside(grad, y)


class _TwoBits(torch.autograd.Function):
    """The number, 0 to 2, of y - delta and y + delta that are >= 0; gradient of
    ``ternary_sign``.
    """

    @staticmethod
    def forward(ctx: Any, y: Tensor, delta: Tensor) -> Tensor:
        d = delta.to(y.dtype).view(-1, 1, 1)
        upper, lower = y - d, y + d
        ctx.save_for_backward(upper, lower)
        return _bits(upper) + _bits(lower)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        upper, lower = ctx.saved_tensors
        through_upper, through_lower = _inside(grad, upper), _inside(grad, lower)
        delta_grad = (through_lower - through_upper).sum((0, 2, 3), dtype=torch.float32)
        return through_upper + through_lower, delta_grad


def _bits(y: Tensor) -> Tensor:
    """Return 1 where y >= 0, else 0; one kernel on a GPU, vector instructions on a CPU."""
    return torch.heaviside(y, y.new_ones(())) if y.is_cuda else (y >= 0).to(y.dtype)


def _inside(grad: Tensor, y: Tensor) -> Tensor:
    """Return ``grad`` where abs(y) < 1, else 0."""
    result: Tensor = torch.ops.aten.hardtanh_backward(grad, y, -1.0, 1.0)
    return result


def _signs(stage: BinaryStage, dtype: torch.dtype) -> Tensor:
    weight = sign(stage.conv.weight) * stage.conv.coefficients.view(1, -1, 1, 1)
    return weight.to(dtype, memory_format=torch.channels_last)


def _normalise(norm: SwitchableBatchNorm, sums: Tensor, level: int) -> Tensor:
    """Normalise by the statistics of the batch."""
    n = sums.shape[1]
    # Views and a sum, since an index list would be copied to the GPU at every call.
    scale, *more = (norm.weight[chosen, :n] for chosen in norm.affine_of[level])
    shift, *others = (norm.bias[chosen, :n] for chosen in norm.affine_of[level])
    for weight, bias in zip(more, others, strict=True):
        scale, shift = scale + weight, shift + bias
    return F.batch_norm(sums, None, None, scale, shift, training=True)


def _fill(x: Tensor, channels: int) -> Tensor:
    """Append ``channels`` of zeros: (B, n, H, W) -> (B, n + channels, H, W), channels last."""
    filled = F.pad(x, (0, 0, 0, 0, 0, channels)) if channels else x
    return filled.contiguous(memory_format=torch.channels_last)
