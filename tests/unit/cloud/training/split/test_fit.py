"""Trainings resume to the same weights, extend, and refuse what is not theirs."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cloud.training.split import fit as fit_module
from cloud.training.split.budget import Budget, falling_epochs
from cloud.training.split.calibration import calibrate
from cloud.training.split.fit import Fit
from cloud.training.split.job import Job
from cloud.training.split.network_file import Trained, read_network, write_network
from cloud.training.split.samples import samples_of
from cloud.training.split.settings import Settings
from cloud.training.split.teacher import Teacher
from shared.errors import UsageError
from shared.model.architecture import Architecture
from shared.networks.binarynet import BinaryNet
from tests.support.trainings import job, pictures, tiny


class KilledError(Exception):
    """Instead of a kill."""


def silent(line: str) -> None:
    """Lines that nobody reads."""


def kill_at(text: str) -> Callable[[str], None]:
    def say(line: str) -> None:
        if text in line:
            raise KilledError

    return say


def trained(work: Job, say: Callable[[str], None] = silent) -> BinaryNet:
    fit, _ = work.prepare(say)
    work.run(fit, say)
    return fit.net


def kept_at(state: Path, work: Job) -> Job:
    return replace(work, checkpoint=state)


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    states = one.state_dict(), other.state_dict()
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.fixture(autouse=True)
def every_epoch_is_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit_module, "SAVE_SECONDS", -1.0)


def test_it_learns() -> None:
    work = job(192, epochs=6)
    net = trained(work)
    calibrate(net, work.data, work.settings)
    with torch.no_grad():
        images = torch.from_numpy(work.validation.images).permute(0, 3, 1, 2).float()
        for level, cloud_level in ((1, 1), (0, 0)):
            right = net(images, level, cloud_level).argmax(1).numpy() == work.validation.labels
            assert right.mean() > 0.8


@pytest.mark.parametrize("teacher_epochs", [0, 2])
def test_a_killed_training_goes_on_to_the_same_weights(tmp_path: Path, teacher_epochs: int) -> None:
    plain = job(epochs=4, teacher_epochs=teacher_epochs)
    kept = replace(plain, checkpoint=tmp_path / "state", log=tmp_path / "log.jsonl")
    for place in ("epoch 1/", "epoch 3/"):
        with pytest.raises(KilledError):
            trained(kept, kill_at(place))
    assert same(trained(kept), trained(plain))
    epochs = [json.loads(line)["epoch"] for line in kept.log.read_text().splitlines()]  # type: ignore[union-attr]
    assert set(epochs) >= {2, 4}


def test_a_killed_teacher_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    plain = job(teacher_epochs=3)
    kept = replace(plain, checkpoint=tmp_path / "state")
    with pytest.raises(KilledError):
        kept.prepare(kill_at("teacher 2/3"))
    teachers = [work.prepare(silent)[1] for work in (kept, plain)]
    assert all(isinstance(teacher, Teacher) for teacher in teachers)
    assert same(*teachers)  # type: ignore[arg-type]


@pytest.mark.parametrize("killed", ["", "epoch 3/", "epoch 5/"])
def test_an_extended_training_is_the_longer_one(tmp_path: Path, killed: str) -> None:
    short, long = (job(epochs=epochs) for epochs in (5, 8))
    state = tmp_path / "state"
    with contextlib.suppress(KilledError):
        trained(replace(short, checkpoint=state), kill_at(killed) if killed else silent)
    assert same(trained(replace(long, checkpoint=state)), trained(long))


def test_too_few_epochs_to_go_on_are_refused(tmp_path: Path) -> None:
    state = tmp_path / "state"
    trained(kept_at(state, job(epochs=5)))
    with pytest.raises(UsageError, match="with 3 epochs the learning rate would have had to fall"):
        trained(kept_at(state, job(epochs=3)))


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        (job(learning_rate=0.02), "learning_rate"),
        (replace(job(), architecture=tiny((1.0,))), "architecture"),
        (replace(job(), data=pictures(96, seed=5)), "data"),
        (job(80), "data"),
    ],
)
def test_another_runs_checkpoint_is_refused(tmp_path: Path, changed: Job, named: str) -> None:
    state = tmp_path / "state"
    trained(kept_at(state, job()))
    before = state.read_bytes()
    with pytest.raises(UsageError, match=f"checkpoint .*: was made with {named}"):
        trained(kept_at(state, changed))
    assert state.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"my notes", b"\x80\x04N.", None])
def test_a_file_that_is_no_checkpoint_is_refused_and_kept(
    tmp_path: Path, content: bytes | None
) -> None:
    state = tmp_path / "state"
    if content is None:  # a checkpoint that was cut off
        trained(kept_at(state, job()))
        content = state.read_bytes()[:-1000]
    state.write_bytes(content)
    with pytest.raises(UsageError, match="checkpoint") as caught:
        trained(kept_at(state, job()))
    assert "\n" not in str(caught.value)
    assert state.read_bytes() == content


def test_overwrite_begins_anew(tmp_path: Path) -> None:
    state = tmp_path / "state"
    trained(kept_at(state, job(epochs=2)))
    other = kept_at(state, job(epochs=2, learning_rate=0.02))
    other.remove_checkpoints()
    assert same(trained(other), trained(job(epochs=2, learning_rate=0.02)))


def test_fewer_images_than_a_batch_are_refused() -> None:
    with pytest.raises(UsageError, match="--batch: 16 is more than the 12 training images"):
        job(12).prepare(silent)


def test_a_training_in_a_span_of_time_is_one_with_as_many_epochs() -> None:
    class ThreeStable(Budget):
        def over(self) -> bool:
            return False

        def epochs(self, done: int, architecture: Architecture, settings: Settings) -> int | None:
            return done + falling_epochs(done, settings.decay) if done == 3 else None

    work = job(epochs=1)
    data, held = samples_of(work.data), samples_of(work.validation)
    torch.manual_seed(work.settings.seed)
    fit = Fit(BinaryNet(work.architecture), work.settings, data, held, {}, budget=ThreeStable(1.0))
    fit.run()
    assert fit.done == 5
    assert same(fit.net, trained(job(epochs=5)))


def test_a_network_file_holds_the_network(tmp_path: Path) -> None:
    work = job()
    net = trained(work)
    path = tmp_path / "tiny.net.safetensors"
    write_network(path, net, Trained("tiny", "bars", "digest", work.settings, {"1,1": 0.5}))
    read, about = read_network(path)
    assert about == Trained("tiny", "bars", "digest", work.settings, {"1,1": 0.5})
    images = torch.from_numpy(work.data.images).permute(0, 3, 1, 2).float()
    for one in (net, read):
        calibrate(one, work.data, work.settings)
    with torch.no_grad():
        for level, cloud_level in ((0, 0), (1, 1)):
            assert torch.equal(read(images, level, cloud_level), net(images, level, cloud_level))


@pytest.mark.parametrize("content", [b"", b"my notes", None])
def test_a_file_that_is_no_network_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "net"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=r"there is no such file|cannot be read"):
        read_network(path)
