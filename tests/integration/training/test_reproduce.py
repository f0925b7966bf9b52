"""The commands of the paper's experiments, on a few of the digits that ship with the package."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from cloud.training.paper import experiment, reproduce
from shared.data.sample import sample_digits
from shared.errors import DatasetError, ProfileError, UsageError
from shared.images.idx import write_idx


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    folder = tmp_path / "digits"
    folder.mkdir()
    images, labels = sample_digits()
    repeated = np.repeat(images[:160], 2, axis=0)
    write_idx(folder / "train-images-idx3-ubyte", repeated)
    write_idx(folder / "train-labels-idx1-ubyte", np.repeat(labels[:160], 2).astype(np.uint8))
    write_idx(folder / "t10k-images-idx3-ubyte", images[160:])
    write_idx(folder / "t10k-labels-idx1-ubyte", labels[160:].astype(np.uint8))
    return folder


def arguments(digits: Path, *more: str) -> list[str]:
    places = ["--checkpoint-dir", str(digits.parent / "checkpoints")]
    return [*places, "--data", str(digits), "--threads", "1", *more]


def run(module: object, words: list[str], fails: type[Exception] | None = None) -> str:
    result = CliRunner().invoke(module.app, words)  # type: ignore[attr-defined]
    if fails is None:
        assert result.exception is None, result.output
        return result.output
    assert isinstance(result.exception, fails), result.output
    return str(result.exception)


def test_a_figure_is_trained_written_drawn_and_drawn_again(digits: Path) -> None:
    output = digits.parent / "results"
    words = arguments(digits, "--output-dir", str(output), "--epochs", "2")
    run(reproduce, ["mlp", *words, "--only", "sandwich"])
    assert list(json.loads((output / "mlp.json").read_text())["curves"]) == ["sandwich"]
    run(reproduce, ["mlp", *words])
    document = json.loads((output / "mlp.json").read_text())
    assert set(document["curves"]) == {"standard", "linear", "multi-profile", "sandwich"}
    for (curve,) in document["curves"].values():
        assert [point["fraction"] for point in curve["points"]] == [k / 10 for k in range(1, 11)]
        macs = [point["macs"] for point in curve["points"]]
        assert macs == sorted(macs)
        assert curve["test_images"] == 40
        assert str(digits) not in json.dumps(curve["points"])
    drawn = (output / "mlp.svg").read_bytes()
    assert (output / "mlp.png").stat().st_size > 1000
    (output / "mlp.svg").unlink()
    run(reproduce, ["mlp", "--plot-only", "--output-dir", str(output)])
    assert (output / "mlp.svg").read_bytes() == drawn
    # What is there is not trained again, nor are checkpoints needed for it.
    for path in (digits.parent / "checkpoints").iterdir():
        path.unlink()
    run(reproduce, ["mlp", *words])
    assert not list((digits.parent / "checkpoints").iterdir())


def test_seeds_stay_and_other_settings_are_refused(digits: Path) -> None:
    output = digits.parent / "results"
    words = arguments(digits, "--output-dir", str(output), "--only", "standard")
    run(reproduce, ["mlp-paper", *words, "--epochs", "1", "--seeds", "1,2"])
    path = output / "mlp-paper.json"
    runs = json.loads(path.read_text())["curves"]["standard"]
    assert [kept["settings"]["seed"] for kept in runs] == [1, 2]
    assert set(runs[0]["points"][0]["accuracy"]) == {"recalibrated", "batch", "running"}
    page = (output / "mlp-paper.md").read_text()
    assert "±" in page
    assert "2 seeds: standard" in page
    before = path.read_bytes()
    other = arguments(digits, "--checkpoint-dir", str(digits.parent / "other"), *words[4:])
    told = run(reproduce, ["mlp-paper", *other, "--epochs", "2"], UsageError)
    assert "made with epochs 1, not 2" in told
    assert path.read_bytes() == before
    run(reproduce, ["mlp-paper", *other, "--epochs", "2", "--replace"])
    runs = json.loads(path.read_text())["curves"]["standard"]
    assert [kept["settings"]["epochs"] for kept in runs] == [2]


def test_statistics_and_dropout_are_asked_for(digits: Path) -> None:
    words = arguments(digits, "--network", "mlp", "--epochs", "1", "--regime", "standard")
    told = run(experiment, [*words, "--statistics", "batch"])
    assert "batch" in told
    assert "running" not in told
    told = run(experiment, [*words, "--statistics", "running", "--dropout"])
    assert "running+dropout" in told
    told = run(experiment, words)
    for name in ("recalibrated", "batch", "running"):
        assert name in told
    if not torch.cuda.is_available():
        assert "--device" in run(experiment, [*words, "--device", "cuda"], UsageError)


def test_an_experiment_prints_its_sweep(digits: Path) -> None:
    words = arguments(digits, "--network", "mlp", "--epochs", "1")
    assert "100%" in run(experiment, [*words, "--regime", "idp", "--profile", "1,0.5,0.1"])
    ranges = ["--ranges", "0-0.5:linear,0.5-1:linear"]
    assert "100%" in run(experiment, [*words, "--regime", "multi-profile", *ranges])
    small = arguments(digits, "--network", "binarynet", "--epochs", "1", "--batch", "64")
    assert "100%" in run(experiment, [*small, "--regime", "sandwich"])


def test_a_measurement_is_kept_beside_its_checkpoint(digits: Path) -> None:
    words = arguments(digits, "--network", "mlp", "--epochs", "1", "--regime", "idp")
    told = run(experiment, words)
    kept = digits.parent / "checkpoints"
    (network,) = kept.glob("*.pt")
    network.unlink()
    assert told.endswith(run(experiment, words))  # nothing is left to measure
    (curve,) = kept.glob("*.curve.json")
    curve.write_text("{}")
    assert run(experiment, words, UsageError).startswith(f"{curve}: holds no curve")
    run(experiment, [*words, "--restart"])
    assert list(kept.glob("*.pt")) == [network]


def test_a_training_begins_with_another_one_s_network(digits: Path) -> None:
    words = arguments(digits, "--network", "mlp", "--epochs", "1", "--regime")
    usual = arguments(digits, "--network", "mlp", "--regime", "standard")
    told = run(experiment, [*words, "sandwich", "--start", "standard"])
    assert "sandwich" in told
    kept = digits.parent / "checkpoints"
    standard = next(kept.glob("mlp-standard-*"))
    trained = standard.read_bytes()
    assert "standard" in run(experiment, usual)  # finished: only measured
    run(experiment, [*words, "sandwich", "--start", "standard", "--restart"])
    assert standard.read_bytes() == trained
    told = run(experiment, [*words, "sandwich"], UsageError)
    assert "was made with start" in told
    told = run(experiment, [*words, "idp", "--start", "standard"], UsageError)
    assert told.startswith("--start: standard does not fit idp")


def test_another_setting_is_refused_and_names_the_difference(digits: Path) -> None:
    words = arguments(digits, "--network", "mlp", "--regime", "standard")
    run(experiment, [*words, "--epochs", "1"])
    assert "epochs 1, not 2" in run(experiment, [*words, "--epochs", "2"], UsageError)
    run(experiment, [*words, "--epochs", "2", "--restart"])


def test_a_wrong_flag_is_named_with_what_is_known(digits: Path) -> None:
    words = arguments(digits, "--network", "mlp")
    for more, kind, message in (
        (["--regime", "nosuch"], UsageError, "known regimes: standard"),
        (["--regime", "idp", "--profile", "nosuch"], ProfileError, "known profiles: all-one"),
        (["--regime", "idp", "--network", "nosuch"], UsageError, "known networks: mlp"),
        (["--regime", "idp", "--data", "nosuch"], UsageError, "known: mnist"),
        (["--regime", "idp", "--data", "mnist", "--data-dir", "x"], DatasetError, "fetch"),
        (["--regime", "idp", "--schedule", "nosuch"], UsageError, "constant"),
        (
            ["--regime", "multi-profile", "--ranges", "0-0.5:linear,0.4-1:linear"],
            ProfileError,
            "overlaps",
        ),
    ):
        assert message in run(experiment, [*words, *more], kind)
    blocked = digits / "train-images-idx3-ubyte" / "folder"
    for flag in ("--checkpoint-dir", "--output-dir"):
        told = run(reproduce, ["mlp", *words[:-2], flag, str(blocked)], UsageError)
        assert told.startswith(f"{flag}: {blocked} cannot be written to")
    assert "profiles, mlp" in run(reproduce, ["nosuch"], UsageError)
    assert "known: standard" in run(reproduce, ["mlp", "--only", "nosuch"], UsageError)


@pytest.mark.timeout(180)
def test_killed_and_resumed_is_as_never_killed(digits: Path) -> None:
    """kill -9 in the middle of a training, then --resume: the same weights, bit by bit."""

    def words(folder: Path, *more: str) -> list[str]:
        usual = ["--network", "mlp", "--regime", "sandwich", "--data", str(digits)]
        return [*usual, "--epochs", "30", "--threads", "1", "--checkpoint-dir", str(folder), *more]

    whole, killed = digits.parent / "whole", digits.parent / "killed"
    run(experiment, words(whole))
    command = [sys.executable, "-m", "cloud.training.experiment", *words(killed)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "epoch 3/30" in line:
                break
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    (path,) = killed.glob("*.pt")
    assert "--resume" in run(experiment, words(killed), UsageError)
    run(experiment, words(killed, "--resume"))
    states = [
        torch.load(folder / path.name, weights_only=True)["state"] for folder in (whole, killed)
    ]
    assert states[1]["progress"]["finished"]
    for name, value in states[0]["network"].items():
        assert torch.equal(value, states[1]["network"][name]), name
