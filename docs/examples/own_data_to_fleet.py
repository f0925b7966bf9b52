"""Own pictures to a fleet: import, train, serve, ask, and one device that reports to a broker.

    python docs/examples/own_data_to_fleet.py PICTURES --size 28x28 --grey --broker mqtt://localhost:1883

PICTURES has a folder for each class, PICTURES/cat/1.png. With --broker a device runs until Ctrl-C.
"""

import argparse
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from cloud.training.data.datasets import splits_of
from cloud.training.evaluation.measuring import evaluate
from cloud.training.evaluation.page import render
from cloud.training.library import train
from cloud.training.split.settings import Settings
from shared.model.bundle import write_bundle


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
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--folder", type=Path, default=Path("own"), help="where files go")
    parser.add_argument("--broker", help="of a fleet, such as mqtt://localhost:1883")
    given = parser.parse_args()
    bundle = given.folder / "own.safetensors"

    grey = ("--grey",) if given.grey else ()
    importing = ("import", given.pictures, "--size", given.size, *grey, "--name", "own")
    run("cloud.training.datasets", *importing, "--data-dir", str(given.folder / "data"))

    pictures = splits_of("own", given.folder / "data")
    network = Path(given.network) if given.network.endswith(".toml") else given.network
    settings = Settings(epochs=given.epochs, batch=given.batch)
    made = train(pictures, network, settings, on_epoch=print).bundle
    write_bundle(made, bundle)
    widest = len(made.architecture.device_levels) - 1, len(made.architecture.cloud_levels) - 1
    found = evaluate(made, pictures.test.images, pictures.test.labels, *widest)
    (given.folder / "own.html").write_text(render(made, pictures.test, "test", found), "utf-8")

    with serve(bundle) as address:
        where = ("--model", str(bundle), "--server", address, "--input", given.pictures)
        run("device.client", *where)
        if given.broker:
            kept = ("--ledger", f"{given.folder}/ledger", "--model-folder", f"{given.folder}/kept")
            with contextlib.suppress(KeyboardInterrupt):
                run("device.agent", "--device", "shelf-1", "--broker", given.broker, *where, *kept)


if __name__ == "__main__":
    main()
