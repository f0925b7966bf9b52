"""Before and after a training: the network that is meant, and the bundle that is made of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cloud.training.data.datasets import Splits
from cloud.training.split.architecture_file import read_architecture
from cloud.training.split.architectures import architecture
from cloud.training.split.calibration import calibrate
from cloud.training.split.export import export
from cloud.training.split.settings import Settings
from shared.errors import UsageError
from shared.model.architecture import Architecture
from shared.model.bundle import Bundle
from shared.networks.binarynet import BinaryNet


def architecture_of(network: str | Path | Architecture, data: Splits) -> Architecture:
    """The network that is meant, for pictures such as those of ``data``."""
    if isinstance(network, Architecture):
        if network.input_shape != data.shape or network.classes != len(data.train.classes):
            raise UsageError(
                f"network: {network.name} is for {network.input_shape} and {network.classes} "
                f"classes, the data have {data.shape} and {len(data.train.classes)}"
            )
        return network
    if isinstance(network, Path):
        return read_architecture(network, data.shape, len(data.train.classes))
    return architecture(network, data.shape, len(data.train.classes))


def bundle_of(
    net: BinaryNet,
    data: Splits,
    settings: Settings,
    name: str,
    about: dict[str, Any] | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> Bundle:
    """Calibrate the trained ``net`` and export it, measured on the test split.

    ``about`` is kept in the bundle beside the settings and the data's digests; ``on_step`` is told
    (steps of calibration done, steps in all).
    """
    calibrate(net, data.train, settings, on_step)
    training = {**(about or {}), "settings": asdict(settings), **data.described()}
    return export(net, name, data.train, data.validation, data.test, training)
