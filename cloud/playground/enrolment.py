"""Exchange the one-time codes of ``cloud.fleet enrol`` for the identity of a new device."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import Any

from shared.errors import UnauthenticatedError
from shared.fleet.codes import code_file

REFUSAL = "code: is not known, was used, or is too old; cloud.fleet enrol makes another"


class Enrolments:
    """The folder of unused codes, as ``cloud.fleet enrol`` writes them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def redeem(self, code: str) -> dict[str, Any]:
        """Return fleet, device, user and password that belong to ``code``, and delete the code.

        Raises ``UnauthenticatedError`` if the code is unknown, used or too old.
        """
        path = code_file(self._folder, code)
        taken = path.with_suffix(".taken")
        try:
            path.rename(taken)  # atomic: of two concurrent requests only one succeeds
            content: dict[str, Any] = json.loads(taken.read_bytes())
        except OSError:
            raise UnauthenticatedError(REFUSAL) from None
        finally:
            with contextlib.suppress(OSError):
                taken.unlink()
        if content.pop("until_unix_s") < time.time():
            raise UnauthenticatedError(REFUSAL)
        return content
