"""The name under which devices and servers refer to a model and its version."""

from __future__ import annotations

from dataclasses import dataclass

VERSION_DIGITS = 16  # of the 64 that name a version: enough, and a fourth of the bytes


@dataclass(frozen=True)
class ModelIdentity:
    """Which model a request is for; empty fields leave the choice to the server."""

    model: str = ""
    version: str = ""

    @classmethod
    def short(cls, model: str, version: str) -> ModelIdentity:
        """The identity with as many digits of ``version`` as requests carry."""
        return cls(model, version[:VERSION_DIGITS])
