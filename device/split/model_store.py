"""Fetch models from the server, verify them and keep them in a folder.

A new version replaces the kept one only after it has passed its checks. A version that fails them
is not fetched again. For a model NAME the folder holds

    NAME.safetensors            the newest version, in use
    NAME.previous.safetensors   the version before, used if the newest becomes unreadable
    NAME.VERSION.part           an interrupted transfer, to be resumed
    NAME.rejected               versions that failed their checks on this device
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from device.transport.channel import Security
from device.transport.model_source import model_source
from shared.errors import BundleError, InvalidRequestError, LinkError, UsageError
from shared.model.bundle import DEVICE_GROUPS, LARGEST_FILE_BYTES, Bundle, read_bundle
from shared.protocol.messages import ModelInfo

SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
_log = logging.getLogger(__name__)

Check = Callable[[Bundle], None]  # raises ``BundleError`` if the model does not work here


class ModelStore:
    """The device's copy of one model.

    ``check`` raises ``BundleError`` for a model that does not work on this device; it is called for
    every copy before its use. An empty ``name`` means the server's default model.
    """

    def __init__(
        self, folder: Path, name: str, servers: Sequence[str], security: Security, check: Check
    ) -> None:
        self._folder = folder
        self._name = name
        self._servers = tuple(servers)
        self._security = security
        self._check = check

    def local(self) -> Bundle | None:
        """Return the newest copy in the folder that passes its checks; None if there is none."""
        if not self._name:
            self._name = self._last_used()
        if not self._name:
            return None
        for path in (self._path(".safetensors"), self._path(".previous.safetensors")):
            if not path.exists():
                continue
            try:
                bundle = read_bundle(path, DEVICE_GROUPS)
                self._check(bundle)
            except BundleError as error:
                _log.warning("the kept model %s is not used: %s", path.name, error)
            else:
                return bundle
        return None

    async def newer(self, current: str) -> Bundle | None:
        """Fetch the server's version; None if it is ``current`` or does not pass its checks.

        ``LinkError`` if no server can be reached, ``RequestError`` if it does not have the model.
        """
        info, address = await self._describe()
        if info.version == current or info.version in self._rejected():
            return None
        self._folder_ready()
        data = await self._fetch(info, address)
        return self._accept(info.version, data)

    async def first(self) -> Bundle:
        """Return the server's model, or the kept copy if no server can be reached."""
        kept = self.local()
        try:
            fresh = await self.newer(kept.metadata.version if kept else "")
        except LinkError as error:
            if kept is None:
                raise
            _log.warning("%s; going on with the kept model", error)
            return kept
        bundle = fresh or kept
        if bundle is None:
            raise BundleError(f"model {self._name}: the server's version does not work here")
        return bundle

    async def _describe(self) -> tuple[ModelInfo, str]:
        """Return the model's description by the first server that answers, and its address."""
        failure: LinkError | None = None
        for address in self._servers:
            try:
                async with model_source(address, self._security) as source:
                    info = await source.describe(self._name)
            except LinkError as error:
                failure = error
                continue
            if not SAFE_NAME.fullmatch(info.name) or not re.fullmatch(
                r"[0-9a-f]{64}", info.version
            ):
                raise LinkError(f"server {address}: describes a model without a proper name")
            self._name = info.name
            return info, address
        raise failure or LinkError("no server can be reached")

    async def _fetch(self, info: ModelInfo, address: str) -> bytes:
        """Fetch the file, resuming an earlier attempt, and verify its SHA-256."""
        part = self._path(f".{info.version[:16]}.part")
        have = part.read_bytes() if part.exists() else b""
        sha256, total = "", 0
        try:
            async with model_source(address, self._security) as source:
                with part.open("ab") as file:
                    async for piece in source.part(info.name, info.version, len(have)):
                        sha256, total = piece.sha256 or sha256, piece.total_bytes or total
                        if total > LARGEST_FILE_BYTES or len(have) + len(piece.chunk) > total:
                            raise BundleError(
                                f"model {info.name}: is larger than it says or may be"
                            )
                        file.write(piece.chunk)
                        have += piece.chunk
        except InvalidRequestError as error:
            part.unlink(missing_ok=True)  # the partial file is longer than the server's file
            raise LinkError(str(error)) from None
        except BundleError:
            part.unlink(missing_ok=True)
            raise
        if len(have) < total:
            raise LinkError(f"server {address}: broke off after {len(have)} of {total} bytes")
        part.unlink(missing_ok=True)
        if hashlib.sha256(have).hexdigest() != sha256:
            raise LinkError(f"server {address}: the model came damaged, its SHA-256 is wrong")
        return have

    def _accept(self, version: str, data: bytes) -> Bundle | None:
        """Check ``data`` and replace the kept copy; returns None if the check fails."""
        fresh = self._path(".new.safetensors")
        try:
            fresh.write_bytes(data)
            bundle = read_bundle(fresh, DEVICE_GROUPS)
            if bundle.metadata.version != version:
                raise BundleError(f"model {self._name}: its version is not what the server said")
            self._check(bundle)
        except BundleError as error:
            fresh.unlink(missing_ok=True)
            _log.warning("version %s is not used: %s", version[:16], error)
            self._reject(version)
            return None
        except OSError as error:
            raise UsageError(f"--model-folder: {fresh} cannot be written ({error})") from None
        current = self._path(".safetensors")
        if current.exists():
            current.replace(self._path(".previous.safetensors"))
        fresh.replace(current)
        return bundle

    def _last_used(self) -> str:
        """Return the name of the model that was stored last; empty if there is none."""
        kept = [
            path
            for path in self._folder.glob("*.safetensors")
            if not path.stem.endswith((".previous", ".new"))
        ]
        return max(kept, key=lambda path: path.stat().st_mtime).stem if kept else ""

    def _folder_ready(self) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"--model-folder: {self._folder} cannot be made ({error.strerror})"
            ) from None

    def _rejected(self) -> set[str]:
        path = self._path(".rejected")
        return set(path.read_text().split()) if self._name and path.exists() else set()

    def _reject(self, version: str) -> None:
        with self._path(".rejected").open("a") as file:
            file.write(f"{version}\n")

    def _path(self, suffix: str) -> Path:
        if not SAFE_NAME.fullmatch(self._name):
            raise UsageError(f"--model: {self._name!r} is no name of a model")
        return self._folder / f"{self._name}{suffix}"
