"""Own pictures to a fleet: import, train, serve, ask, and one device that reports to a broker.

    python docs/examples/own_data_to_fleet.py PICTURES --size 28x28 --grey --broker mqtt://localhost:1883

PICTURES has a folder for each class, PICTURES/cat/1.png. Without --broker it ends with the answers.
"""

import argparse
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path


def run(module: str, *words: str) -> None:
    """Run one of taper's commands to its end."""
    subprocess.run([sys.executable, "-m", module, *words], check=True)


@contextlib.contextmanager
def serve(bundle: Path) -> Iterator[str]:
    """Run a server with the bundle; gives its address."""
    command = [sys.executable, "-m", "cloud.server", "--model", str(bundle), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            line = server.stdout.readline() if server.stdout else ""
            yield line.removeprefix("listening on ").strip()
        finally:
            server.terminate()


def main() -> None:
    """Follow docs/own-task.md in one go."""
    parser = argparse.ArgumentParser(description="Own pictures to a fleet.")
    parser.add_argument("pictures")
    parser.add_argument("--size", default="28x28")
    parser.add_argument("--grey", action="store_true")
    parser.add_argument("--network", default="compact", help="or a file: own.toml")
    parser.add_argument("--epochs", default="20")
    parser.add_argument("--batch", default="128")
    parser.add_argument("--folder", type=Path, default=Path("own"), help="where files go")
    parser.add_argument("--broker", help="of a fleet, such as mqtt://localhost:1883")
    parser.add_argument("--seconds", type=float, default=20.0, help="of the device's life")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    bundle, data = given.folder / "own.safetensors", ("--data-dir", str(given.folder / "data"))

    grey = ("--grey",) if given.grey else ()
    importing = ("import", given.pictures, "--size", given.size, *grey, "--name", "own")
    run("cloud.training.datasets", *importing, *data)
    flag = "--architecture" if given.network.endswith(".toml") else "--network"
    training = (flag, given.network, "--epochs", given.epochs, "--batch", given.batch)
    run("cloud.training.train", "--data", "own", "--output", str(bundle), *training, *data)
    page = str(given.folder / "own.html")
    run("cloud.training.evaluate", str(bundle), "--data", "own", "--output", page, *data)

    with serve(bundle) as address:
        where = ("--model", str(bundle), "--server", address, "--input", given.pictures)
        run("device.client", *where)
        if given.broker:
            own = ("--ledger", str(given.folder / "ledger"), "--broker", given.broker)
            agent = [sys.executable, "-m", "device.agent", "--device", "shelf-1", *where, *own]
            with contextlib.suppress(subprocess.TimeoutExpired):
                subprocess.run(agent, timeout=given.seconds, check=True)


if __name__ == "__main__":
    main()
