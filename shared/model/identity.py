"""Name and version by which devices and servers identify a model."""

from __future__ import annotations

from dataclasses import dataclass

VERSION_DIGITS = 16  # of the 64 digits of a version; unique enough, for a fourth of the bytes


@dataclass(frozen=True)
class ModelIdentity:
    """The model that a request is for; empty fields leave the choice to the server."""

    model: str = ""
    version: str = ""

    @classmethod
    def short(cls, model: str, version: str) -> ModelIdentity:
        """Return an identity with the first ``VERSION_DIGITS`` digits of ``version``."""
        return cls(model, version[:VERSION_DIGITS])
