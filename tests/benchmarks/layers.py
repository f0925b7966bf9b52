"""Measures the forward time of every incomplete layer by the fraction of its channels.

Inputs and outputs are both truncated, so that an inner layer's work is about f^2 of the full one.
The last measurement is a training step of the strided depthwise part under bfloat16 autocast, ours
and oneDNN's own.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable

import torch
from torch import Tensor, nn

from shared.fractions import channels
from shared.layers import (
    IncompleteBinaryConv2d,
    IncompleteBinaryLinear,
    IncompleteConv2d,
    IncompleteDepthwiseSeparableConv2d,
    IncompleteLinear,
)
from tests.benchmarks.harness import Check, Report, calls, interleaved, main, ratio, table

FRACTIONS = (0.1, 0.25, 0.5, 0.75, 1.0)
MAP = (28, 28)
BATCH = 64  # rows for linear layers, since a single row is limited by memory

Layer = tuple[nn.Module, Callable[[int], Tensor], int]


def layers() -> dict[str, Layer]:
    """Return each layer with a function that makes its inputs, and its number of channels."""

    def images(n: int) -> Tensor:
        return torch.randn(1, n, *MAP).sign()

    def rows(n: int) -> Tensor:
        return torch.randn(BATCH, n).sign()

    separable = IncompleteDepthwiseSeparableConv2d(256, 256, 3, padding=1, bias=False)
    return {
        "IncompleteLinear 2048": (IncompleteLinear(2048, 2048), rows, 2048),
        "IncompleteConv2d 3x3, 256": (IncompleteConv2d(256, 256, 3, padding=1), images, 256),
        "IncompleteDepthwiseSeparableConv2d 256": (separable, images, 256),
        "IncompleteBinaryLinear 2048": (IncompleteBinaryLinear(2048, 2048), rows, 2048),
        "IncompleteBinaryConv2d 3x3, 256": (
            IncompleteBinaryConv2d(256, 256, 3, padding=1),
            images,
            256,
        ),
    }


def strided(full: bool) -> tuple[float, float]:
    """Measure ms of a step of a strided separable layer: ours, and all in bfloat16."""
    layer = IncompleteDepthwiseSeparableConv2d(64, 64, 3, 2, padding=1, bias=False)
    x = torch.randn(128, 64, 32, 32, dtype=torch.bfloat16, requires_grad=True)
    x = x.to(memory_format=torch.channels_last)

    def step(forward: Callable[[], Tensor]) -> Callable[[], object]:
        def once() -> None:
            with torch.autocast("cpu", torch.bfloat16):
                y = forward()
            torch.autograd.grad(y.sum(), [x, *layer.parameters()])

        return once

    times = interleaved(
        {
            "own": calls(step(lambda: layer(x))),
            "bfloat16": calls(step(lambda: layer.pointwise(layer.depthwise(x)))),
        },
        rounds=25 if full else 5,
        seconds=0.2,
    )
    own, bfloat16 = (1000 * statistics.median(times[name]) for name in ("own", "bfloat16"))
    return own, bfloat16


def run(full: bool) -> Report:
    """Measure every layer at every fraction, interleaved; then the step of the strided one."""
    report = _fractions(full)
    own, bfloat16 = strided(full)
    report.results["strided separable, ms"] = {
        "own": round(own, 1),
        "bfloat16": round(bfloat16, 1),
    }
    report.checks.append(Check("strided_vs_bfloat16", round(own / bfloat16, 3), "", 0.5, "lower"))
    return report


@torch.no_grad()
def _fractions(full: bool) -> Report:
    torch.set_num_threads(1)
    report = Report()
    rows = []
    for name, (layer, inputs, count) in layers().items():
        subjects = {}
        for fraction in FRACTIONS:
            n = channels(fraction, count)
            x = inputs(n)

            def forward(layer: nn.Module = layer, x: Tensor = x, n: int = n) -> Tensor:
                y: Tensor = layer(x, n)
                return y

            subjects[str(fraction)] = calls(torch.no_grad()(forward))
        times = interleaved(subjects, rounds=25 if full else 9, seconds=0.03)
        shares = {key: ratio(found, times["1.0"]) for key, found in times.items()}
        report.results[name] = {
            "microseconds": {
                key: round(1e6 * statistics.median(found), 1) for key, found in times.items()
            },
            "of_full": {key: round(share, 4) for key, share in shares.items()},
        }
        microseconds = 1e6 * statistics.median(times["1.0"])
        rows.append((name, f"{microseconds:,.0f}", *(f"{share:.3f}" for share in shares.values())))
        label = name.split()[0]
        report.checks.append(
            Check(f"{label}_half_time", round(shares["0.5"], 3), "of full", 0.35, "lower")
        )
    headings = ("layer", "full, us", *(f"f = {fraction:g}" for fraction in FRACTIONS))
    ideal = ("f^2", "", *(f"{fraction**2:.3f}" for fraction in FRACTIONS))
    report.tables.append(table("time against fraction, share of full", headings, (*rows, ideal)))
    return report


if __name__ == "__main__":
    main("layers", str(__doc__), run)
