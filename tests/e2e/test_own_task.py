"""docs/own-task.md, followed command by command with a few pictures and two epochs."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from rich.progress import Progress

from cloud.fleet.running import recording
from cloud.telemetry.store import Store
from cloud.training.data.datasets import Dataset, load
from cloud.training.data.fetching import fetch
from cloud.training.data.known import KNOWN
from shared.model.bundle import read_bundle
from tests.support.broker import mosquitto
from tests.support.clouds import until
from tests.support.fleets import process
from tests.support.processes import ROOT, Finished, run, start_server

PAGE = ROOT / "docs" / "own-task.md"
EACH = 24  # pictures of a class
TRAINING_S = 900


def images_of(name: str, data_dir: Path) -> Dataset:
    """The test set of that name, fetched if it is not there."""
    with Progress(console=Console(stderr=True), disable=True) as progress:
        fetch(name, KNOWN[name], data_dir, progress)
    return load(name, data_dir, "test")


def commands(changes: dict[str, str]) -> dict[str, list[str]]:
    """The words of every command of the page by its module, with some replaced."""
    blocks = re.findall(r"```sh\npython -m (.*?)\n```", PAGE.read_text(), re.DOTALL)
    found = {}
    for block in blocks:
        module, *words = shlex.split(block)
        found[module] = [changes.get(word, word) for word in words]
    return found


def do(module: str, words: list[str], *more: str) -> Finished:
    """Run a command of the page to its end."""
    done = run([sys.executable, "-m", module, *words, *more], timeout_s=TRAINING_S)
    assert done.status == 0, done.err
    return done


def write_class_folders(data: Dataset, chosen: tuple[int, ...], side: int, folder: Path) -> None:
    for label in chosen:
        place = folder / re.sub(r"\W+", "-", data.classes[label])
        place.mkdir(parents=True)
        for index in np.flatnonzero(data.labels == label)[:EACH]:
            pixels = data.images[index]
            picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
            picture.resize((side, side), Image.Resampling.BICUBIC).save(place / f"{index}.png")


def train(folder: Path, changes: dict[str, str]) -> None:
    """Import and train as the page says, for two epochs."""
    data = ["--data-dir", str(folder / "data")]
    words = commands({"clothes/": str(folder / "clothes"), "20": "2", **changes})
    do("cloud.training.datasets", words["cloud.training.datasets"], *data)
    few = ["--batch", "32", "--augment", "none", "--threads", "1"]
    do("cloud.training.train", words["cloud.training.train"], *few, *data)


@pytest.mark.timeout(600)
async def test_clothes_from_a_folder_to_a_fleet(tmp_path: Path, data_dir: Path) -> None:
    clothes = images_of("fashion-mnist", data_dir)
    write_class_folders(clothes, tuple(range(10)), 28, tmp_path / "clothes")
    bundle = tmp_path / "clothes.safetensors"
    train(tmp_path, {"clothes.safetensors": str(bundle)})
    meta = read_bundle(bundle).metadata
    assert set(meta.class_names) == {path.name for path in (tmp_path / "clothes").iterdir()}
    assert meta.preprocessing is not None
    assert not meta.preprocessing.colour
    assert meta.accuracy[-1][-1] > 0.2  # of ten classes, after two epochs of 280 pictures

    with mosquitto(tmp_path / "broker") as broker, start_server("--model", str(bundle)) as server:
        places = {
            "clothes/": str(tmp_path / "clothes"),
            "clothes.safetensors": str(bundle),
            "localhost:50051": server.address,
            "mqtt://localhost:1883": broker.url,
        }
        words = commands(places)
        client = [sys.executable, "-m", "device.client", *words["device.client"]]
        done = run([*client, "--output", "json", "--in-flight", "8"])
        assert done.status == 0, done.err
        summary = done.document["summary"]
        assert summary["answered"] == 10 * EACH
        assert summary["accuracy"] > 0.2

        own = ["--ledger", str(tmp_path / "ledger"), "--model-folder", str(tmp_path / "models")]
        agent = process("device.agent", *words["device.agent"], *own, log=tmp_path / "log")
        async with (
            Store(str(tmp_path / "store")) as store,
            recording(broker.broker, "default", store) as recorder,
        ):
            with agent:
                await until(lambda: "shelf-1" in recorder.state.devices, 60)
                device = recorder.state.device("shelf-1")
                await until(lambda: device.online and device.telemetry is not None, 60)


@pytest.mark.timeout(600)
def test_animals_scaled_to_64_by_64(tmp_path: Path, data_dir: Path) -> None:
    """The mechanics at another size, by the script; small pictures scaled up show no more."""
    animals = images_of("cifar10", data_dir)
    pictures, folder = tmp_path / "animals", tmp_path / "own"
    write_class_folders(animals, (3, 4, 5, 7), 64, pictures)
    network = tmp_path / "own.toml"
    words = commands({"own.toml": str(network), "20": "2", "300": "100"})
    said = do("cloud.training.architecture", words["cloud.training.architecture"]).out
    assert "bytes sent" in said
    # The file is there to be edited; two pairs of levels are measured sooner than 24.
    edited = re.sub("(?m)^device_levels = .*$", "device_levels = [0.5, 1.0]", network.read_text())
    network.write_text(re.sub("(?m)^cloud_levels = .*$", "cloud_levels = [1.0]", edited))
    script = [sys.executable, str(ROOT / "docs/examples/own_data_to_fleet.py"), str(pictures)]
    few = ["--size", "64x64", "--network", str(network), "--epochs", "1", "--batch", "32"]
    done = run([*script, *few, "--folder", str(folder)], timeout_s=TRAINING_S)
    assert done.status == 0, done.err
    assert "accuracy" in done.out
    meta = read_bundle(folder / "own.safetensors").metadata
    assert meta.class_names == ("cat", "deer", "dog", "horse")
    assert meta.architecture.input_shape.height == 64
    assert meta.architecture.device_levels == (0.5, 1.0)
    assert "data:image/png" in (folder / "own.html").read_text()
