"""Makes the folder of a broker: certificates, passwords for N devices, access rules, settings.

    python deploy/mosquitto/provision.py FOLDER --fleet city --devices 200 --host broker.example
    mosquitto -c FOLDER/mosquitto.conf

Safe to repeat: certificates and passwords that are there stay, missing devices are added. The
passwords are in ``credentials.csv`` (name,password), readable by its owner only: hand each device
its own line and ``ca.crt``. With ``--headers``, ``headers/NAME.h`` has the same for a
microcontroller.
"""

from __future__ import annotations

import argparse
import csv
import ipaddress
import os
import re
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROLES = ("controller", "operator", "watcher", "dashboard", "inference")
DAYS = "3650"
BROKER_UID = 10003  # of a folder that root makes: Mosquitto in a container must not be root
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")  # as in shared/fleet/messages.py


def main() -> None:
    """Read the command line and do it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--fleet", default="default")
    parser.add_argument(
        "--devices", type=int, default=0, metavar="N", help="named device-00001 ..."
    )
    parser.add_argument("--device", action="append", default=[], metavar="NAME", help="or by name")
    parser.add_argument(
        "--operator", action="append", default=[], metavar="NAME", help="a person who sets things"
    )
    parser.add_argument("--host", default="localhost", help="name or address in the certificate")
    parser.add_argument("--port", type=int, default=8883)
    parser.add_argument(
        "--owner", type=int, default=BROKER_UID, metavar="UID",
        help=f"where root runs this: whose the files are, who runs the broker ({BROKER_UID})",
    )  # fmt: skip
    parser.add_argument(
        "--headers", action="store_true", help="write each device's credentials as a C header"
    )
    parser.add_argument("--websockets", type=int, metavar="PORT", help="for browsers as devices")
    given = parser.parse_args()
    for command in ("openssl", "mosquitto_passwd"):
        if shutil.which(command) is None:
            sys.exit(f"error: {command} is missing; run scripts/system-deps broker")
    names = [*given.device, *(f"device-{number:05d}" for number in range(1, given.devices + 1))]
    folder = given.folder.resolve()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in (given.fleet, *names, *given.operator):
        if not NAME.fullmatch(name):
            sys.exit(f"error: {name!r} is no name; give 1 to 64 letters, digits, - and _")
    users = [*ROLES, *given.operator, *(f"{given.fleet}/{name}" for name in names)]
    made, known = credentials(folder, users)
    certificates(folder, given.host)
    _write(folder / "acl", access([name for name in known if "/" not in name]))
    if given.headers:
        devices = {name: known[f"{given.fleet}/{name}"] for name in names}
        headers(folder, given.fleet, devices, (given.host, given.port))
    settings = "mosquitto.conf"
    text = configuration("mosquitto.conf.in", folder, given.port)
    if given.websockets is not None:
        listener = (HERE / "websockets.conf.in").read_text()
        text += filled(listener, folder, given.port, given.websockets)
    (folder / settings).write_text(text)
    share(folder)
    if os.geteuid() == 0:
        hand_over(folder, given.owner)
    sys.stdout.write(f"{folder}: {made} new users; start: mosquitto -c {folder / settings}\n")


def share(folder: Path) -> None:
    """A file for each password that a container of deploy/compose.yaml needs, in ``secrets``.

    Containers run as users of their own, so all may read the files; nobody else may enter
    ``folder``.
    """
    place = folder / "secrets"
    place.mkdir(exist_ok=True)
    with (folder / "credentials.csv").open(newline="") as file:
        words = {row[0]: row[1] for row in csv.reader(file) if row}
    shared = {name: words[name] for name in ROLES}
    if not (place / "grafana").exists():
        shared["grafana"] = secrets.token_urlsafe(18)
    for name, word in shared.items():
        (place / name).write_text(word)
        (place / name).chmod(0o644)


def hand_over(folder: Path, owner: int) -> None:
    """Give the folder and all in it to the user ``owner``; root may."""
    for path in (folder, *folder.rglob("*")):
        os.chown(path, owner, owner)


def configuration(name: str, folder: Path, port: int) -> str:
    """The settings file ``name``, filled in."""
    return filled((HERE / name).read_text() + (HERE / "common.conf").read_text(), folder, port)


def filled(text: str, folder: Path, port: int, websockets: int | None = None) -> str:
    """Settings with the folder and the ports in their places."""
    words = {"@FOLDER@": folder, "@PORT@": port, "@WEBSOCKETS@": websockets}
    for word, value in words.items():
        text = text.replace(word, str(value))
    return text


def access(people: list[str]) -> str:
    """The rules in ``acl``, with those of ``operator`` for everybody who has no other role."""
    text = (HERE / "acl").read_text()
    _, _, rules = text.partition("user operator\n")
    rules = rules.partition("\n\n")[0]
    others = [name for name in people if name not in ROLES]
    return text + "".join(f"\nuser {name}\n{rules}\n" for name in others)


def headers(folder: Path, fleet: str, devices: dict[str, str], broker: tuple[str, int]) -> None:
    """Write ``headers/NAME.h`` for each device: broker, authority, user and password."""
    lines = (folder / "ca.crt").read_text().splitlines()
    authority = "\n".join(f'    "{line}\\n"' for line in lines)
    (folder / "headers").mkdir(mode=0o700, exist_ok=True)
    host, port = broker
    for name, password in devices.items():
        text = f"""/* Credentials of {fleet}/{name}: a secret. */
#ifndef TAPER_CREDENTIALS_H
#define TAPER_CREDENTIALS_H

#define TAPER_BROKER_HOST "{host}"
#define TAPER_BROKER_PORT {port}
#define TAPER_FLEET "{fleet}"
#define TAPER_DEVICE "{name}"
#define TAPER_USER "{fleet}/{name}" /* the client id too */
#define TAPER_PASSWORD "{password}"

static const char taper_broker_ca[] =
{authority};

#endif
"""
        _write(folder / "headers" / f"{name}.h", text)


def credentials(folder: Path, names: list[str]) -> tuple[int, dict[str, str]]:
    """Give every name that has none a password; how many there were, and all passwords now."""
    path = folder / "credentials.csv"
    known: dict[str, str] = {}
    if path.exists():
        with path.open(newline="") as file:
            known = {row[0]: row[1] for row in csv.reader(file) if row}
    fresh = {name: secrets.token_urlsafe(18) for name in names if name not in known}
    everybody = {**known, **fresh}
    _write(path, "".join(f"{name},{word}\n" for name, word in everybody.items()))
    if fresh:
        # mosquitto_passwd hashes a whole file at once, in place.
        added = folder / "passwords.new"
        _write(added, "".join(f"{name}:{word}\n" for name, word in fresh.items()))
        subprocess.run(["mosquitto_passwd", "-U", str(added)], check=True)
        before = folder / "passwords"
        _write(before, (before.read_text() if before.exists() else "") + added.read_text())
        added.unlink()
    return len(fresh), everybody


def certificates(folder: Path, host: str) -> None:
    """A certificate authority of our own, and the server's certificate for ``host``."""
    ca, ca_key = folder / "ca.crt", folder / "ca.key"
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    if not ca.exists():
        openssl("req", "-x509", *curve, "-keyout", ca_key, "-out", ca, "-days", DAYS, "-subj",
                "/CN=taper fleet CA", "-addext", "keyUsage=critical,keyCertSign")  # fmt: skip
    server, key, request = folder / "server.crt", folder / "server.key", folder / "server.csr"
    if server.exists():
        return
    openssl("req", *curve, "-keyout", key, "-out", request, "-subj", f"/CN={host}")
    extensions = folder / "server.ext"
    names = sorted({f"{'IP' if _is_address(host) else 'DNS'}:{host}", "DNS:localhost"})
    extensions.write_text(f"subjectAltName={','.join(names)},IP:127.0.0.1\n")
    openssl("x509", "-req", "-in", request, "-CA", ca, "-CAkey", ca_key, "-CAcreateserial", "-out",
            server, "-days", DAYS, "-extfile", extensions)  # fmt: skip
    for leftover in (request, extensions):
        leftover.unlink()
    for secret in (key, ca_key):
        secret.chmod(0o600)


def openssl(*words: str | Path) -> None:
    """Run openssl; its complaint ends the program."""
    done = subprocess.run(
        ["openssl", *map(str, words)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"error: openssl: {done.stderr.strip().splitlines()[-1]}")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _write(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)


if __name__ == "__main__":
    main()
