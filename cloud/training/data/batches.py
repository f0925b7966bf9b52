"""Settings of a training and the batches that it sees."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from cloud.training.data.augment import AUGMENTATIONS

# grid      widest, narrowest, random pairs; each random pair's device level with the widest cloud
#           level too, and the widest device level with a random cloud level
# sandwich  widest, narrowest, random pairs and no more: a third less work a step
PAIR_RULES = ("grid", "sandwich")


@dataclass(frozen=True)
class Settings:
    """How a network is trained; two runs with the same settings and data give the same weights."""

    epochs: int = 20
    batch: int = 256
    learning_rate: float = 0.01
    seed: int = 1
    augment: str = "shift"
    pairs: str = "grid"  # which level pairs a step trains, see PAIR_RULES
    # The narrow pairs are many and pull the shared weights their way; this is the counterweight.
    widest_weight: float = 2.0  # of the widest pair's loss, the others' is 1 each
    warm_up: float = 0.1  # share of the steps in which the learning rate rises
    random_pairs: int = 1  # random level pairs a step, besides the widest and the narrowest
    bfloat16: bool = True  # convolutions of the training steps; calibration is always exact
    calibration_images: int = 8192
    teacher_epochs: int = 0  # of the float network that all levels learn from; 0 means none


def batches(
    images: Tensor, labels: Tensor, settings: Settings, epoch: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Shuffled, augmented batches; the order depends only on the seed and the epoch."""
    generator = torch.Generator().manual_seed(settings.seed * 100_003 + epoch)
    order = torch.randperm(len(images), generator=generator)
    augment = AUGMENTATIONS[settings.augment]
    for start in range(0, len(order) - settings.batch + 1, settings.batch):
        chosen = order[start : start + settings.batch]
        x = augment(images[chosen].float(), generator)
        yield x.to(memory_format=torch.channels_last), labels[chosen]
