"""How a split network is trained."""

from __future__ import annotations

from dataclasses import dataclass

from cloud.training.data.augment import AUGMENTATIONS
from cloud.training.data.batches import Batching
from shared.errors import UsageError

# staged    widest and one random pair; once the learning rate falls, as sandwich
# sandwich  widest, narrowest, random pairs
# grid      as sandwich; each random pair's device level with the widest cloud level too, and the
#           widest device level with a random cloud level
PAIR_RULES = ("staged", "sandwich", "grid")


@dataclass(frozen=True)
class Settings:
    """How a network is trained; two runs with the same settings and data give the same weights.

    The learning rate rises for ``warm_up`` epochs, stays, and falls to 0 along half a cosine over
    the last ``decay`` of the epochs: what was learnt before it falls is also the beginning of a
    longer training.
    """

    epochs: int = 20
    batch: int = 128
    learning_rate: float = 0.0025
    seed: int = 1
    augment: str = "shift"
    pairs: str = "staged"  # which level pairs a step trains, see PAIR_RULES
    random_pairs: int = 1  # random level pairs a step, besides the widest and the narrowest
    # The narrow pairs are many and pull the shared weights their way; this is the counterweight.
    widest_weight: float = 2.0  # of the widest pair's loss, the others' is 1 each
    exit_weight: float = 0.3  # of the exit heads' losses
    label_weight: float = 0.2  # of the labels, where the rest is of the teacher's answer
    temperature: float = 2.0  # at which answers are compared with the teacher's
    warm_up: float = 1.0  # epochs in which the learning rate rises
    decay: float = 0.4  # share of the epochs in which it falls
    average: float = 0.1  # share of the epochs, the last ones, whose weights are averaged
    # Convolutions of the training steps, where the processor has it; calibration is always exact.
    bfloat16: bool = True
    calibration_images: int = 0  # statistics are measured on; 0: enough for the pictures' size
    teacher_epochs: int = 0  # of the float network that all levels learn from; 0 means none
    teacher_width: int = 64  # channels of its first layer
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
        """How an epoch is cut into batches."""
        return Batching(self.batch, self.augment, self.seed)

    @property
    def teacher_batching(self) -> Batching:
        """The same for the teacher."""
        return Batching(self.batch, self.teacher_augment, self.seed)
