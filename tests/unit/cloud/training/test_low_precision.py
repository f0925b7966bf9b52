"""bfloat16 only where it pays."""

import pytest
import torch

from cloud.training import low_precision


@pytest.mark.parametrize("has", [True, False])
def test_steps_are_bfloat16_only_where_the_processor_has_it(
    has: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(low_precision, "has_bfloat16", lambda device: has)
    x, place = torch.ones(4, 4), torch.device("cpu")
    with low_precision.low_precision(place):
        assert (x @ x).dtype == (torch.bfloat16 if has else torch.float32)
    with low_precision.low_precision(place, wanted=False):
        assert (x @ x).dtype == torch.float32


def test_a_gpu_always_has_it() -> None:
    assert low_precision.has_bfloat16(torch.device("cuda"))
    assert isinstance(low_precision.has_bfloat16(torch.device("cpu")), bool)
