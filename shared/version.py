"""The version of taper that is installed."""

from __future__ import annotations

from functools import cache

DISTRIBUTION = "taper-split"  # "taper" on PyPI is another project
UNKNOWN = "0"


@cache
def installed_version() -> str:
    """The version of the installed distribution; "0" in a checkout that was never installed."""
    from importlib.metadata import PackageNotFoundError, version  # it takes some milliseconds

    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return UNKNOWN
