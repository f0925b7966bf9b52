"""Regimes: widths of a step, frozen channels, resuming, and errors."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cloud.training import checkpoint
from cloud.training.paper.loop import EpochDone, Trainer, calibration_images
from cloud.training.paper.recipes import Recipe, recipe
from cloud.training.paper.regimes import (
    Idp,
    MultiProfile,
    Regime,
    Sandwich,
    Standard,
    Step,
    regime,
    truncation,
)
from cloud.training.paper.resolution import resize, resolution
from cloud.training.paper.runs import Experiment
from cloud.training.schedules import SCHEDULES, schedule
from shared.errors import ProfileError, UsageError
from shared.layers import IncompleteConv2d
from shared.networks import IncompleteNetwork, Mlp, MobileNet, Vgg16
from shared.networks.incomplete import Width
from shared.profiles import parse_ranges

RANGES = parse_ranges("0-0.3:all-one,0.3-0.6:linear,0.6-1:linear")
TINY = Recipe("none", 2, 8, "sgd", 0.05, "one-cycle", weight_decay=0.01, calibration_images=16)


class Recorder(IncompleteNetwork):
    """Notes the fractions at which it is run."""

    def __init__(self, of: Regime) -> None:
        super().__init__(of.scheme)
        self.weight = torch.nn.Parameter(torch.ones(3))
        self.fractions: list[float] = []

    def run(self, images: Tensor, width: Width) -> Tensor:
        self.fractions.append(width.fraction)
        return self.weight.expand(len(images), 3) * width.fraction


def fractions(of: Regime, steps: int, stage: int = 0) -> list[list[float]]:
    network = Recorder(of)
    x, y = torch.zeros(4, 1), torch.zeros(4, dtype=torch.int64)
    generator = random.Random(7)
    rows = []
    for _ in range(steps):
        network.fractions.clear()
        losses = list(of.losses(network, x, y, Step(stage, generator, 0.0)))
        assert len(losses) == len(network.fractions)
        rows.append(list(network.fractions))
    return rows


def test_standard_trains_complete() -> None:
    assert fractions(Standard(), 5) == [[1.0]] * 5


def test_idp_truncates_by_an_exponential_of_mean_a_tenth() -> None:
    generator = random.Random(7)
    expected = [[1 - truncation(generator)] for _ in range(20)]
    assert fractions(Idp(), 20) == expected
    drawn = [truncation(generator) for _ in range(20_000)]
    assert all(0 <= t < 1 for t in drawn)
    assert sum(drawn) / len(drawn) == pytest.approx(0.1, abs=0.003)
    beyond_half = sum(t > 0.5 for t in drawn) / len(drawn)
    assert beyond_half == pytest.approx(0.0067, abs=0.002)


def test_truncation_stays_below_one() -> None:
    class Extreme(random.Random):
        def random(self) -> float:
            return 1 - 2**-53

    assert truncation(Extreme()) < 1


def test_multi_profile_stays_in_the_range_of_its_stage() -> None:
    regime = MultiProfile(RANGES)
    for stage, entry in enumerate(RANGES):
        drawn = [row[0] for row in fractions(regime, 60, stage)]
        assert all(entry.above < fraction <= entry.upto for fraction in drawn)


def test_sandwich_runs_the_widest_random_ones_and_the_narrowest() -> None:
    regime = Sandwich(levels=(0.25, 0.5, 0.75, 1.0))
    for row in fractions(regime, 20):
        assert row[0] == 1.0
        assert row[-1] == 0.25
        assert sorted(row[1:-1]) == [0.5, 0.75]


def test_idp_draws_a_fraction_for_every_block() -> None:
    network = Vgg16(1, 3, Idp().scheme, groups=((5, 6), (7,)), features=8)
    x, y = torch.zeros(4, 1, 8, 8), torch.zeros(4, dtype=torch.int64)
    seen: list[int] = []
    for module in network.modules():
        if isinstance(module, IncompleteConv2d):
            module.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[1]))

    class Extremes(random.Random):
        def random(self) -> float:
            self.count = getattr(self, "count", 0) + 1
            return (0.999, 0.0)[self.count % 2]

    next(iter(Idp(per_block=True).losses(network, x, y, Step(0, Extremes(), 0.0))))
    assert seen == [1, 5, 2]  # complete, 1 - 0, 1 - 0.69
    assert regime("idp", per_block=True) == Idp(per_block=True)
    with pytest.raises(UsageError, match="--per-block: standard"):
        regime("standard", per_block=True)


def test_regimes_by_name() -> None:
    assert regime("standard") == Standard()
    assert regime("idp", "harmonic") == Idp("harmonic")
    assert regime("sandwich") == Sandwich()
    assert regime("multi-profile", ranges=RANGES) == MultiProfile(RANGES)
    with pytest.raises(UsageError, match=r"unknown.*standard, idp, multi-profile, sandwich"):
        regime("nosuch")
    with pytest.raises(UsageError, match="--ranges"):
        regime("multi-profile")
    with pytest.raises(UsageError, match="--profile"):
        regime("multi-profile", "linear", RANGES)
    with pytest.raises(UsageError, match="--ranges"):
        regime("idp", ranges=RANGES)
    with pytest.raises(ProfileError, match="overlaps"):
        MultiProfile((RANGES[0], replace(RANGES[1], above=0.2), RANGES[2]))


def test_schedules_stay_in_range_and_know_their_names() -> None:
    for make in SCHEDULES.values():
        shares = [make(step, 10, 60) for step in range(600)]
        assert all(0 <= share <= 1 for share in shares)
        assert max(shares) == pytest.approx(1)
    halved = [schedule("halving")(epoch * 10, 10, 60) for epoch in (0, 24, 25, 50)]
    assert halved == [1, 1, 0.5, 0.25]
    assert schedule("one-cycle")(599, 10, 60) < 1e-4
    with pytest.raises(UsageError, match="constant, halving, one-cycle"):
        schedule("nosuch")


@pytest.fixture
def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    images = torch.randint(0, 256, (40, 1, 8, 8), generator=generator, dtype=torch.uint8)
    return images, torch.randint(0, 3, (40,), generator=generator)


def networks(of: Regime) -> Iterator[IncompleteNetwork]:
    torch.manual_seed(1)
    yield Mlp(64, 3, of.scheme, hidden=(10, 10))
    yield Vgg16(1, 3, of.scheme, groups=((5, 6), (7,)), features=8)
    yield MobileNet(1, 3, of.scheme, stem=5, blocks=((8, 2), (6, 1)))


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_earlier_profiles_do_not_change_by_one_bit(
    which: int, optimiser: str, data: tuple[Tensor, Tensor]
) -> None:
    """Logits of all fractions of earlier ranges, weight decay, momentum and norms included."""
    regime = MultiProfile(RANGES)
    network = list(networks(regime))[which]
    recipe = replace(TINY, optimiser=optimiser)
    trainer = Trainer(network, regime, recipe, {})
    images, labels = data
    x = images.float()
    earlier: dict[float, Tensor] = {}
    tops = network.scheme.tops
    begun = copy.deepcopy(network.state_dict())

    def check(report: EpochDone) -> None:
        nonlocal begun
        stage, epoch = divmod(report.epoch - 1, recipe.epochs)
        network.eval()
        for fraction, logits in earlier.items():
            assert torch.equal(network(x, fraction), logits), (stage, epoch, fraction)
        if epoch < recipe.epochs - 1:
            return
        for fraction in (tops[stage], tops[stage] - 0.05, tops[stage] - 0.25):
            if network.scheme.width(fraction).profile == stage:
                earlier[fraction] = network(x, fraction).detach()
        # ... while what a stage adds does learn
        trained = {
            name.split(".")[0]
            for name, value in network.state_dict().items()
            if not torch.equal(value, begun[name])
        }
        assert trained == {"first", "middle", "last"}
        begun = copy.deepcopy(network.state_dict())

    trainer.train(images, labels, on_epoch=check)
    assert trainer.progress.finished
    assert len(earlier) >= 2 * len(tops)


def weights_of(regime: Regime, data: tuple[Tensor, Tensor], path: Path | None, stop: int) -> Any:
    torch.manual_seed(1)
    network = Vgg16(1, 3, regime.scheme, groups=((5, 6), (7,)), features=8, dropout=0.3)
    trainer = Trainer(network, regime, TINY, {"a": 1}, path)
    trainer.resume()

    class KilledError(Exception):
        pass

    def on_step(done: int, total: int) -> None:
        if done == stop:
            raise KilledError

    try:
        trainer.train(*data, on_step)
    except KilledError:
        return weights_of(regime, data, path, 0)
    return network.state_dict()


@pytest.mark.parametrize(
    "regime", [Standard(), Idp(), MultiProfile(RANGES), Sandwich(levels=(0.25, 0.5, 1.0))]
)
@pytest.mark.parametrize("stop", [2, 7])
def test_a_resumed_training_is_the_uninterrupted_one(
    regime: Regime, stop: int, data: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    whole = weights_of(regime, data, None, 0)
    resumed = weights_of(regime, data, tmp_path / "net.pt", stop)
    assert whole.keys() == resumed.keys()
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name


def test_every_regime_learns(data: tuple[Tensor, Tensor]) -> None:
    images, labels = data
    images = images // 4 + (labels * 60).to(torch.uint8).view(-1, 1, 1, 1)
    recipe = replace(TINY, epochs=12, learning_rate=0.1)
    for of in (Standard(), Idp(), MultiProfile(RANGES), Sandwich(levels=(0.5, 1.0))):
        torch.manual_seed(1)
        network = Mlp(64, 3, of.scheme, hidden=(10, 10))
        Trainer(network, of, recipe, {}).train(images, labels)
        assert (network(images.float()).argmax(1) == labels).float().mean() > 0.8


def test_checkpoints_of_others_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a" / "net.pt"
    checkpoint.save(path, {"network": "mlp", "seed": 1}, {"x": torch.ones(2)})
    assert [file.name for file in path.parent.iterdir()] == ["net.pt"]
    loaded = checkpoint.load(path, {"network": "mlp", "seed": 1})
    assert loaded is not None
    assert torch.equal(loaded["x"], torch.ones(2))
    assert checkpoint.load(tmp_path / "none.pt", {}) is None
    for identity, message in (
        ({"network": "vgg16", "seed": 2}, "made with network 'mlp', not 'vgg16'"),
        ({"network": "mlp", "seed": 2}, "made with seed 1, not 2"),
        ({"network": "mlp"}, "made with seed 1, not None"),
        ({"network": "mlp", "seed": 1, "epochs": 3}, "made with epochs None, not 3"),
    ):
        with pytest.raises(UsageError, match=message):
            checkpoint.load(path, identity)


@pytest.mark.parametrize(
    "content", [b"", b"nonsense", b"PK\x03\x04 half a file", b"\x80\x02cos\nsystem\n"]
)
def test_damaged_checkpoints_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="checkpoint"):
        checkpoint.load(path, {})


def test_truncated_and_hostile_checkpoints_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    checkpoint.save(path, {}, {"x": torch.ones(100)})
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UsageError, match="cannot be read"):
        checkpoint.load(path, {})
    torch.save({"identity": Path("x")}, path)  # anything but tensors and plain values
    with pytest.raises(UsageError, match="not a checkpoint of tensors"):
        checkpoint.load(path, {})
    torch.save([1, 2], path)
    with pytest.raises(UsageError, match="cannot be read"):
        checkpoint.load(path, {})


def test_wrong_recipes_are_refused() -> None:
    for change, message in (
        ({"schedule": "nosuch"}, "--schedule"),
        ({"optimiser": "nosuch"}, "sgd, adam"),
        ({"augment": "nosuch"}, "flip-and-shift"),
        ({"resolution": "nosuch"}, "full, growing"),
        ({"epochs": 0}, "--epochs"),
        ({"learning_rate": float("nan")}, "--learning-rate"),
        ({"weight_decay": float("inf")}, "--weight-decay"),
    ):
        with pytest.raises(UsageError, match=message):
            replace(recipe("mlp"), **change)
    with pytest.raises(UsageError, match="known networks"):
        recipe("nosuch")
    with pytest.raises(UsageError, match="--resolution: mlp takes full images only"):
        Experiment("mlp", "standard", replace(recipe("mlp"), resolution="growing"))


def test_a_sandwich_can_begin_with_a_standard_network(data: tuple[Tensor, Tensor]) -> None:
    torch.manual_seed(0)
    shape = {"stem": 5, "blocks": ((8, 2), (6, 1))}
    first = MobileNet(1, 3, Standard().scheme, **shape)  # type: ignore[arg-type]
    Trainer(first, Standard(), TINY, {}).train(*data)
    of = Sandwich(levels=(0.5, 1.0))
    second = MobileNet(1, 3, of.scheme, **shape)  # type: ignore[arg-type]
    second.begin_with(first)
    x = data[0][:4].float()
    for fraction in (0.5, 1.0):
        assert torch.equal(second.eval()(x, fraction), first.eval()(x, fraction))
    with pytest.raises(ValueError, match="coefficients: differ"):
        MobileNet(1, 3, Standard("linear").scheme, **shape).begin_with(first)  # type: ignore[arg-type]


def test_small_images_come_first_and_full_ones_last() -> None:
    sides = [resolution("growing")(epoch, 20) for epoch in range(20)]
    assert sides == [0.5] * 8 + [0.75] * 8 + [1.0] * 4
    assert resolution("growing")(0, 1) < 1.0
    assert {resolution("full")(epoch, 3) for epoch in range(3)} == {1.0}
    images = torch.rand(2, 3, 32, 28)
    assert resize(images, 0.75).shape == (2, 3, 24, 21)
    assert resize(images, 1.0) is images
    grey = torch.full((1, 1, 32, 32), 7.0)
    torch.testing.assert_close(resize(grey, 0.5), torch.full((1, 1, 16, 16), 7.0))


def test_a_training_sees_images_grow(data: tuple[Tensor, Tensor]) -> None:
    of = Standard("linear")
    torch.manual_seed(0)
    network = MobileNet(1, 3, of.scheme, stem=5, blocks=((8, 2), (6, 1)))
    seen: list[int] = []
    network.first[0].register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[-1]))
    chosen = replace(TINY, epochs=5, resolution="growing", augment="flip-and-shift")
    images, labels = data
    Trainer(network, of, chosen, {}).train(images[:8], labels[:8])
    assert seen == [4, 4, 6, 6, 8]


def test_statistics_are_measured_on_images_changed_as_in_training() -> None:
    images = torch.full((60, 3, 8, 8), 200, dtype=torch.uint8)
    settings = replace(TINY, augment="flip-and-shift")
    chosen = calibration_images(images, settings)
    assert chosen.shape == (16, 3, 8, 8)
    assert chosen.dtype == torch.uint8
    assert set(chosen.flatten().tolist()) == {0, 200}  # what a shift brings in is black
    assert torch.equal(chosen, calibration_images(images, settings))
    assert torch.equal(calibration_images(images, TINY), images[:16])
