"""``make fleet``: a broker, a server, 50 devices, a recorder, a scenario and the dashboard.

All run on this machine until Ctrl-C, or until one of them fails, and are stopped together. Ledger,
telemetry and logs are stored in the folder that is the first argument, so that a second start goes
on with them.
"""

from __future__ import annotations

import os
import runpy
import shutil
import sys
from pathlib import Path

from together import ROOT, run_together

DEVICES = 50
BROKER_PORT, SERVER_PORT, METRICS_PORT, PAGE_PORT = 1883, 50051, 9101, 8080


def commands(folder: Path) -> dict[str, list[str]]:
    """Return the programs' commands by name, in the order in which they start."""
    python = [sys.executable, "-m"]
    broker = ["--broker", f"mqtt://localhost:{BROKER_PORT}"]
    server = f"localhost:{SERVER_PORT}"
    store = ["--store", str(folder / "telemetry.sqlite")]
    day = ["--speed", "60"]
    mosquitto = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
    return {
        "broker": [mosquitto, "-c", str(folder / "mosquitto.conf")],
        "server": [*python, "cloud.server", "--host", "127.0.0.1", "--port", str(SERVER_PORT)],
        "devices": [*python, "device.fleet", "--devices", str(DEVICES), *broker, "--server", server,
                    "--scenario", "city-day", *day, "--ledger", str(folder / "ledger.sqlite")],
        "recorder": [*python, "cloud.fleet", "record", *broker, *store,
                     "--metrics-port", str(METRICS_PORT)],
        "scenario": [*python, "cloud.fleet", "play", "city-day", *broker, *day,
                     "--devices", str(DEVICES)],
        "dashboard": [*python, "cloud.dashboard", *broker, *store, "--port", str(PAGE_PORT)],
    }  # fmt: skip


def main() -> None:
    """Run the fleet in the folder of the first argument, or in ``taper-fleet``."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "taper-fleet").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    provision = runpy.run_path(str(ROOT / "deploy/mosquitto/provision.py"))
    settings = provision["configuration"]("loopback.conf.in", folder, BROKER_PORT)
    if os.geteuid() == 0:  # otherwise Mosquitto becomes a user who may not write to it
        settings = f"user root\n{settings}"
    (folder / "mosquitto.conf").write_text(settings)
    greeting = (
        f"{DEVICES} devices on http://localhost:{PAGE_PORT}\n"
        f"logs are in {folder}; Ctrl-C stops all\n"
        "python -m cloud.fleet watch      the fleet in a terminal\n"
        f"python -m cloud.fleet report --store {folder / 'telemetry.sqlite'}\n"
    )
    run_together(commands(folder), folder, greeting)


if __name__ == "__main__":
    main()
