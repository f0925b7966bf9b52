"""TLS certificates and bearer tokens, both read again when their files change."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import grpc

from cloud.settings import ServerSettings
from cloud.watched_file import Watched
from shared.certificates import check_authorities, check_pair
from shared.errors import UnauthenticatedError, UsageError

SCHEME = "bearer "
SHORTEST_TOKEN = 16
_log = logging.getLogger(__name__)


class Tokens:
    """The accepted tokens of a file and the names of their owners.

    Only digests of the tokens are kept in memory. The file has one ``NAME TOKEN`` a line; empty
    lines and lines that begin with # are skipped. ``owners`` is replaced as a whole when the file
    has changed; a change that makes the file invalid is logged and leaves the tokens as they were.
    """

    def __init__(self, path: Path, flag: str = "--token-file") -> None:
        self._file = Watched(path)
        self._flag = flag
        self.owners = parse_tokens(self._file.read(flag), flag)

    def reload(self) -> bool:
        """Read the file again if it changed; True if the tokens were replaced."""
        if not self._file.changed():
            return False
        try:
            self.owners = parse_tokens(self._file.read(self._flag), self._flag)
        except UsageError as error:
            _log.warning("tokens stay as they were: %s", error)
            return False
        return True

    def owner(self, header: str | bytes | None) -> str:
        """Return the owner of an ``authorization`` header's token; ``UnauthenticatedError``."""
        text = header.decode("latin-1") if isinstance(header, bytes) else header or ""
        if text[: len(SCHEME)].lower() != SCHEME:
            raise UnauthenticatedError("authorization: a bearer token is needed here")
        # The look-up time depends on the digest alone, so it reveals nothing about the tokens.
        owner = self.owners.get(_digest(text[len(SCHEME) :].strip()))
        if owner is None:
            raise UnauthenticatedError("authorization: this token is not known here")
        return owner


def parse_tokens(data: bytes, flag: str = "--token-file") -> Mapping[bytes, str]:
    """Parse a token file into owners by digest; ``UsageError`` names the flag and a bad line."""
    owners: dict[bytes, str] = {}
    lines = data.decode("utf-8", "replace").splitlines()
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 2 or len(words[1]) < SHORTEST_TOKEN:
            raise UsageError(
                f"{flag}: line {number} must be NAME TOKEN, the token of {SHORTEST_TOKEN} or "
                "more characters"
            )
        owners[_digest(words[1])] = words[0]
    if not owners:
        raise UsageError(f"{flag}: has no token in it")
    return owners


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


class Pem(NamedTuple):
    """A server's key and certificate, and the authority of client certificates if one is set."""

    key: bytes
    certificate: bytes
    client_authorities: bytes | None


class Certificates:
    """The files of the server's certificate and key, and of its clients' authority (None: any)."""

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None) -> None:
        self._paths = {"--tls-cert": certificate, "--tls-key": key}
        if client_ca is not None:
            self._paths["--client-ca"] = client_ca
        self._files = {flag: Watched(path) for flag, path in self._paths.items()}
        self.pem = self._read()

    def credentials(self) -> grpc.ServerCredentials:
        """Return credentials for gRPC, which look for changed files at every new connection."""
        return grpc.dynamic_ssl_server_credentials(
            _configuration(self.pem),
            self._fetch,  # type: ignore[arg-type]  # may return None, which the stubs do not say
            require_client_authentication="--client-ca" in self._files,
        )

    def fetch(self) -> Pem | None:
        """Return changed certificates, or None to keep those in use; called in gRPC's threads."""
        if not any(file.changed() for file in self._files.values()):
            return None
        try:
            self.pem = self._read()
        except UsageError as error:
            _log.warning("the certificate stays as it was: %s", error)
            return None
        _log.info("the certificate was read again")
        return self.pem

    def _fetch(self) -> grpc.ServerCertificateConfiguration | None:
        return None if (pem := self.fetch()) is None else _configuration(pem)

    def _read(self) -> Pem:
        pem = {flag: file.read(flag) for flag, file in self._files.items()}
        check_pair(*((flag, self._paths[flag]) for flag in ("--tls-cert", "--tls-key")))
        if "--client-ca" in pem:
            check_authorities(pem["--client-ca"], "--client-ca")
        if any(file.changed() for file in self._files.values()):
            raise UsageError("--tls-cert, --tls-key: were being replaced")
        return Pem(pem["--tls-key"], pem["--tls-cert"], pem.get("--client-ca"))


def _configuration(pem: Pem) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(pem.key, pem.certificate)], pem.client_authorities
    )


def tokens_of(settings: ServerSettings) -> Tokens | None:
    """Return the tokens that callers need; None if the settings name no file; ``UsageError``."""
    return None if settings.token_file is None else Tokens(settings.token_file, "--token-file")


def admins_of(settings: ServerSettings) -> Tokens | None:
    """Return the tokens of callers who may load models; None if nobody may; ``UsageError``."""
    path = settings.admin_token_file
    return None if path is None else Tokens(path, "--admin-token-file")


def certificates_of(settings: ServerSettings) -> Certificates | None:
    """Return the certificates for TLS; None without TLS; ``UsageError`` names an unusable file."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    return Certificates(settings.tls_cert, settings.tls_key, settings.client_ca)
