"""``python -m cloud.training.train``: one command from pictures to a bundle."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.main import get_command
from typer.testing import CliRunner, Result

from cloud.training.split import architectures
from cloud.training.split.architecture_file import to_toml
from cloud.training.split.network_file import Trained
from cloud.training.split.recorded_command import command_line
from cloud.training.split.settings import Settings
from cloud.training.split.train import app, parse_seeds
from shared.errors import UsageError
from shared.images.idx import write_idx
from shared.model.architecture import Architecture, Shape
from shared.model.bundle import read_bundle
from tests.support.trainings import pictures, tiny

QUICK = "--network tiny --epochs 2 --batch 16 --augment none --calibration-images 64 --threads 1"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of pictures, and "tiny" among the known networks."""

    def make(shape: Shape, classes: int) -> Architecture:
        return tiny()

    monkeypatch.setitem(architectures.ARCHITECTURES, "tiny", make)
    data = tmp_path / "bars"
    data.mkdir()
    for prefix, made in (("train", pictures(120)), ("t10k", pictures(40, seed=1))):
        write_idx(data / f"{prefix}-images-idx3-ubyte", made.images[..., 0])
        write_idx(data / f"{prefix}-labels-idx1-ubyte", made.labels.astype(np.uint8))
    return data


def run(words: str, *more: object) -> Result:
    return CliRunner().invoke(app, [*shlex.split(words), *map(str, more)], catch_exceptions=True)


def error_of(result: Result) -> str:
    assert isinstance(result.exception, UsageError)
    return str(result.exception)


def test_its_recorded_command_makes_the_same_bundle(folder: Path, tmp_path: Path) -> None:
    first = tmp_path / "bars.safetensors"
    words = f"{QUICK} --teacher-epochs 1 --teacher-width 4 --temperature 3 --seeds 2"
    assert run(words, "--data", folder, "--output", first).exit_code == 0
    bundle = read_bundle(first)
    recorded = str(bundle.metadata.training["command"])
    assert "--temperature 3.0" in recorded
    assert "--widest-weight" not in recorded  # that is the default
    again = tmp_path / "again" / "bars.safetensors"
    again.parent.mkdir()
    _, _, rest = recorded.partition("cloud.training.train ")
    rest = rest.replace("--output bars.safetensors", f"--output {again}")
    assert run(rest, "--threads", 1).exit_code == 0
    assert again.read_bytes() == first.read_bytes()


def test_several_seeds_make_a_bundle_each_and_a_table(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "bars.safetensors"
    result = run(f"{QUICK} --seeds 1,2", "--data", folder, "--output", output)
    assert result.exit_code == 0
    made = [read_bundle(tmp_path / f"bars-seed{seed}.safetensors") for seed in (1, 2)]
    assert not output.exists()
    mean = 50 * sum(bundle.metadata.accuracy[-1][-1] for bundle in made)
    assert re.search(rf"{mean:.2f} ± \d", result.stderr)


def test_a_finished_training_can_be_extended(folder: Path, tmp_path: Path) -> None:
    files = ("--data", folder, "--output", tmp_path / "bars.safetensors")
    state, log = tmp_path / "deep" / "state", tmp_path / "log.jsonl"
    kept = ("--checkpoint", state, "--log", log)
    assert run(QUICK, *files, *kept).exit_code == 0
    assert run(f"{QUICK} --epochs 4", *files, *kept).exit_code == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 2, 3, 4]
    assert {"0.5,0.5", "1,1"} <= lines[-1]["validation"].keys()
    refused = run(f"{QUICK} --learning-rate 0.1", *files, *kept)
    assert "was made with learning_rate" in error_of(refused)
    assert run(f"{QUICK} --learning-rate 0.1 --overwrite", *files, *kept).exit_code == 0


def test_a_training_can_begin_with_the_weights_of_another(folder: Path, tmp_path: Path) -> None:
    weights, output = tmp_path / "before.net.safetensors", tmp_path / "bars.safetensors"
    assert run(f"{QUICK} --seeds 3", "--data", folder, "--weights", weights).exit_code == 0
    more = f"{QUICK} --epochs 1 --learning-rate 0.001"
    assert run(more, "--from", weights, "--output", output).exit_code == 0
    first, second = str(read_bundle(output).metadata.training["command"]).split("; ")
    assert first.endswith("--calibration-images 64")
    assert "--weights before.net.safetensors --epochs 2" in first
    assert "--from before.net.safetensors --epochs 1" in second
    exported = tmp_path / "exported.safetensors"
    assert run("", "--from", weights, "--output", exported).exit_code == 0
    assert read_bundle(exported).metadata.training["command"] == first.replace(
        "--weights before.net", "--output exported"
    )


def test_a_training_can_begin_with_a_bundle_in_a_wider_network(
    folder: Path, tmp_path: Path
) -> None:
    first, output, wide = (tmp_path / name for name in ("a.safetensors", "b.safetensors", "w.toml"))
    assert run(QUICK, "--data", folder, "--output", first).exit_code == 0
    narrow = tiny()
    stages = [replace(narrow.device[0], out_channels=12), *narrow.device[1:]]
    stages[1] = replace(stages[1], in_channels=12)
    wide.write_text(to_toml(replace(narrow, name="w", device=tuple(stages))))
    more = QUICK.replace("--network tiny", f"--architecture {wide}").replace("--epochs 2", "")
    assert "--epochs" in error_of(run(more, "--from", first, "--output", output))
    assert run(more, "--epochs", 1, "--from", first, "--output", output).exit_code == 0
    bundle = read_bundle(output)
    assert bundle.architecture.device[0].out_channels == 12
    before, last = str(bundle.metadata.training["command"]).split("; ")
    assert before == read_bundle(first).metadata.training["command"]
    assert "--from before.safetensors --epochs 1" in last
    back = error_of(run(f"{QUICK} --data {folder}", "--from", output, "--output", first))
    other = f"{QUICK.replace('--network tiny', '')} --data {folder} --from mnist-binary"
    refused = error_of(run(other, "--output", tmp_path / "c.safetensors"))
    assert refused.startswith("--from: its network takes 28x28x1 pictures of 10 classes, and")
    assert back.startswith("--from: the network of --architecture or --network must have")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--output missing/x.safetensors", "--output: the folder missing is not there"),
        ("--log missing/x.jsonl", "--log: the folder missing is not there"),
        ("--batch 500", "--batch: 500 is more than the"),
        ("--seeds 1,1", "--seeds: '1,1' is not allowed"),
        ("--device tpu", "--device: 'tpu' is unknown; known: auto, cpu, cuda"),
        ("--network huge", "--network: 'huge' is unknown"),
        ("--augment wild", "--augment: 'wild' is unknown"),
        ("--from nothing.net", "nothing.net: there is no such file"),
    ],
)
def test_mistakes_are_one_line_before_any_training(
    folder: Path, tmp_path: Path, words: str, message: str
) -> None:
    output = tmp_path / "bars.safetensors"
    error = error_of(run(f"--data {folder} --output {output} {QUICK} {words}"))
    assert message in error
    assert "\n" not in error
    assert not output.exists()


def test_every_setting_that_is_not_the_default_is_recorded() -> None:
    changed = Settings(
        epochs=7,
        batch=5,
        learning_rate=0.5,
        seed=9,
        augment="none",
        pairs="grid",
        random_pairs=3,
        widest_weight=1.5,
        exit_weight=0.25,
        label_weight=0.5,
        temperature=1.0,
        warm_up=2.0,
        decay=0.5,
        average=0.2,
        bfloat16=False,
        calibration_images=99,
        teacher_epochs=3,
        teacher_width=8,
        teacher_augment="none",
    )
    assert all(getattr(changed, name) != value for name, value in vars(Settings()).items()), (
        "a new setting has to be changed here too"
    )
    line = command_line(Trained("paper", "mnist", "", changed, {}), "mine.safetensors")
    words = line.split()
    flags = {name.replace("_", "-") for name in vars(changed)} - {"seed", "bfloat16"}
    assert {f"--{flag}" for flag in flags} | {"--seeds", "--no-bfloat16"} <= set(words)
    known = {
        flag
        for option in get_command(app).params
        for flag in (*option.opts, *option.secondary_opts)
    }
    assert {word for word in words if word.startswith("--")} <= known


def test_seeds_are_different_numbers() -> None:
    assert parse_seeds("3,1,2") == [3, 1, 2]
    for text in ("", "1,", "a", "1,1"):
        with pytest.raises(UsageError, match="--seeds"):
            parse_seeds(text)


def test_a_network_from_a_file_is_recorded_and_made_again(folder: Path, tmp_path: Path) -> None:
    described, first = tmp_path / "bars.toml", tmp_path / "bars.safetensors"
    described.write_text(to_toml(tiny()))
    words = f"{QUICK.replace('--network tiny', '')} --architecture {described}"
    weights = tmp_path / "bars.net.safetensors"
    files = ("--data", folder, "--output", first, "--weights", weights)
    assert run(words, *files).exit_code == 0
    bundle = read_bundle(first)
    assert bundle.architecture == tiny()
    assert "--architecture bars.toml" in str(bundle.metadata.training["command"])
    more = f"{QUICK.replace('--network tiny', '')} --from {weights} --epochs 1"
    assert run(more, "--output", tmp_path / "more.safetensors").exit_code == 0
    assert read_bundle(tmp_path / "more.safetensors").architecture == tiny()
    refused = run(f"{QUICK} --architecture {described}", *files)
    assert "--network and --architecture: give one of them" in error_of(refused)
