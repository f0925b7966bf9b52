"""Copy the weights of a trained network into the leading channels of a wider one."""

from __future__ import annotations

import torch

from shared.errors import UsageError
from shared.model.architecture import Architecture
from shared.networks.binarynet import BinaryNet


def check_widens(before: Architecture, after: Architecture) -> None:
    """Raise ``UsageError`` if they differ in more than names, steps and additional channels."""
    if _without_widths(before) != _without_widths(after) or any(
        narrow.out_channels > wide.out_channels
        for narrow, wide in zip(before.stages, after.stages, strict=True)
    ):
        raise UsageError(
            "--from: the network of --architecture or --network must have the same stages, "
            "fractions, pictures and classes, and at least as many channels in every stage"
        )


@torch.no_grad()
def take_weights(net: BinaryNet, trained: BinaryNet) -> None:
    """Copy the weights of ``trained`` into the leading channels of ``net``; the rest stay."""
    weights = dict(trained.named_parameters())
    for name, parameter in net.named_parameters():
        parameter[tuple(slice(size) for size in weights[name].shape)] = weights[name]


def _without_widths(architecture: Architecture) -> tuple[object, ...]:
    stages = [
        (stage.kind, stage.pool, stage.stride, stage.profile, stage.activation)
        for stage in architecture.stages
    ]
    return (
        architecture.input_shape,
        architecture.classes,
        architecture.device_levels,
        architecture.cloud_levels,
        architecture.exit_head,
        len(architecture.device),
        stages,
    )
