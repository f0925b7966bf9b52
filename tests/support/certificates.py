"""An authority of our own, made with openssl, and the certificates that a test needs of it."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as PEM files."""

    certificate: Path
    key: Path


class Authority:
    """Issues certificates into ``folder``; ``certificate`` is its own, to be trusted."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        if shutil.which("openssl") is None:
            if os.environ.get("CI") == "true":
                pytest.fail("openssl is needed")
            pytest.skip("openssl is needed")
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.certificate = folder / f"{name}.pem"
        self._key = folder / f"{name}.key"
        self._openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-keyout", self._key, "-out", self.certificate, "-days", "2", "-subj", f"/CN={name}"),
        )

    def issue(self, name: str, *, alternative: str = "", days: int = 2) -> Pair:
        """A certificate for the DNS name ``name``; ``days`` below 0 gives one that has expired."""
        stem = f"{name}-{days}"
        pair = Pair(self._folder / f"{stem}.pem", self._folder / f"{stem}.key")
        request, extra = self._folder / f"{stem}.csr", self._folder / f"{stem}.ext"
        extra.write_text(f"subjectAltName={alternative or f'DNS:{name}'}\n")
        self._openssl(
            *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-keyout", pair.key, "-out", request, "-subj", f"/CN={name}"),
        )
        self._openssl(
            *("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self._key),
            *("-CAcreateserial", "-extfile", extra, "-days", days, "-out", pair.certificate),
        )
        return pair

    def _openssl(self, *words: object) -> None:
        command = ["openssl", *(str(word) for word in words)]
        subprocess.run(command, check=True, capture_output=True)
