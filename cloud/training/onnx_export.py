"""Export a float network at one fraction as an ONNX file."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from shared.atomic_file import replacing
from shared.fractions import check_fraction
from shared.networks.incomplete import IncompleteNetwork

INPUT, OUTPUT = "images", "logits"


class _AtFraction(nn.Module):
    """A network with a fixed fraction."""

    def __init__(self, network: IncompleteNetwork, fraction: float) -> None:
        super().__init__()
        self.network = network
        self.fraction = fraction

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits (B, classes) of images (B, C, H, W) in 0..255."""
        logits: Tensor = self.network(images, self.fraction)
        return logits


def export_onnx(
    network: IncompleteNetwork, fraction: float, image: tuple[int, int, int], path: Path
) -> None:
    """Write ``network`` at ``fraction`` to ``path``, for batches of images (C, H, W) in 0..255.

    Channels that the fraction cuts off are not in the file. Needs the package onnxscript.
    """
    check_fraction(fraction)
    was_training = network.training
    device = next(network.parameters()).device
    fixed = _AtFraction(network, fraction).eval()
    try:
        program = torch.onnx.export(
            fixed,
            (torch.zeros(2, *image, device=device),),
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            verbose=False,
        )
    finally:
        network.train(was_training)
    if program is None:
        raise RuntimeError("torch.onnx.export gave no program")
    with replacing(path, "path") as temporary:
        program.save(temporary)
