"""The network that a training starts from: a file of weights, or a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from cloud.training.data.datasets import Dataset
from cloud.training.split.from_bundle import network_of
from cloud.training.split.network_file import WEIGHTS, is_network, read_network
from cloud.training.split.recorded_command import command_line
from shared.bundles import shipped
from shared.model.architecture import Architecture
from shared.model.bundle import Bundle, read_bundle
from shared.networks.binarynet import BinaryNet

BUNDLE = "before.safetensors"  # in recorded commands, a bundle of the previous command


class Start(NamedTuple):
    """A network to start from.

    given    the network, or the bundle that it is reconstructed from
    network  name of its architecture or architecture file, as flags take it
    data     name of the data set that it was trained on
    history  the commands that made it
    file     the name that the next recorded command gives it
    """

    given: BinaryNet | Bundle
    network: str
    data: str
    history: tuple[str, ...]
    file: str

    @property
    def architecture(self) -> Architecture:
        """The architecture of the given network."""
        return self.given.architecture

    def network_over(self, data: Dataset) -> BinaryNet:
        """Return the network; norms that a bundle does not hold are measured on ``data``."""
        return network_of(self.given, data.images) if isinstance(self.given, Bundle) else self.given


def start_path(given: str) -> Path:
    """Return the file for a value of ``--from``: a path, or the name of a shipped bundle."""
    return shipped().get(given, Path(given))


def read_start(path: Path) -> Start:
    """Read a file of weights or a bundle; ``UsageError`` or ``BundleError`` for other files."""
    if is_network(path):
        net, trained = read_network(path)
        history = (*trained.history, command_line(trained, WEIGHTS, to="weights"))
        return Start(net, trained.network, trained.data, history, WEIGHTS)
    bundle = read_bundle(path)
    training = bundle.metadata.training
    command = str(training.get("command", f"(the bundle {bundle.metadata.name})"))
    network = f"{bundle.architecture.name}.toml"
    return Start(bundle, network, str(training.get("data", "")), (command,), BUNDLE)
