"""One-time codes with which devices that cannot be given a file, such as browsers, join a fleet.

Only the digest of a code is stored, so reading the folder does not reveal usable codes.
"""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path

ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"  # without letters that look like digits
LENGTH = 10  # 50 bits: a million tries a second would take 36 years
GROUP = 5


def new_code() -> str:
    """Return a random code in two groups, such as ``K7QFM-3MXPA``."""
    letters = "".join(secrets.choice(ALPHABET) for _ in range(LENGTH))
    return f"{letters[:GROUP]}-{letters[GROUP:]}"


def code_file(folder: Path, code: str) -> Path:
    """Return the path of the file for ``code``; case, spaces and dashes are ignored."""
    plain = "".join(letter for letter in code.upper() if letter.isalnum())
    return folder / f"{hashlib.sha256(plain.encode()).hexdigest()}.json"
