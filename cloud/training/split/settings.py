"""The training settings of split networks."""

from __future__ import annotations

from dataclasses import dataclass

from cloud.training.data.augment import AUGMENTATIONS
from cloud.training.data.batches import Batching
from shared.errors import UsageError

# Pairs of levels that a step trains:
# staged    widest and one random pair; once the learning rate falls, as sandwich
# sandwich  widest, narrowest, random pairs
# grid      as sandwich, and also each random pair's device level with the widest cloud level, and
#           the widest device level with a random cloud level
PAIR_RULES = ("staged", "sandwich", "grid")


@dataclass(frozen=True)
class Settings:
    """Training settings of a network; equal settings and data give equal weights.

    The learning rate rises for ``warm_up`` epochs, stays constant, and falls to 0 along half a
    cosine over the last ``decay`` share of the epochs. The training before the fall can also be
    continued as a longer one.
    """

    epochs: int = 20
    batch: int = 128
    learning_rate: float = 0.0025
    seed: int = 1
    augment: str = "shift"
    pairs: str = "staged"  # the rule for the level pairs of a step, see PAIR_RULES
    random_pairs: int = 1  # random level pairs in a step, besides the widest and the narrowest
    # Weight of the widest pair's loss, the others' being 1 each: it balances the many narrow pairs.
    widest_weight: float = 2.0
    exit_weight: float = 0.3  # weight of the exit heads' losses
    label_weight: float = 0.2  # weight of the labels; the rest is that of the teacher's answer
    temperature: float = 2.0  # softens answers for the comparison with the teacher's
    warm_up: float = 1.0  # epochs in which the learning rate rises
    decay: float = 0.4  # share of the epochs in which it falls
    average: float = 0.1  # share of the epochs, at the end, over which weights are averaged
    # Convolutions of training steps in bfloat16, if the processor has it; calibration is exact.
    bfloat16: bool = True
    calibration_images: int = 0  # images to measure statistics on; 0: enough for their size
    teacher_epochs: int = 0  # epochs of the float teacher that all levels learn from; 0: no teacher
    teacher_width: int = 64  # channels of the teacher's first layer
    teacher_augment: str = "cutout"

    def __post_init__(self) -> None:
        for flag, value, known in (
            ("--augment", self.augment, tuple(AUGMENTATIONS)),
            ("--teacher-augment", self.teacher_augment, tuple(AUGMENTATIONS)),
            ("--pairs", self.pairs, PAIR_RULES),
        ):
            if value not in known:
                raise UsageError(f"{flag}: {value!r} is unknown; known: {', '.join(known)}")
        if self.calibration_images == 1:
            raise UsageError("--calibration-images: 1 has no variance; give 2 or more, or 0")

    @property
    def batching(self) -> Batching:
        """How an epoch is divided into batches."""
        return Batching(self.batch, self.augment, self.seed)

    @property
    def teacher_batching(self) -> Batching:
        """The same for the teacher."""
        return Batching(self.batch, self.teacher_augment, self.seed)
