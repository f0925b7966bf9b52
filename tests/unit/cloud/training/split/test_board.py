"""Epochs of a training for TensorBoard, where it is installed; one line where it is not."""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from cloud.training.split.board import board, summary_writer
from shared.errors import UsageError
from tests.support.trainings import job


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of TensorBoard's own imports
def test_every_epoch_is_there(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    work = replace(job(epochs=2), tensorboard=tmp_path / "board")
    fit, _ = work.prepare(lambda line: None)
    work.run(fit, lambda line: None)
    found = EventAccumulator(str(tmp_path / "board")).Reload()
    assert [event.step for event in found.Scalars("loss")] == [1, 2]
    assert "held out/1,1" in found.Tags()["scalars"]


def test_without_a_folder_nothing_is_imported() -> None:
    with board(None) as draw:
        assert draw is not None


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] = (),
        level: int = 0,
    ) -> ModuleType:
        if name == "torch.utils.tensorboard":
            raise ModuleNotFoundError("No module named 'tensorboard'", name="tensorboard")
        return real(name, globals, locals, fromlist, level)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match="--tensorboard: tensorboard is not installed"):
        summary_writer()
