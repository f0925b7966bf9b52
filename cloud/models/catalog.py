"""Which models are served: several versions of each, one of them the default. Never changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cloud.models.served import ServedModel
from shared.errors import UnknownModelError, VersionMismatchError


@dataclass(frozen=True)
class Catalog:
    """``versions[name]`` lists what is served, the default version first.

    The first name is the default model. A change is a new catalog, which takes the place of the old
    one in a single assignment; requests under way keep the model that they found.
    """

    versions: dict[str, tuple[ServedModel, ...]]

    @classmethod
    def of(cls, models: Sequence[ServedModel]) -> Catalog:
        """A catalog of ``models``: of two versions of a name the earlier is the default."""
        versions: dict[str, tuple[ServedModel, ...]] = {}
        for model in models:
            known = versions.get(model.name, ())
            if all(model.version != other.version for other in known):
                versions[model.name] = (*known, model)
        return cls(versions)

    @property
    def models(self) -> tuple[ServedModel, ...]:
        """Everything that is served."""
        return tuple(model for listed in self.versions.values() for model in listed)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all models, the default first."""
        return tuple(self.versions)

    def find(self, name: str, version: str = "") -> ServedModel:
        """The model called ``name`` (empty: the default) whose version starts with ``version``.

        Raises ``UnknownModelError`` or ``VersionMismatchError``, which say what there is.
        """
        key = name or next(iter(self.versions), "")
        listed = self.versions.get(key)
        if listed is None:
            known = ", ".join(self.versions) or "no model yet"
            raise UnknownModelError(f"model: {name[:100]!r} is not served; this server has {known}")
        if not version:
            return listed[0]
        prefix = version.lower()
        for model in listed:
            if model.version.startswith(prefix):
                return model
        known = ", ".join(model.version for model in listed)
        raise VersionMismatchError(
            f"version: {version[:64]!r} of {listed[0].name} is not served; this server has {known}"
        )
