"""Choose the implementation of the packed runtime.

The variable ``TAPER_KERNEL`` names one; by default the best that this CPU can run is used. If the
compiled module is missing that is ``numpy``, which is logged once; with ``TAPER_REQUIRE_NATIVE=1``
it is an error.
"""

from __future__ import annotations

import logging
import os
from functools import lru_cache

from shared.errors import UsageError

try:
    import shared.packed._native as _native
except ImportError as error:
    _COMPILED: tuple[str, ...] = ()
    _missing = str(error)
else:
    _COMPILED = tuple(_native.available())
    _missing = ""

NUMPY = "numpy"
KNOWN = ("avx512", "avx2", "neon", "portable", NUMPY)

_log = logging.getLogger(__name__)
_forced: str | None = None


def available() -> tuple[str, ...]:
    """Return the implementations that run here, best first; ``numpy`` is always the last."""
    return (*_COMPILED, NUMPY)


def current() -> str:
    """Return the implementation for new halves; ``UsageError`` if the one asked for is missing."""
    return _forced if _forced is not None else _from_environment()


def force(name: str | None) -> None:
    """Make new halves use ``name``; None restores the choice by the environment."""
    global _forced
    _forced = None if name is None else check(name, "kernel")


def check(name: str, source: str) -> str:
    """Return ``name`` if that implementation runs here; else raise ``UsageError``."""
    if name not in available():
        reason = "does not run here" if name in KNOWN else "is unknown"
        raise UsageError(f"{source}: {name!r} {reason}; choose one of {', '.join(available())}")
    return name


def missing_reason() -> str:
    """Return why the compiled module cannot be used; empty if it can."""
    return _missing


@lru_cache(maxsize=1)
def _from_environment() -> str:
    if _missing and os.environ.get("TAPER_REQUIRE_NATIVE", "0") not in ("", "0"):
        raise UsageError(
            f"TAPER_REQUIRE_NATIVE: is set, but the compiled kernels cannot be used ({_missing})"
        )
    wanted = os.environ.get("TAPER_KERNEL")
    if wanted:
        return check(wanted, "TAPER_KERNEL")
    if _missing:
        _log.warning(
            "the compiled kernels were not built; numpy runs instead, with the same results but "
            "many times slower (a C++17 compiler and a reinstall bring them back)"
        )
    return available()[0]
