"""docs/own-task.md, followed command by command with a few pictures and two epochs."""

from __future__ import annotations

import asyncio
import importlib
import io
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
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
from tests.support.processes import ROOT, STOP_SECONDS, environment, run, start_server
from tests.support.torch_threads import few_threads

PAGE = ROOT / "docs" / "own-task.md"
CLOTHES, ANIMALS = 24, 14  # pictures of a class
TRAINING_S = 500


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


def do(module: str, words: list[str], *more: str) -> str:
    """Run a command of the page to its end, in this process, which has torch already."""
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), few_threads():
        patch.setattr(sys, "argv", [module, *words, *more])
        with pytest.raises(SystemExit) as end:
            importlib.import_module(module).main()
    assert not end.value.code
    return out.getvalue()


@contextmanager
def example(name: str, words: list[str], said: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A script of docs/examples while the block runs; what it says goes to the file ``said``."""
    # Where tests run in the background, Ctrl-C is ignored, and programs inherit that.
    heeding = ["env", "--default-signal=INT"]
    command = [*heeding, sys.executable, str(ROOT / "docs" / "examples" / name), *words]
    with said.open("wb") as file, subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdout=file, stderr=file
    ) as script:  # fmt: skip
        try:
            yield script
        finally:
            if script.poll() is None:
                script.kill()


def write_class_folders(
    data: Dataset, chosen: tuple[int, ...], each: int, side: int, folder: Path
) -> None:
    for label in chosen:
        place = folder / re.sub(r"\W+", "-", data.classes[label])
        place.mkdir(parents=True)
        for index in np.flatnonzero(data.labels == label)[:each]:
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
    write_class_folders(clothes, tuple(range(10)), CLOTHES, 28, tmp_path / "clothes")
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
        assert summary["answered"] == 10 * CLOTHES
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
async def test_animals_scaled_to_64_by_64(tmp_path: Path, data_dir: Path) -> None:
    """The mechanics at another size, by the script; small pictures scaled up show no more."""
    animals = images_of("cifar10", data_dir)
    pictures, folder = tmp_path / "animals", tmp_path / "own"
    write_class_folders(animals, (3, 4, 5, 7), ANIMALS, 64, pictures)
    network = tmp_path / "own.toml"
    words = commands({"own.toml": str(network), "20": "2", "300": "100"})
    said = do("cloud.training.architecture", words["cloud.training.architecture"])
    assert "bytes sent" in said
    # The file is there to be edited: two pairs of levels are measured sooner than 24.
    edited = re.sub("(?m)^channels = (192|256)$", "channels = 32", network.read_text())
    edited = re.sub("(?m)^device_levels = .*$", "device_levels = [0.5, 1.0]", edited)
    network.write_text(re.sub("(?m)^cloud_levels = .*$", "cloud_levels = [1.0]", edited))
    few = ["--size", "64x64", "--network", str(network), "--epochs", "1", "--batch", "16"]
    with mosquitto(tmp_path / "broker") as broker:
        async with (
            Store(str(tmp_path / "store")) as store,
            recording(broker.broker, "default", store) as recorder,
        ):
            places = [str(pictures), *few, "--folder", str(folder), "--broker", broker.url]
            with example("own_data_to_fleet.py", places, tmp_path / "said") as script:
                devices = recorder.state.devices
                await until(lambda: "shelf-1" in devices or script.poll() is not None, TRAINING_S)
                assert "shelf-1" in devices, (tmp_path / "said").read_text()
                script.send_signal(signal.SIGINT)
                await asyncio.to_thread(script.wait, STOP_SECONDS)
    assert script.returncode == 0, (tmp_path / "said").read_text()
    assert "accuracy" in (tmp_path / "said").read_text()
    meta = read_bundle(folder / "own.safetensors").metadata
    assert meta.class_names == ("cat", "deer", "dog", "horse")
    assert meta.architecture.input_shape.height == 64
    assert meta.architecture.device_levels == (0.5, 1.0)
    assert "data:image/png" in (folder / "own.html").read_text()
