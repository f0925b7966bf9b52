"""A trained network as a small file: learnt weights, without statistics, which are measured anew.

Latent weights are kept as bfloat16, which keeps their signs and so the network; the rest is
float32. One safetensors file, its settings and data as JSON in the header.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from cloud.training.split.settings import Settings
from cloud.training.split.teacher import Teacher
from shared.atomic_file import replacing
from shared.errors import UsageError
from shared.model.architecture import Architecture
from shared.networks.binarynet import BinaryNet

FORMAT = "taper-network-1"
TEACHER_FORMAT = "taper-teacher-1"


@dataclass(frozen=True)
class Trained:
    """How a network came about.

    ``network`` is the name of its architecture, ``history`` has the commands before the last one
    where a training began with the weights of another.
    """

    network: str
    data: str
    data_digest: str
    settings: Settings
    validation: dict[str, float]
    history: tuple[str, ...] = ()


def write_network(path: Path, net: BinaryNet, trained: Trained) -> None:
    """Write ``net``; a kill leaves the file before or the file after."""
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


def write_teacher(path: Path, teacher: Teacher) -> None:
    """Write a teacher's weights and statistics as bfloat16."""
    tensors = {
        name: value.detach().to("cpu", torch.bfloat16).contiguous()
        for name, value in teacher.state_dict().items()
        if value.is_floating_point()
    }
    with replacing(path, "--output") as temporary:
        save_file(tensors, temporary, {"format": TEACHER_FORMAT})


def read_network(path: Path) -> tuple[BinaryNet, Trained]:
    """What ``write_network`` wrote; statistics still have to be calibrated.

    ``UsageError``: there is no such file, or it is another kind of file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if header.get("format") != FORMAT:
            raise UsageError(f"{path}: is no trained network of format {FORMAT}")
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
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no such file") from None
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"{path}: cannot be read as a trained network ({error!r:.200})") from None
    return net, trained
