"""The installed version of taper."""

from __future__ import annotations

from functools import cache

DISTRIBUTION = "taper-split"  # the name "taper" on PyPI belongs to another project
UNKNOWN = "0"


@cache
def installed_version() -> str:
    """Return the version of the installed distribution; "0" in a checkout without installation."""
    from importlib.metadata import PackageNotFoundError, version  # here, as it takes milliseconds

    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return UNKNOWN
