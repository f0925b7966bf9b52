"""Float networks at a fraction as ONNX files that ONNX Runtime answers alike."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest
import torch
from torch import nn

from cloud.training.onnx_export import INPUT, OUTPUT, export_onnx
from shared.errors import FractionError
from shared.networks import IncompleteNetwork, wrap

# Of torch's own exporter.
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")


def network() -> IncompleteNetwork:
    torch.manual_seed(0)
    chain = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(8 * 4 * 4, 64), nn.ReLU(), nn.Linear(64, 5),
    )  # fmt: skip
    return wrap(chain, levels=(0.5, 1.0))


def test_onnx_runtime_gives_the_same_logits_for_any_batch(tmp_path: Path) -> None:
    made, path = network().train(), tmp_path / "half.onnx"
    export_onnx(made, 0.5, (3, 8, 8), path)
    assert made.training
    made.eval()
    session = onnxruntime.InferenceSession(path)
    for count in (1, 7):
        x = torch.rand(count, 3, 8, 8) * 255
        (logits,) = session.run([OUTPUT], {INPUT: x.numpy()})
        with torch.no_grad():
            expected = made(x, 0.5)
        torch.testing.assert_close(torch.from_numpy(logits), expected, rtol=1e-4, atol=1e-3)
    assert path.stat().st_size < 4 * sum(p.numel() for p in made.parameters())


def test_a_wrong_fraction_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(FractionError):
        export_onnx(network(), 1.5, (3, 8, 8), tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())
