"""Switchable batch norm as a torch user meets it: errors, loading, statistics in parts."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.optim.swa_utils import update_bn

from shared.layers import SwitchableBatchNorm


def measured() -> SwitchableBatchNorm:
    torch.manual_seed(0)
    norm = SwitchableBatchNorm(3, [0, 1])
    norm.eval()
    norm.measure(torch.randn(50, 3, 2, 2) * 5 + 40, 0, first=True)
    return norm


def test_evaluation_before_statistics_is_an_error() -> None:
    norm = SwitchableBatchNorm(3, [0, 1]).eval()
    for use in (lambda: norm(torch.zeros(1, 3), 1), lambda: norm.fold(1, 3)):
        with pytest.raises(RuntimeError, match=r"level 1: has no statistics for [13] channels"):
            use()


def test_each_level_and_width_needs_its_own() -> None:
    norm = SwitchableBatchNorm(3, [0, 1]).eval()
    norm.measure(torch.randn(8, 2), 0, first=True)
    assert norm(torch.zeros(1, 2), 0).shape == (1, 2)
    with pytest.raises(RuntimeError, match="level 0: has no statistics for 3 channels"):
        norm(torch.zeros(1, 3), 0)
    with pytest.raises(RuntimeError, match="level 1"):
        norm(torch.zeros(1, 2), 1)


def test_channels_that_a_level_does_not_use_have_thresholds_all_the_same() -> None:
    norm = SwitchableBatchNorm(3, [0]).eval()
    norm.measure(torch.randn(8, 2) * 5 + 40, 0, first=True)
    thresholds, flips = norm.fold(0, 3)
    assert (thresholds[:2] > 30).all()
    assert thresholds[2] == 0
    assert not flips.any()


def test_loading_brings_statistics_and_takes_them_away() -> None:
    known, fresh = measured(), SwitchableBatchNorm(3, [0, 1]).eval()
    empty = copy.deepcopy(fresh.state_dict())
    x = torch.randn(4, 3, 2, 2)
    fresh.load_state_dict(known.state_dict())
    assert torch.equal(fresh(x, 0), known(x, 0))
    assert torch.equal(copy.deepcopy(fresh)(x, 0), known(x, 0))
    fresh.load_state_dict(empty)
    with pytest.raises(RuntimeError, match="has no statistics"):
        fresh(x, 0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_numbers_that_are_not_exact_are_refused(dtype: torch.dtype) -> None:
    with pytest.raises(TypeError, match=f"{dtype} is not exact"):
        measured().half()(torch.zeros(1, 3, dtype=dtype), 0)


def test_torch_s_update_bn_is_refused_not_skipped() -> None:
    with pytest.raises(RuntimeError, match=r"update_bn: .* call BinaryNet\.calibrate"):
        update_bn([torch.zeros(1, 3)], measured())


@torch.no_grad()
def test_statistics_in_parts_are_those_of_the_whole() -> None:
    torch.manual_seed(1)
    x = torch.randint(-500, 900, (101, 3, 4, 5)).float() + torch.tensor([0, 4000, -7]).view(3, 1, 1)
    whole, parts = SwitchableBatchNorm(3, [0]), SwitchableBatchNorm(3, [0])
    whole.measure(x, 0, first=True)
    parts.measure(torch.randn(9, 3), 0, first=True)  # of an earlier calibration
    for index, part in enumerate(torch.split(x, [1, 60, 7, 33])):
        parts.measure(part, 0, first=index == 0)
    expected = torch.var_mean(x.double(), dim=(0, 2, 3), correction=0)
    for norm in (whole, parts):
        torch.testing.assert_close(norm.var[0], expected[0], rtol=1e-12, atol=0)
        torch.testing.assert_close(norm.mean[0], expected[1], rtol=1e-12, atol=1e-12)
