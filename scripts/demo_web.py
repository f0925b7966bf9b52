"""``make demo-web``: a broker, a cloud server, the dashboard and the playground, until Ctrl-C.

All listen on this machine only. A browser joins the fleet with the printed code. The broker stores
its data in the folder that is the first argument, so that a second start goes on.
"""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

from together import ROOT, run_together

BROKER_PORT, WEBSOCKETS_PORT, SERVER_PORT, REST_PORT = 1883, 9001, 50051, 8000
DASHBOARD_PORT, PAGE_PORT = 8080, 8090


def commands(folder: Path) -> dict[str, list[str]]:
    """Return the programs' commands by name, in the order in which they start."""
    python = [sys.executable, "-m"]
    broker = ["--broker", f"mqtt://localhost:{BROKER_PORT}"]
    server = ["--host", "127.0.0.1", "--port", str(SERVER_PORT), "--http-port", str(REST_PORT)]
    page = ["--server", f"http://127.0.0.1:{REST_PORT}", "--port", str(PAGE_PORT)]
    fleet = ["--websockets", f"ws://localhost:{WEBSOCKETS_PORT}"]
    fleet += ["--enrolments", str(folder / "enrolments")]
    mosquitto = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
    return {
        "broker": [mosquitto, "-c", str(folder / "mosquitto.conf")],
        "server": [*python, "cloud.server", *server],
        "dashboard": [*python, "cloud.dashboard", *broker, "--port", str(DASHBOARD_PORT)],
        "playground": [*python, "cloud.playground", *page, *fleet],
    }


def prepare(folder: Path) -> None:
    """Write the broker's settings and rules; existing passwords are kept."""
    provision = runpy.run_path(str(ROOT / "deploy/mosquitto/provision.py"))
    folder.mkdir(parents=True, exist_ok=True)
    parts = [
        ROOT / "deploy/mosquitto" / name for name in ("loopback-websockets.conf.in", "common.conf")
    ]
    text = "".join(part.read_text() for part in parts)
    settings = provision["filled"](text, folder, BROKER_PORT, WEBSOCKETS_PORT)
    if os.geteuid() == 0:  # otherwise Mosquitto becomes a user who may not read the folder
        settings = f"user root\n{settings}"
    (folder / "mosquitto.conf").write_text(settings)
    shutil.copyfile(ROOT / "deploy/mosquitto/acl", folder / "acl")
    (folder / "passwords").touch(mode=0o600)


def main() -> None:
    """Run the demonstration in the folder of the first argument, or in ``taper-web``."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "taper-web").resolve()
    prepare(folder)
    enrol = [sys.executable, "-m", "cloud.fleet", "enrol", "browser", "--folder", str(folder)]
    done = subprocess.run(
        [*enrol, "--valid", "12h"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    greeting = (
        f"playground  http://localhost:{PAGE_PORT}\n"
        f"dashboard   http://localhost:{DASHBOARD_PORT}\n"
        f"code        {done.stdout.splitlines()[0]}, with which one browser joins the fleet\n"
        f"another     python -m cloud.fleet enrol NAME --folder {folder}\n"
        "set         python -m cloud.fleet set all fraction=0.5\n"
        f"logs are in {folder}; Ctrl-C stops all\n"
    )
    run_together(commands(folder), folder, greeting)


if __name__ == "__main__":
    main()
