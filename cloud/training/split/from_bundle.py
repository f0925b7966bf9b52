"""Reconstruct a trainable network from a bundle.

A bundle holds the signs of the weights, and thresholds instead of batch norms. Each sign becomes a
latent weight of a fixed small magnitude. A threshold t becomes a norm that is zero at t: if the
sums have mean m and standard deviation s over some images, ``shift = -scale * (t - m) / s``. The
device half then computes the bundle's bits exactly on these images. In the cloud half, the scale
and shift of a pair of levels are a device level's plus a cloud level's, so they are fitted to those
of all pairs by least squares, and the logits are approximate.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from shared.model.bits import unpack
from shared.model.bundle import Bundle
from shared.model.stage_tensors import StageTensors
from shared.networks.binary_stage import BinaryStage, Step
from shared.networks.binarynet import BinaryNet
from shared.networks.calibration import Parts, SentBits, measure, run

IMAGES = 3_000  # enough to measure mean and standard deviation of a sum
LATENT = 0.1  # about 50 steps of the usual learning rate can change the sign of such a weight
FARTHEST = 4.0  # standard deviations; a bit whose threshold is farther is constant, learns nothing
ROUNDS = 50  # of the least-squares fit, which converges in a few

Affine = tuple[Tensor, Tensor, Tensor | None]  # scale (n,), shift (n,), delta (n,) if ternary


@torch.no_grad()
def network_of(bundle: Bundle, images: npt.NDArray[np.uint8]) -> BinaryNet:
    """Return a network that can be trained and answers nearly as ``bundle`` does.

    images (N, H, W, C): training images, of which the first ``IMAGES`` are used to measure the
    statistics of the norms.
    """
    net = BinaryNet(bundle.architecture).eval()
    # (N, H, W, C) -> (N, C, H, W)
    chosen = torch.from_numpy(images[:IMAGES]).permute(0, 3, 1, 2)
    device = [_take_signs(bundle, "device", step.stage) for step in net.device_steps[0]]
    head = None if net.exit is None else _take_signs(bundle, "exit", net.exit)
    sent = []
    for level, steps in enumerate(net.device_steps):
        for place, numbers in enumerate(device):
            _set_level(steps[place], numbers, _inputs(steps[:place], lambda: net.parts(chosen)))
        bits = SentBits(run(steps, x) for x in net.parts(chosen))
        if net.exit is not None and head is not None:
            _set_level(Step(net.exit, bundle.architecture.classes, level), head, bits)
        sent.append(bits)
    _fit_cloud(net, bundle, sent)
    return net


def _inputs(before: Sequence[Step], parts: Parts) -> Parts:
    """Return what the stage after ``before`` takes; computed anew, as maps are large."""
    return lambda: (run(before, x) for x in parts())


def _set_level(step: Step, numbers: StageTensors, inputs: Parts) -> None:
    """Set the norm of a stage that has scale and shift of its own at every level."""
    scale, shift, _ = _affine(step, numbers, inputs)
    _set(step.stage.norm.weight[step.table], scale)
    _set(step.stage.norm.bias[step.table], shift)


def _fit_cloud(net: BinaryNet, bundle: Bundle, sent: Sequence[SentBits]) -> None:
    """Set the cloud half. ``sent``: the bits of each device level."""
    for place, (module, _, _) in enumerate(net.cloud_steps[0][0]):
        numbers = _take_signs(bundle, "cloud", module)
        # Channels that a pair does not use stay nan, and the fit ignores them.
        shape = (len(sent), len(net.architecture.cloud_levels), module.stage.out_channels)
        scales, shifts, deltas = (
            torch.full(shape, torch.nan, dtype=torch.float64) for _ in range(3)
        )
        for row, bits in enumerate(sent):
            for column, steps in enumerate(net.cloud_steps[row]):
                step = steps[place]
                scale, shift, delta = _affine(step, numbers, _inputs(steps[:place], bits))
                scales[row, column, : step.outputs] = scale
                shifts[row, column, : step.outputs] = shift
                if delta is not None:
                    deltas[row, column, : step.outputs] = delta
        _set(module.norm.weight, torch.cat(_rows_and_columns(scales)))
        _set(module.norm.bias, torch.cat(_rows_and_columns(shifts)))
        if module.delta is not None:
            _set(module.delta, deltas.nanmean(dim=(0, 1)))


def _take_signs(bundle: Bundle, group: str, module: BinaryStage) -> StageTensors:
    """Set the latent weights of a stage; return the stage's tensors of the bundle."""
    numbers = bundle.stage(group, module.stage.name)
    outputs, inputs, height, width = module.conv.weight.shape
    bits = unpack(numbers.weight, height * width * inputs)
    # (out, kh * kw * in) -> (out, kh, kw, in) -> (out, in, kh, kw)
    bits = bits.reshape(outputs, height, width, inputs).transpose(0, 3, 1, 2)
    module.conv.weight.copy_(torch.from_numpy(np.where(bits, LATENT, -LATENT)))
    return numbers


def _affine(step: Step, numbers: StageTensors, inputs: Parts) -> Affine:
    """Return the norm of ``step`` that is zero at the thresholds, measured on ``inputs``."""
    measure([step], inputs)
    n, table, norm = step.outputs, step.table, step.stage.norm
    mean, deviation = norm.mean[table, :n], norm.var[table, :n].sqrt()
    deviation = deviation.clamp(min=1.0)  # for sums that do not vary
    if numbers.scale.size:
        scale, bias = (
            torch.from_numpy(values[table, :n]).double() for values in (numbers.scale, numbers.bias)
        )
        return scale * deviation, bias + scale * mean, None
    scale = 1.0 - 2.0 * torch.from_numpy(numbers.flip[table, :n]).double()
    # Sums are integers: halfway between the last one below the threshold and the first above.
    upper = torch.from_numpy(numbers.threshold[table, :n]).double() - 0.5
    delta = None
    if numbers.low_threshold.size:
        lower = torch.from_numpy(numbers.low_threshold[table, :n]).double() - 0.5
        delta = ((upper - lower).abs() / 2 / deviation).clamp(max=FARTHEST)
        upper = (upper + lower) / 2
    shift = (-scale * (upper - mean) / deviation).clamp(-FARTHEST, FARTHEST)
    return scale, shift, delta


def _rows_and_columns(values: Tensor) -> tuple[Tensor, Tensor]:
    """Split (D, C, N) into (D, N) and (C, N) whose sums fit ``values`` best; nan is ignored.

    Both have the same mean, as in a new norm.
    """
    rows, columns = values.new_zeros(values[:, 0].shape), values.new_zeros(values[0].shape)
    for _ in range(ROUNDS):
        rows = (values - columns).nanmean(dim=1).nan_to_num()
        columns = (values - rows[:, None]).nanmean(dim=0).nan_to_num()
    apart = (rows.mean(dim=0) - columns.mean(dim=0)) / 2
    return rows - apart, columns + apart


def _set(parameter: Tensor, values: Tensor) -> None:
    """Copy ``values`` into the leading part of ``parameter``, except nan."""
    known = ~values.isnan()
    parameter[..., : values.shape[-1]][known] = values[known].to(parameter.dtype)
