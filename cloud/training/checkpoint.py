"""Checkpoints: written atomically, and loaded only by a run with the same settings."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from shared.atomic_file import replacing
from shared.errors import UsageError

FORMAT = 1
REMEDY = "name another, remove the file, or run with its settings"


def save(path: Path, identity: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Write ``state`` atomically: after a kill the file is either the old or the new one.

    ``identity`` holds plain values that identify the training: network, settings, data.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"format": FORMAT, "identity": dict(identity), "state": dict(state)}
    with replacing(path, "checkpoint") as temporary:
        torch.save(document, temporary)


def load(path: Path, identity: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the state that ``save`` wrote; None if there is no file.

    Raises ``UsageError`` if the file is no checkpoint or has another identity; the message names
    the first difference.
    """
    if not path.exists():
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about foreign files before refusing them
            document = torch.load(path, weights_only=True, map_location="cpu")
        found, state = document["identity"], document["state"]
        version = document["format"]
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"checkpoint {path}: cannot be read ({error!r:.200}); {REMEDY}") from None
    except pickle.UnpicklingError:
        raise UsageError(f"checkpoint {path}: is not a checkpoint of tensors; {REMEDY}") from None
    if version != FORMAT:
        raise UsageError(f"checkpoint {path}: has format {version}, not {FORMAT}; {REMEDY}")
    for name in dict.fromkeys((*identity, *found)):
        ours, theirs = identity.get(name), found.get(name)
        if ours != theirs:
            raise UsageError(
                f"checkpoint {path}: was made with {name} {theirs!r}, not {ours!r}; {REMEDY}"
            )
    result: dict[str, Any] = state
    return result
