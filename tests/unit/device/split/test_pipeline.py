"""A model checks itself before it is used."""

from __future__ import annotations

import numpy as np
import pytest

from device.split.pipeline import Pipeline
from shared.errors import BundleError
from shared.packed import DeviceHalf
from tests.support.clouds import tiny_bundle


def test_self_check_finds_a_model_that_gives_other_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = Pipeline(tiny_bundle())
    pipeline.check()
    monkeypatch.setattr(DeviceHalf, "run", lambda *_: np.zeros((1, 16), np.uint8))
    with pytest.raises(BundleError, match="other bits"):
        pipeline.check()
