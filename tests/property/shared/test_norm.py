"""Folding a batch norm into thresholds changes no bit."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.layers.norm import SwitchableBatchNorm
from shared.layers.sign import sign
from shared.layers.ternary import ternary_sign

numbers = st.floats(-300, 300, width=32)


@settings(deadline=None)
@given(
    mean=numbers,
    var=st.floats(0, 1e5),
    weight=st.one_of(st.just(0.0), numbers),
    bias=numbers,
    delta=st.floats(0, 3, width=32),
)
def test_fold_equals_the_signs_of_the_norm(
    mean: float, var: float, weight: float, bias: float, delta: float
) -> None:
    norm = SwitchableBatchNorm(1, [0])
    with torch.no_grad():
        norm.mean.fill_(mean)
        norm.var.fill_(var)
        norm.weight.fill_(weight)
        norm.bias.fill_(bias)
    norm.eval()
    width = torch.tensor([delta])
    tables = [norm.fold(0, 1, reach) for reach in (None, width, -width)]
    roots = [int(np.clip(int(threshold[0]), -10_000, 10_000)) for threshold, _ in tables]
    sums = torch.cat(
        [torch.arange(-1000, 1000), *(torch.arange(root - 50, root + 50) for root in roots)]
    )
    with torch.no_grad():
        y = norm(sums.float()[:, None], 0)
        one, two = sign(y)[:, 0].numpy(), ternary_sign(y, width)[:, 0].numpy()
    binary, upper, lower = (
        np.where((sums.numpy() >= threshold[0]) ^ flip[0], 1, -1) for threshold, flip in tables
    )
    assert np.array_equal(binary, one)
    assert np.array_equal(upper + lower, two)
