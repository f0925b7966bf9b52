"""Folding a batch norm into thresholds changes no bit."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.layers.norm import SwitchableBatchNorm
from shared.layers.sign import sign

numbers = st.floats(-300, 300, width=32)


@settings(deadline=None)
@given(mean=numbers, var=st.floats(0, 1e5), weight=st.one_of(st.just(0.0), numbers), bias=numbers)
def test_fold_equals_sign_of_the_norm(mean: float, var: float, weight: float, bias: float) -> None:
    norm = SwitchableBatchNorm(1, [0])
    with torch.no_grad():
        norm.mean.fill_(mean)
        norm.var.fill_(var)
        norm.weight.fill_(weight)
        norm.bias.fill_(bias)
    norm.eval()
    threshold, flip = norm.fold(0, 1)
    root = int(np.clip(int(threshold[0]), -10_000, 10_000))
    sums = torch.cat([torch.arange(-1000, 1000), torch.arange(root - 50, root + 50)])
    with torch.no_grad():
        expected = sign(norm(sums.float()[:, None], 0))[:, 0].numpy() > 0
    found = (sums.numpy() >= threshold[0]) ^ flip[0]
    assert np.array_equal(found, expected)
