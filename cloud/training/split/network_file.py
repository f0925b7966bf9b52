"""Networks as safetensors files, with the architecture as JSON in the header.

``write_network`` writes a small file from which training can continue: the learnt weights without
statistics, which are measured again. Latent weights are stored as bfloat16, which keeps their signs
and so the network. ``save_network`` writes the complete state exactly. ``load_network`` reads both.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from cloud.training.split.settings import Settings
from cloud.training.split.teacher import Teacher
from shared.atomic_file import replacing
from shared.errors import UsageError
from shared.model.architecture import Architecture
from shared.networks.binarynet import BinaryNet

FORMAT = "taper-network-1"
STATE_FORMAT = "taper-network-state-1"
TEACHER_FORMAT = "taper-teacher-1"
WEIGHTS = "before.net.safetensors"  # in recorded commands, the output of the previous command
UNREADABLE = (KeyError, TypeError, ValueError, RuntimeError)  # errors that foreign headers cause


@dataclass(frozen=True)
class Trained:
    """How a network was trained.

    ``network`` is the name of its architecture or architecture file. If the training started from
    another network, ``history`` holds the commands before the last, and ``start`` is the name of
    that network's file in the last one.
    """

    network: str
    data: str
    data_digest: str
    settings: Settings
    validation: dict[str, float]
    history: tuple[str, ...] = ()
    start: str = WEIGHTS


def write_network(path: Path, net: BinaryNet, trained: Trained) -> None:
    """Write the weights of ``net`` atomically."""
    tensors = {
        name: value.detach().to("cpu", torch.bfloat16 if value.dim() == 4 else torch.float32)
        for name, value in net.named_parameters()
    }
    header = {
        "format": FORMAT,
        "architecture": json.dumps(net.architecture.to_json()),
        "trained": json.dumps(asdict(trained)),
    }
    with replacing(path, "--output") as temporary:
        save_file({name: value.contiguous() for name, value in tensors.items()}, temporary, header)


def save_network(net: BinaryNet, path: Path) -> None:
    """Write the complete state of ``net``, including statistics, atomically."""
    tensors = {name: value.cpu().contiguous() for name, value in net.state_dict().items()}
    header = {"format": STATE_FORMAT, "architecture": json.dumps(net.architecture.to_json())}
    with replacing(path, "path") as temporary:
        save_file(tensors, temporary, header)


def load_network(path: Path) -> BinaryNet:
    """Load a network from a file of ``save_network`` or ``write_network``.

    The first is ready for evaluation; the second has no statistics and needs ``calibrate`` first.
    ``UsageError`` if the file does not exist or is of another kind.
    """
    header, tensors = _read(path)
    if header.get("format") != STATE_FORMAT:
        return read_network(path)[0]
    try:
        net = BinaryNet(Architecture.from_json(json.loads(header["architecture"])))
        net.load_state_dict(tensors)
    except UNREADABLE as error:
        raise UsageError(f"{path}: cannot be read as a network ({error!r:.200})") from None
    return net.eval()


def write_teacher(path: Path, teacher: Teacher) -> None:
    """Write a teacher's weights and statistics as bfloat16."""
    tensors = {
        name: value.detach().to("cpu", torch.bfloat16).contiguous()
        for name, value in teacher.state_dict().items()
        if value.is_floating_point()
    }
    with replacing(path, "--output") as temporary:
        save_file(tensors, temporary, {"format": TEACHER_FORMAT})


def is_network(path: Path) -> bool:
    """Return whether ``write_network`` wrote the file; ``UsageError`` if it cannot be read."""
    with _opened(path) as file:
        return bool((file.metadata() or {}).get("format") == FORMAT)


def read_network(path: Path) -> tuple[BinaryNet, Trained]:
    """Read a file of ``write_network``; the network's statistics still have to be calibrated.

    ``UsageError`` if the file does not exist or is of another kind.
    """
    header, tensors = _read(path)
    if header.get("format") != FORMAT:
        raise UsageError(f"{path}: is no trained network of format {FORMAT}")
    try:
        net = BinaryNet(Architecture.from_json(json.loads(header["architecture"])))
        value: dict[str, Any] = json.loads(header["trained"])
        about = {"settings": Settings(**value["settings"])}
        trained = Trained(**{**value, **about, "history": tuple(value.get("history", ()))})
        parameters = dict(net.named_parameters())
        if parameters.keys() != tensors.keys():
            raise UsageError(f"{path}: its tensors are not those of its architecture")
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(tensors[name].float())
    except UNREADABLE as error:
        raise UsageError(f"{path}: cannot be read as a trained network ({error!r:.200})") from None
    return net, trained


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    with _opened(path) as file:
        header = file.metadata() or {}
        return header, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a safetensors file; ``UsageError`` if it cannot be read."""
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no such file") from None
    except (SafetensorError, OSError) as error:
        raise UsageError(f"{path}: cannot be read as a network ({error!r:.200})") from None
