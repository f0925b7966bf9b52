"""One-time codes by which a device that cannot be given a file joins a fleet.

A code is kept as its digest alone: who reads the folder cannot use it.
"""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path

ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"  # without letters that look like figures
LENGTH = 10  # 50 bits: a million tries a second would take 36 years
GROUP = 5


def new_code() -> str:
    """A code in two groups, such as ``K7QFM-3MXPA``."""
    letters = "".join(secrets.choice(ALPHABET) for _ in range(LENGTH))
    return f"{letters[:GROUP]}-{letters[GROUP:]}"


def code_file(folder: Path, code: str) -> Path:
    """Where what belongs to ``code`` is kept; case, spaces and dashes do not count."""
    plain = "".join(letter for letter in code.upper() if letter.isalnum())
    return folder / f"{hashlib.sha256(plain.encode()).hexdigest()}.json"
