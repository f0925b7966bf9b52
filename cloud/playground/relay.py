"""Forward the page's requests to the cloud server's REST port, with the server's token."""

from __future__ import annotations

import http.client
import ssl
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from shared.certificates import check_authorities, read_pem
from shared.errors import UnavailableError, UsageError

TIMEOUT_S = 5.0
LARGEST_ANSWER = 1 << 20


@dataclass(frozen=True)
class Reply:
    """The server's HTTP answer."""

    status: int
    body: bytes


class Relay:
    """A cloud server at ``url``, which is http://HOST:PORT or https://HOST:PORT.

    ``token`` is sent as a bearer token if given. ``ca`` is the PEM file of the authority that
    signed the server's certificate. Raises ``UsageError`` for an unusable URL or file.
    """

    def __init__(self, url: str, token: str | None, ca: Path | None = None) -> None:
        try:
            parts = urlsplit(url)
            self._port = parts.port
        except ValueError:
            parts = urlsplit("")
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
            raise UsageError(f"--server: {url!r} is not allowed; give http://HOST:PORT")
        self._host = parts.hostname
        self._tls = _context(ca) if parts.scheme == "https" else None
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}

    def ask(self, method: str, path: str, body: bytes = b"") -> Reply:
        """Send a request and block for the answer; ``UnavailableError`` if it cannot be reached."""
        connection = self._connection()
        try:
            connection.request(method, path, body or None, self._headers)
            answer = connection.getresponse()
            return Reply(answer.status, answer.read(LARGEST_ANSWER))
        except (OSError, http.client.HTTPException) as error:
            raise UnavailableError(f"cloud: cannot be reached ({_reason(error)})") from None
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        if self._tls is None:
            return http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT_S)
        return http.client.HTTPSConnection(
            self._host, self._port, timeout=TIMEOUT_S, context=self._tls
        )


def _context(ca: Path | None) -> ssl.SSLContext:
    if ca is None:
        return ssl.create_default_context()
    authority = read_pem(ca, "--ca")
    check_authorities(authority, "--ca")
    return ssl.create_default_context(cadata=authority.decode("ascii"))


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
