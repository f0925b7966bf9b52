"""The model repository: bundle files, reloaded when they change.

Every ``*.safetensors`` file in the folder or one of its subfolders is a version of the model that
its metadata names. The newest file of a model is its default version. A file that cannot be loaded
is logged, and the version that it was to replace stays.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from cloud.models.catalog import Catalog
from cloud.models.served import ServedModel
from cloud.watched_file import Stamp, stamp
from shared.bundles import SUFFIX, bundle_path, shipped
from shared.errors import BundleError, UsageError
from shared.model.bundle import read_bundle

_log = structlog.stdlib.get_logger(__name__)


@dataclass
class _Entry:
    """A file: its stamp at the last attempt to load, the last loaded model and its stamp."""

    tried: Stamp
    model: ServedModel | None
    loaded: Stamp


class Repository:
    """Loads the bundles in ``names`` once, and those in ``folder`` whenever they change.

    ``on_load(loads, failures)`` receives the numbers of versions loaded and refused. Without names
    and folder, all shipped bundles are loaded. Raises ``UsageError`` or ``BundleError``.
    """

    def __init__(
        self,
        names: Sequence[str],
        folder: Path | None,
        on_load: Callable[[int, int], object],
    ) -> None:
        if not names and folder is None:
            names = list(shipped())
            if not names:
                raise UsageError(
                    "--model: no bundle ships with this installation; name a bundle file"
                )
        if folder is not None and not folder.is_dir():
            raise UsageError(f"--models: {folder} is no folder")
        self._fixed = [load(bundle_path(name)) for name in names]
        self._folder = folder
        self._on_load = on_load
        self._entries: dict[Path, _Entry] = {}
        self._numbers: dict[str, dict[str, int]] = {}  # numbers of versions, by model
        self._forbidden: set[str] = set()
        self._scanning = threading.Lock()
        on_load(len(self._fixed), 0)

    @property
    def unloaded(self) -> frozenset[str]:
        """Names of models that ``forbid`` has left out."""
        return frozenset(self._forbidden)

    def forbid(self, name: str) -> None:
        """Leave a model out of catalogs until it is allowed again."""
        self._forbidden.add(name)

    def allow(self, name: str) -> None:
        """Undo ``forbid``."""
        self._forbidden.discard(name)

    def scan(self) -> Catalog:
        """Load new and changed files; return the catalog of all models that can be served."""
        with self._scanning:
            return self._scan()

    def _scan(self) -> Catalog:
        for path, found in self._files().items():
            entry = self._entries.get(path)
            if entry is None or entry.tried != found:
                self._entries[path] = self._try(path, found, entry)
        files = self._files()
        for path in [path for path in self._entries if path not in files]:
            del self._entries[path]
            _log.info("model unloaded", file=path.name)
        newest = sorted(
            (entry for entry in self._entries.values() if entry.model is not None),
            key=lambda entry: entry.loaded,
            reverse=True,
        )
        from_folder = [entry.model for entry in newest if entry.model is not None]
        models = self._fixed + sorted(from_folder, key=lambda model: model.name)
        for model in reversed(models):  # the oldest version first
            known = self._numbers.setdefault(model.name, {})
            model.number = known.setdefault(model.version, len(known) + 1)
        return Catalog.of([model for model in models if model.name not in self._forbidden])

    async def changes(self, poll_s: float) -> AsyncIterator[Catalog]:
        """Scan the folder every ``poll_s`` seconds in a thread; yields each new catalog."""
        known: dict[Path, Stamp] = {path: entry.tried for path, entry in self._entries.items()}
        while True:
            await asyncio.sleep(poll_s)
            found = await asyncio.to_thread(self._files)
            if found != known:
                known = found
                yield await asyncio.to_thread(self.scan)

    def _files(self) -> dict[Path, Stamp]:
        if self._folder is None:
            return {}
        paths = [*self._folder.glob(f"*{SUFFIX}"), *self._folder.glob(f"*/*{SUFFIX}")]
        stamps = {path: stamp(path) for path in sorted(paths)}
        return {path: found for path, found in stamps.items() if found is not None}

    def _try(self, path: Path, found: Stamp, before: _Entry | None) -> _Entry:
        try:
            model = load(path)
        except Exception as error:  # noqa: BLE001 - no file may end a running server
            kept = before.model if before else None
            still = f"; version {kept.version[:8]} keeps serving" if kept else ""
            why = str(error) if isinstance(error, BundleError) else repr(error)[:200]
            _log.warning("bundle refused", file=path.name, why=f"{why}{still}")
            self._on_load(0, 1)
            return _Entry(found, kept, before.loaded if before else found)
        _log.info("model loaded", model=model.name, version=model.version[:16], file=path.name)
        self._on_load(1, 0)
        return _Entry(found, model, found)


def load(path: Path) -> ServedModel:
    """Load and warm up the bundle at ``path``; ``BundleError`` if it cannot be served."""
    model = ServedModel(read_bundle(path))
    model.warm_up()
    return model
