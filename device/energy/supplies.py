"""The machine's own power supplies, as Linux lists them in ``/sys/class/power_supply``.

Supplies of scope ``Device`` belong to attached devices such as a wireless mouse and do not count
(Documentation/ABI/testing/sysfs-class-power of the kernel).
"""

from __future__ import annotations

import math
from pathlib import Path

from device.energy.charge import Charge

SUPPLIES = Path("/sys/class/power_supply")
MAINS = ("Mains", "USB", "Wireless", "BrickID")
CHARGING = ("Charging", "Full")


def read_supplies(folder: Path = SUPPLIES) -> Charge | None:
    """Return the charge of all own batteries together; None if there is none.

    The machine counts as plugged in if a mains supply is online, whatever the battery's state: a
    battery that is deliberately kept below full reports ``Not charging``. Raises ``OSError`` or
    ``ValueError`` if a battery cannot be read.
    """
    batteries, online, mains = [], False, False
    for supply in sorted(folder.iterdir()):
        kind = _content(supply / "type")
        if _content(supply / "scope") == "Device":
            continue
        if kind in MAINS:
            mains = True
            online = online or _content(supply / "online") not in ("", "0")
        elif kind in ("Battery", "UPS") and _content(supply / "present") != "0":
            batteries.append(supply)
    if not batteries:
        return None
    shares = [_share(battery) for battery in batteries]
    whole = sum(full for _, full in shares)
    level = sum(level * full for level, full in shares) / whole
    charging = any(_content(battery / "status") in CHARGING for battery in batteries)
    return Charge(min(max(level, 0.0), 1.0), online if mains else charging)


def _share(battery: Path) -> tuple[float, float]:
    """Return charge (0 to 1) and capacity in the battery's own unit, 1 if it is unknown."""
    for now, full in (("energy_now", "energy_full"), ("charge_now", "charge_full")):
        present, size = _content(battery / now), _content(battery / full)
        if present and size and float(size) > 0:
            return float(present) / float(size), float(size)
    level = float(_content(battery / "capacity")) / 100
    if not math.isfinite(level):
        raise ValueError(f"charge {level}")
    return level, 1.0


def _content(path: Path) -> str:
    """Return the content of a small file; empty if it does not exist."""
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        return ""
