"""``taper-agent install``: write a config file and a systemd unit for given flags."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shared.atomic_file import replacing
from shared.errors import UsageError

CONFIG = Path("/etc/taper/agent.toml")
UNITS = Path("/etc/systemd/system")
UNIT_NAME = "taper-agent.service"
STATE = "/var/lib/taper"
UNIT = """\
[Unit]
Description=taper: one device of a fleet
Documentation=file:{documentation}
Wants=network-online.target
After=network-online.target time-sync.target
StartLimitIntervalSec=0

[Service]
Type=notify
ExecStart={python} -m device.agent --config %d/agent.toml
# the file may hold passwords: root's alone, and handed over
LoadCredential=agent.toml:{config}
WatchdogSec=120
Restart=always
RestartSec=5
DynamicUser=yes
SupplementaryGroups=video
StateDirectory=taper
WorkingDirectory=%S/taper
Environment=PYTHONUNBUFFERED=1
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=yes
MemoryMax=512M

[Install]
WantedBy=multi-user.target
"""


def to_toml(values: Mapping[str, Any]) -> str:
    """Format settings as TOML: strings, numbers, booleans and lists of strings."""
    lines = ["# taper-agent: the flags of `python -m device.agent --help`, without the dashes"]
    for name, value in values.items():
        if isinstance(value, bool):
            text = "true" if value else "false"
        elif isinstance(value, int | float):
            text = repr(value)
        elif isinstance(value, list | tuple):
            text = "[" + ", ".join(json.dumps(str(one)) for one in value) + "]"
        else:
            text = json.dumps(str(value))  # TOML's basic strings have JSON's syntax
        lines.append(f"{name} = {text}")
    return "\n".join(lines) + "\n"


def install(values: Mapping[str, Any], config: Path, units: Path, force: bool) -> tuple[Path, Path]:
    """Write ``values`` to ``config`` and a unit into the folder ``units``; return both paths.

    ``UsageError`` if they cannot be written, or if they exist and ``force`` is not set.
    """
    unit = units / UNIT_NAME
    if not force:
        for path in (config, unit):
            if path.exists():
                raise UsageError(f"install: {path} is there already; --force replaces it")
    text = UNIT.format(
        python=sys.executable,
        config=config,
        documentation=Path(__file__).parents[2] / "docs" / "device.md",
    )
    for path, content, mode in ((config, to_toml(values), 0o600), (unit, text, 0o644)):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path, "install") as temporary:
                temporary.write_text(content)
                temporary.chmod(mode)
        except OSError as error:
            raise UsageError(
                f"install: {path} cannot be written ({error.strerror}); run it as root"
            ) from None
    return config, unit
