"""SHA-256 digests, by which files and data sets are identified."""

from __future__ import annotations

import hashlib


def sha256(*contents: bytes) -> str:
    """Return the SHA-256, in hex, of the concatenated ``contents``."""
    digest = hashlib.sha256()
    for content in contents:
        digest.update(content)
    return digest.hexdigest()
