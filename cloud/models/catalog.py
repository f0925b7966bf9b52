"""The set of models that are served, with one or more versions of each. Immutable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cloud.models.served import ServedModel
from shared.errors import InvalidRequestError, UnknownModelError, VersionMismatchError
from shared.protocol.messages import SHORTEST_VERSION_PREFIX


@dataclass(frozen=True)
class Catalog:
    """``versions[name]`` lists the served versions of a model, the default version first.

    The first name is the default model. A change makes a new catalog; requests in progress keep
    the model that they found in the old one.
    """

    versions: dict[str, tuple[ServedModel, ...]]

    @classmethod
    def of(cls, models: Sequence[ServedModel]) -> Catalog:
        """Build a catalog of ``models``; the first version listed under a name is its default."""
        versions: dict[str, tuple[ServedModel, ...]] = {}
        for model in models:
            known = versions.get(model.name, ())
            if all(model.version != other.version for other in known):
                versions[model.name] = (*known, model)
        return cls(versions)

    @property
    def models(self) -> tuple[ServedModel, ...]:
        """All versions of all models."""
        return tuple(model for listed in self.versions.values() for model in listed)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all models, the default first."""
        return tuple(self.versions)

    def find(self, name: str, version: str = "") -> ServedModel:
        """Return the model called ``name`` whose version starts with ``version``.

        Both may be empty, for the default. Raises ``UnknownModelError`` or ``VersionMismatchError``
        that name what is served, or ``InvalidRequestError`` if ``version`` is shorter than
        ``SHORTEST_VERSION_PREFIX``.
        """
        key = name or next(iter(self.versions), "")
        listed = self.versions.get(key)
        if listed is None:
            known = ", ".join(self.versions) or "no model yet"
            raise UnknownModelError(f"model: {name[:100]!r} is not served; this server has {known}")
        if not version:
            return listed[0]
        if len(version) < SHORTEST_VERSION_PREFIX:
            raise InvalidRequestError(
                f"version: {version!r} is too short; give {SHORTEST_VERSION_PREFIX} or more "
                "digits, or none"
            )
        prefix = version.lower()
        for model in listed:
            if model.version.startswith(prefix):
                return model
        known = ", ".join(model.version for model in listed)
        raise VersionMismatchError(
            f"version: {version[:64]!r} of {listed[0].name} is not served; this server has {known}"
        )
