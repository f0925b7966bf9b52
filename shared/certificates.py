"""Check certificates and keys in PEM before TLS uses them, so that errors name the flag."""

from __future__ import annotations

import ssl
from pathlib import Path

from shared.errors import UsageError


def check_authorities(data: bytes, flag: str) -> None:
    """Raise ``UsageError`` that names ``flag`` unless ``data`` holds certificates in PEM."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_verify_locations(cadata=data.decode("ascii"))
    except (ssl.SSLError, ValueError):
        raise UsageError(f"{flag}: is no certificate in PEM") from None


def check_pair(certificate: tuple[str, Path], key: tuple[str, Path]) -> None:
    """Raise ``UsageError`` unless the files are a certificate and its key in PEM, without password.

    Each is a pair of its flag, which the error names, and its path.
    """
    (certificate_flag, certificate_path), (key_flag, key_path) = certificate, key
    check_authorities(read_pem(certificate_path, certificate_flag), certificate_flag)
    asked = []

    def password() -> str:  # otherwise the library would ask for one on the terminal
        asked.append(True)
        return ""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate_path, key_path, password)
    except ssl.SSLError as error:
        if asked:
            reason = "has a password; give a key without one"
        elif error.reason == "KEY_VALUES_MISMATCH":
            reason = f"is not the key of {certificate_flag}"
        else:
            reason = "is no key in PEM"
        raise UsageError(f"{key_flag}: {key_path} {reason}") from None
    except OSError as error:
        raise UsageError(f"{key_flag}: {key_path} cannot be read ({error.strerror})") from None


def read_pem(path: Path, flag: str) -> bytes:
    """Return the content of a PEM file; ``UsageError`` names ``flag`` for any other file."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{flag}: {path} cannot be read ({error.strerror})") from None
    if b"-----BEGIN" not in data:
        raise UsageError(f"{flag}: {path} is no PEM file")
    return data
