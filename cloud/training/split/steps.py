"""A training step: loss over pairs of levels, gradients, optimiser; run directly or replayed.

On a GPU a step consists of hundreds of small kernels, whose launches take most of the time. So each
set of pairs is recorded as a CUDA graph at its second use and replayed from then on; see
https://pytorch.org/docs/stable/notes/cuda.html
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cloud.training.low_precision import has_bfloat16
from cloud.training.split.pairs import Pairs
from cloud.training.split.processor import Processor
from cloud.training.split.settings import Settings
from cloud.training.split.training_pass import TrainingPass
from shared.networks.binarynet import BinaryNet


def step_loss(
    run: TrainingPass, labels: Tensor, pairs: Pairs, settings: Settings, lesson: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the weighted loss over ``pairs``, and loss and logits (B, classes) of the widest pair.

    ``labels`` is (B,). ``lesson`` (B, classes) are a teacher's logits; without them, the widest
    pair learns from the labels alone and the other pairs from the widest.
    """
    level, cloud_levels = pairs[0]
    bits = run.device(level)
    widest = run.cloud(bits, level, cloud_levels[0])
    hard = F.cross_entropy(widest, labels)
    teaching = widest.detach() if lesson is None else lesson
    own = hard if lesson is None else taught_loss(widest, labels, teaching, settings)
    total = settings.widest_weight * own
    for level, cloud_levels in pairs:
        if level != pairs[0][0]:
            bits = run.device(level)
        others = [run.cloud(bits, level, c) for c in cloud_levels[level == pairs[0][0] :]]
        for logits in others:
            total = total + taught_loss(logits, labels, teaching, settings)
        leaving = run.exit(bits, level)
        if leaving is not None:
            loss = taught_loss(leaving, labels, teaching, settings)
            total = total + settings.exit_weight * loss
    return total, hard.detach(), widest.detach()


def taught_loss(logits: Tensor, labels: Tensor, lesson: Tensor, settings: Settings) -> Tensor:
    """Return the weighted sum of cross-entropies with the labels and the lesson's softened answer.

    Source: Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network"
    (arXiv 1503.02531), including its factor of the squared temperature.
    """
    share, heat = settings.label_weight, settings.temperature
    soft = F.cross_entropy(logits / heat, F.softmax(lesson / heat, dim=1))
    return share * F.cross_entropy(logits, labels) + (1 - share) * heat**2 * soft


class Stepper:
    """Trains ``net`` in place, one batch at a time; owns the optimiser.

    Losses and right answers of the widest pair are summed on the processor until ``totals`` is
    called.
    """

    def __init__(self, net: BinaryNet, settings: Settings, processor: Processor) -> None:
        self._net = net
        self._settings = settings
        self._processor = processor
        low = settings.bfloat16 and has_bfloat16(processor.device)
        self._dtype = torch.bfloat16 if low else torch.float32
        self._optimiser = torch.optim.Adam(
            net.parameters(), lr=self._rate(0.0), fused=True, capturable=processor.cuda
        )
        self._sums = torch.zeros(2, device=processor.device)
        self._samples = 0
        self._replays = _Replays() if processor.graphs else None

    def step(self, images: Tensor, labels: Tensor, pairs: Pairs, lesson: Tensor | None) -> None:
        """Train on images (B, C, H, W) in 0..255, labels (B,) and the teacher's logits (B,
        classes).
        """
        self._samples += len(labels)
        if self._replays is None:
            self._eager(images, labels, pairs, lesson)
        else:
            self._replays.run(self._eager, self._optimiser, (images, labels, pairs, lesson))

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of the next steps."""
        for group in self._optimiser.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def totals(self) -> tuple[float, float]:
        """Return mean loss and accuracy of the widest pair since the last call."""
        loss, right = (self._sums / max(self._samples, 1)).tolist()
        self._sums.zero_()
        self._samples = 0
        return loss, right

    def state(self) -> dict[str, Any]:
        """Return the optimiser's state, for a checkpoint."""
        return self._optimiser.state_dict()

    def load(self, state: dict[str, Any]) -> None:
        """Restore a state of ``state``, which may be from another processor."""
        self._optimiser.load_state_dict(state)
        for group in self._optimiser.param_groups:
            group.update(lr=self._rate(0.0), capturable=self._processor.cuda)

    def _rate(self, rate: float) -> float | Tensor:
        # A tensor on a GPU, since a plain number would be recorded as a constant of the graph.
        return torch.tensor(rate, device=self._processor.device) if self._processor.cuda else rate

    def _eager(self, images: Tensor, labels: Tensor, pairs: Pairs, lesson: Tensor | None) -> None:
        run = TrainingPass(self._net, images, self._dtype, aligned=self._processor.cuda)
        total, loss, logits = step_loss(run, labels, pairs, self._settings, lesson)
        self._optimiser.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        self._net.clip_latent_weights()
        right = (logits.argmax(1) == labels).sum()
        self._sums += torch.stack([loss * len(labels), right])


class _Replays:
    """A CUDA graph for each set of pairs; all read the same input buffers and share one pool."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()
        self._graphs: dict[Pairs, torch.cuda.CUDAGraph] = {}
        self._warm: set[Pairs] = set()
        self._buffers: tuple[Tensor, Tensor, Tensor | None] | None = None
        self._side = torch.cuda.Stream()  # type: ignore[no-untyped-call]

    def run(self, step: Any, optimiser: torch.optim.Optimizer, call: Any) -> None:
        """Run or replay ``step(*call)``, where call is (images, labels, pairs, lesson)."""
        images, labels, pairs, lesson = call
        if pairs not in self._warm:
            # The first use is a direct step, which also searches the fastest convolutions; that
            # is not allowed during the recording of a graph.
            self._warm.add(pairs)
            self._side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._side):
                step(images, labels, pairs, lesson)
            torch.cuda.current_stream().wait_stream(self._side)
            return
        if self._buffers is None:
            copies = (images.clone(), labels.clone(), None if lesson is None else lesson.clone())
            self._buffers = copies
        else:
            for buffer, value in zip(self._buffers, (images, labels, lesson), strict=True):
                if buffer is not None:
                    buffer.copy_(value)
        if pairs not in self._graphs:
            graph = torch.cuda.CUDAGraph()
            optimiser.zero_grad()  # so that gradients are allocated in the graph's pool
            x, y, target = self._buffers
            with torch.cuda.graph(graph, pool=self._pool):
                step(x, y, pairs, target)
            self._graphs[pairs] = graph
        self._graphs[pairs].replay()
