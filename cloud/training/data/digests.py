"""SHA-256 of data: what files and data sets are recognised by."""

from __future__ import annotations

import hashlib


def sha256(*contents: bytes) -> str:
    """SHA-256, in hex, of all ``contents`` one after the other."""
    digest = hashlib.sha256()
    for content in contents:
        digest.update(content)
    return digest.hexdigest()
