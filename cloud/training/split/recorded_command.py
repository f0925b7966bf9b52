"""The command that trains a network again; bundles record it."""

from __future__ import annotations

from dataclasses import fields

from cloud.training.split.network_file import Trained
from cloud.training.split.settings import Settings

DEFAULTS = Settings()


def command_line(trained: Trained, file: str, to: str = "output") -> str:
    """Return the command that trains this network again, without paths of this machine."""
    flag = "architecture" if trained.network.endswith(".toml") else "network"
    words = [f"--{flag} {trained.network} --data {trained.data} --{to} {file}"]
    if trained.history:
        words.append(f"--from {trained.start} --epochs {trained.settings.epochs}")
    for field in fields(Settings):
        value = getattr(trained.settings, field.name)
        if value == getattr(DEFAULTS, field.name) or f"--{field.name} {value}" in words[-1]:
            continue
        flag = "seeds" if field.name == "seed" else field.name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words.append(f"--{flag} {value}")
    return f"python -m cloud.training.train {' '.join(words)}"
