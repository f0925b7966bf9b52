"""``python -m shared.packed --info``: show which implementation of the packed runtime runs."""

from __future__ import annotations

import argparse
import platform
import sys
from pathlib import Path

from shared.errors import TaperError
from shared.packed import kernels


def main() -> int:
    """Print the implementation in use, the other available ones, and the CPU."""
    parser = argparse.ArgumentParser(prog="python -m shared.packed", description=main.__doc__)
    parser.add_argument("--info", action="store_true", help="print what runs (the default)")
    parser.parse_args()
    try:
        current = kernels.current()
    except TaperError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return error.exit_status
    lines = [
        f"runs       {current}{_width(current)}",
        f"available  {', '.join(kernels.available())}",
        f"cpu        {cpu_name()}",
    ]
    if kernels.missing_reason():
        lines.append(f"compiled   not usable: {kernels.missing_reason()}")
    print("\n".join(lines))  # noqa: T201
    return 0


def cpu_name() -> str:
    """Return the CPU's name by the operating system."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _width(name: str) -> str:
    if name == kernels.NUMPY:
        return ""
    from shared.packed import _native

    return f" ({_native.vector_bits(name)}-bit vectors)"


if __name__ == "__main__":
    sys.exit(main())
