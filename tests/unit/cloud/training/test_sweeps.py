"""Sweeps over fractions: kinds of statistics, intervals, seeds, and what may share a figure."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cloud.training.intervals import wilson
from cloud.training.paper.curve import (
    Curve,
    Point,
    check_alike,
    read_results,
    with_run,
    write_results,
)
from cloud.training.paper.reproduce import parse_seeds
from cloud.training.paper.runs import usual_evaluations
from cloud.training.paper.summary import as_markdown, seeds_note, share, summaries, table_rows
from cloud.training.paper.sweep import PAPER_PROTOCOL, Evaluation, HeldOut, Statistics, sweep
from shared.errors import UsageError
from shared.networks import IncompleteNetwork, PaperVgg16, single
from shared.networks.incomplete import Width

RUNNING, BATCH, RECALIBRATED = (Evaluation(kind) for kind in Statistics)
FRACTIONS = (0.5, 1.0)


def network() -> IncompleteNetwork:
    torch.manual_seed(0)
    return PaperVgg16(1, 3, single("linear"), groups=((4, 6), (8,)), features=8)


@pytest.fixture
def held_out() -> HeldOut:
    generator = torch.Generator().manual_seed(3)
    images = torch.randint(0, 256, (97, 1, 8, 8), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, 3, (97,), generator=generator)
    return HeldOut(images, labels, images.flip(0)[:64], batch=32)


@pytest.mark.parametrize("evaluation", [RUNNING, BATCH, RECALIBRATED, PAPER_PROTOCOL])
def test_evaluations_leave_a_network_as_it_was(evaluation: Evaluation, held_out: HeldOut) -> None:
    tested = network()
    before = {name: value.clone() for name, value in tested.state_dict().items()}
    first = sweep(tested, held_out, FRACTIONS, evaluation)
    assert first == sweep(tested, held_out, FRACTIONS, evaluation)
    for name, value in tested.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert not any(module.training for module in tested.modules())


class Spy(IncompleteNetwork):
    """Answers with the mean pixel of an image, less that of its batch if that is asked for."""

    def __init__(self) -> None:
        super().__init__(single("all-one"))
        self.batches: list[int] = []

    def run(self, images: Tensor, width: Width) -> Tensor:
        self.batches.append(len(images))
        return torch.zeros(len(images), 3)


def test_batch_statistics_are_taken_over_the_test_images_in_order(held_out: HeldOut) -> None:
    spy = Spy()
    sweep(spy, held_out, (1.0,), BATCH)
    # the 97th image alone has no variance and joins the batch before
    assert spy.batches == [32, 32, 33]
    one = replace(held_out, images=held_out.images[:1], labels=held_out.labels[:1])
    with pytest.raises(UsageError, match="at least two test images"):
        sweep(spy, one, (1.0,), BATCH)


@torch.no_grad()
def test_batch_statistics_depend_on_the_neighbours_and_running_ones_do_not() -> None:
    tested = network().eval()
    images = torch.randint(0, 256, (8, 1, 8, 8)).float()
    bright = images.clone()
    bright[1:] = 255 - bright[1:] // 2
    assert torch.allclose(tested(images)[0], tested(bright)[0], atol=1e-5)
    for norm in tested.norms():
        norm.by_batch = True
    assert not torch.allclose(tested(images)[0], tested(bright)[0], atol=1e-2)


def test_the_paper_s_protocol_is_measured_where_there_is_dropout(held_out: HeldOut) -> None:
    names = [evaluation.name for evaluation in usual_evaluations(network())]
    assert names == ["recalibrated", "batch", "running", "batch+dropout"]
    assert [evaluation.name for evaluation in usual_evaluations(Spy(), calibrated=True)] == [
        "recalibrated",
        "batch",
    ]
    many = replace(held_out, images=held_out.images.repeat(10, 1, 1, 1))
    many = replace(many, labels=held_out.labels.repeat(10))
    dropped = sweep(network(), many, FRACTIONS, PAPER_PROTOCOL)
    assert dropped != sweep(network(), many, FRACTIONS, BATCH)


def test_wilson_intervals() -> None:
    # values of the textbook example: 0 of 10, 50 of 100, all of 10
    assert wilson(0.0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson(0.5, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    assert wilson(1.0, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)
    low, high = wilson(0.9084, 10_000)
    assert 100 * (high - low) == pytest.approx(1.13, abs=0.01)
    for share_, count in ((0.5, 0), (1.1, 10), (-0.1, 10), (float("nan"), 10)):
        with pytest.raises(ValueError, match="at least one"):
            wilson(share_, count)


def curve(seed: int, right: float, epochs: int = 40) -> Curve:
    accuracy = {"recalibrated": right, "batch": right - 0.01}
    points = tuple(Point(f, accuracy, int(100 * f), 4) for f in FRACTIONS)
    settings = {"epochs": epochs, "seed": seed, "start": {"epochs": 20, "seed": seed}}
    return Curve(settings, points, 10_000, 1.0, 1, "2")


def test_seeds_are_kept_side_by_side(tmp_path: Path) -> None:
    path = tmp_path / "mlp.json"
    runs = with_run(path, (), curve(2, 0.9), replace=False)
    runs = with_run(path, runs, curve(1, 0.8), replace=False)
    assert [run.settings["seed"] for run in runs] == [1, 2]
    again = with_run(path, runs, curve(2, 0.7), replace=False)
    assert [run.points[0].accuracy["recalibrated"] for run in again] == [0.8, 0.7]
    write_results(path, "mlp", "MLP", {"linear": runs}, summaries({"linear": runs}))
    assert read_results(path) == {"linear": runs}
    summary = json.loads(path.read_text())["summary"]["linear"]["recalibrated"][0]
    assert {name: summary[name] for name in ("fraction", "mean", "seeds")} == {
        "fraction": 0.5,
        "mean": pytest.approx(0.85),
        "seeds": 2,
    }
    path.write_text('{"format": 1, "curves": {}}')
    with pytest.raises(UsageError, match="format 1, not 2"):
        read_results(path)
    assert parse_seeds("3,1") == (3, 1)
    for text in ("", "1,1", "a", "-1"):
        with pytest.raises(UsageError, match="--seeds"):
            parse_seeds(text)


def test_runs_with_other_settings_do_not_share_a_line() -> None:
    path, runs = Path("mlp.json"), (curve(1, 0.9),)
    with pytest.raises(UsageError, match="made with epochs 40, not 1; give another --output-dir"):
        with_run(path, runs, curve(2, 0.5, epochs=1), replace=False)
    with pytest.raises(UsageError, match="epochs"):
        check_alike(path, runs, {"epochs": 1, "seed": 1}, replace=False)
    check_alike(path, runs, {"epochs": 40, "seed": 7}, replace=False)
    assert with_run(path, runs, curve(2, 0.5, epochs=1), replace=True) == (curve(2, 0.5, 1),)


def test_tables_show_mean_spread_and_interval() -> None:
    results = {"linear": (curve(1, 0.80), curve(2, 0.82)), "standard": (curve(1, 0.9),)}
    both = share(results["linear"], "recalibrated", 0)
    assert both is not None
    assert (both.mean, both.spread, both.seeds) == pytest.approx((0.81, 0.02 / 2**0.5, 2))
    assert share(results["linear"], "running", 0) is None
    rows = table_rows(results, "recalibrated")
    assert rows[0] == ["channels", "operations", "linear", "standard"]
    assert rows[1] == ["50%", "50.0%", "81.00 ± 1.41 [80.2, 81.8]", "90.00 [89.4, 90.6]"]
    assert table_rows(results, "running") == []
    first, second = results["linear"]
    points = tuple(replace(point, accuracy={"recalibrated": 0.8}) for point in first.points)
    older = {"linear": (replace(first, points=points), second)}
    assert table_rows(older, "batch")[0][-1] == "linear (1 of 2 seeds)"
    assert as_markdown(rows).splitlines()[1] == "| --- | --- | --- | --- |"
    assert seeds_note(results) == "2 seeds: linear; 1 seed: standard"


def test_the_experiments_need_torch_and_no_network_or_server_packages() -> None:
    """A GPU machine with torch, numpy, typer, rich and matplotlib alone can run a figure."""
    lines = (
        "import sys",
        "for name in ('pooch', 'requests', 'grpc', 'google.protobuf', 'pydantic_settings'):",
        "    sys.modules[name] = None",
        "import cloud.training.paper.reproduce, cloud.training.paper.experiment",
    )
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True)
