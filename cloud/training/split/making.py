"""Find the network to train by its name, file or value, and make a bundle of a trained one."""

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
    """Return the network given by name, file or value, for pictures of the shape of ``data``."""
    if isinstance(network, Architecture):
        check_fits(network, data, f"network: {network.name} is for")
        return network
    if isinstance(network, Path):
        return read_architecture(network, data.shape, len(data.train.classes))
    return architecture(network, data.shape, len(data.train.classes))


def check_fits(network: Architecture, data: Splits, named: str) -> None:
    """Raise ``UsageError``, beginning with ``named``, if ``data`` has other pictures or classes."""
    wanted, found = (
        f"{shape.height}x{shape.width}x{shape.channels} pictures of {classes} classes"
        for shape, classes in (
            (network.input_shape, network.classes),
            (data.shape, len(data.train.classes)),
        )
    )
    if wanted != found:
        raise UsageError(f"{named} {wanted}, and the data have {found}")


def bundle_of(
    net: BinaryNet,
    data: Splits,
    settings: Settings,
    name: str,
    about: dict[str, Any] | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> Bundle:
    """Calibrate the trained ``net`` and export it, measured on the test split.

    The bundle keeps ``about`` beside the settings and the data's digests. ``on_step`` receives
    (calibration steps done, all steps).
    """
    calibrate(net, data.train, settings, on_step)
    training = {**(about or {}), "settings": asdict(settings), **data.described()}
    return export(net, name, data.train, data.validation, data.test, training)
