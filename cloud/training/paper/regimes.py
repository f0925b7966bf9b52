"""Training regimes: the widths that a training step runs, and the loss of each."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from shared.errors import UsageError
from shared.networks.cost import calls
from shared.networks.incomplete import IncompleteNetwork, Scheme, single
from shared.profiles import ProfileRange, check_ranges

TRUNCATION_MEAN = 0.1
SWEEP = tuple(round(tenth / 10, 1) for tenth in range(1, 11))  # fractions that figures show


class Regime(Protocol):
    """A training regime: provides the network's scheme and the losses of a step. Stateless."""

    @property
    def scheme(self) -> Scheme:
        """Return the profiles and levels that a network needs for this regime."""
        ...

    @property
    def stages(self) -> int:
        """Number of consecutive trainings, each over all epochs."""
        ...

    @property
    def recalibrated(self) -> bool:
        """Whether the statistics of every level are measured again after training."""
        ...

    def losses(
        self, network: IncompleteNetwork, x: Tensor, y: Tensor, step: Step
    ) -> Iterator[Tensor]:
        """Yield the losses of a step; each must be back-propagated before the next is requested."""
        ...


@dataclass(frozen=True)
class Step:
    """The arguments of a regime for one step: stage, random numbers, label smoothing."""

    stage: int
    random: random.Random
    smoothing: float  # label smoothing


@dataclass(frozen=True)
class Standard:
    """Ordinary training of the complete network; coefficients are 1 unless a profile is given."""

    profile: str = "all-one"
    stages: int = 1
    recalibrated: bool = False

    @property
    def scheme(self) -> Scheme:
        """One profile, one set of statistics."""
        return single(self.profile)

    def losses(
        self, network: IncompleteNetwork, x: Tensor, y: Tensor, step: Step
    ) -> Iterator[Tensor]:
        """Yield the cross-entropy of the complete network."""
        yield _cross_entropy(network(x), y, step)


@dataclass(frozen=True)
class Idp:
    """The paper's regime: a profile, and a random fraction in each step.

    Source: arXiv 1710.07830. With ``per_block``, every block draws its own fraction of inputs and
    computes all outputs, as the research code does.
    """

    profile: str = "linear"
    stages: int = 1
    recalibrated: bool = False
    per_block: bool = False

    @property
    def scheme(self) -> Scheme:
        """One profile, one set of statistics."""
        return single(self.profile)

    def losses(
        self, network: IncompleteNetwork, x: Tensor, y: Tensor, step: Step
    ) -> Iterator[Tensor]:
        """Yield the cross-entropy at the fraction 1 - t, where t is drawn by ``truncation``."""
        if self.per_block:
            draws = [1 - truncation(step.random) for _ in range(network.truncated)]
            logits = network(x, draws=draws)
        else:
            logits = network(x, 1 - truncation(step.random))
        yield _cross_entropy(logits, y, step)


@dataclass(frozen=True)
class MultiProfile:
    """The paper's training with several profiles, one for each range of fractions.

    There is one stage for each range. A stage runs at random fractions of its range, mostly near
    the upper end as in ``Idp``. It has its own statistics and its own first and last layer. Of the
    shared layers it trains only the channels that earlier stages did not use; the others are
    frozen.
    """

    ranges: tuple[ProfileRange, ...]
    recalibrated: bool = False

    def __post_init__(self) -> None:
        check_ranges(self.ranges)

    @property
    def scheme(self) -> Scheme:
        """Return one profile and one set of statistics for each range."""
        return Scheme(self.ranges, tuple(entry.upto for entry in self.ranges))

    @property
    def stages(self) -> int:
        """One stage for each range."""
        return len(self.ranges)

    def losses(
        self, network: IncompleteNetwork, x: Tensor, y: Tensor, step: Step
    ) -> Iterator[Tensor]:
        """Yield the cross-entropy at the fraction upto - t * (upto - above)."""
        entry = self.ranges[step.stage]
        fraction = entry.upto - truncation(step.random) * (entry.upto - entry.above)
        yield _cross_entropy(network(x, fraction), y, step)


@dataclass(frozen=True)
class Sandwich:
    """The sandwich rule: the widest, the narrowest and random widths in every step.

    The widest width learns from the labels, the others from the answer of the widest. Every width
    has its own batch norm, recalibrated after training. Source: Yu and Huang, "Universally
    Slimmable Networks" (arXiv 1903.05134).
    """

    profile: str = "all-one"
    levels: tuple[float, ...] = SWEEP
    random_widths: int = 2
    stages: int = 1
    recalibrated: bool = True

    @property
    def scheme(self) -> Scheme:
        """Return one profile and one set of statistics for each level."""
        return single(self.profile, self.levels)

    def losses(
        self, network: IncompleteNetwork, x: Tensor, y: Tensor, step: Step
    ) -> Iterator[Tensor]:
        """Yield the widest width's cross-entropy, then those of the others against its answer."""
        logits = network(x)
        yield _cross_entropy(logits, y, step)
        lesson = F.softmax(logits.detach().float(), dim=1)
        between = list(self.levels[1:-1])
        chosen = step.random.sample(between, min(self.random_widths, len(between)))
        for fraction in (*chosen, *self.levels[:1]):
            if fraction < 1.0:
                yield F.cross_entropy(network(x, fraction).float(), lesson)


def truncation(generator: random.Random, mean: float = TRUNCATION_MEAN) -> float:
    """Draw t in [0, 1) from an exponential distribution with ``mean``, truncated at 1.

    By the inverse of the distribution function, for u uniform in [0, 1):
    t = -mean * log(1 - u * (1 - exp(-1 / mean))).
    """
    t = -mean * math.log1p(-generator.random() * -math.expm1(-1 / mean))
    return min(t, math.nextafter(1.0, 0.0))


class Frozen:
    """Copies of the shared weights that earlier stages trained, to be restored after every step.

    Setting gradients to zero would not freeze them, since momentum and weight decay change weights
    too. Norms and end layers need no copies: each stage runs only its own, and the optimiser skips
    parameters without a gradient.
    """

    def __init__(
        self, network: IncompleteNetwork, input_shape: tuple[int, ...], stage: int
    ) -> None:
        self._blocks: list[tuple[Tensor, Tensor]] = []
        tops = network.scheme.tops
        for call in calls(network, input_shape, tops[stage - 1]) if stage else []:
            for name, shape in call.used.items():
                parameter = getattr(call.module, name).detach()
                block = parameter[tuple(slice(size) for size in shape)]
                self._blocks.append((block, block.clone()))

    @torch.no_grad()
    def restore(self) -> None:
        """Restore the values of all frozen weights."""
        for block, kept in self._blocks:
            block.copy_(kept)


REGIMES = ("standard", "idp", "multi-profile", "sandwich")


def regime(
    name: str,
    profile: str | None = None,
    ranges: tuple[ProfileRange, ...] | None = None,
    *,
    per_block: bool = False,
) -> Regime:
    """Return the regime of that name; ``UsageError`` lists the known ones.

    Without ``profile`` the regime's default is used. ``ranges`` are for multi-profile, which needs
    them; ``per_block`` is for idp.
    """
    if name not in REGIMES:
        raise UsageError(f"--regime: {name!r} is unknown; known regimes: {', '.join(REGIMES)}")
    if per_block and name != "idp":
        raise UsageError(f"--per-block: {name} draws no fraction for a block; idp does")
    if name == "multi-profile":
        if ranges is None:
            raise UsageError("--ranges: multi-profile needs some, like 0-0.2:linear,0.2-1:linear")
        if profile is not None:
            raise UsageError("--profile: multi-profile takes its profiles from --ranges")
        return MultiProfile(ranges)
    if ranges is not None:
        raise UsageError(f"--ranges: {name} has one profile; give --profile")
    if name == "idp":
        return Idp(profile or Idp.profile, per_block=per_block)
    chosen: dict[str, type[Standard | Sandwich]] = {"standard": Standard, "sandwich": Sandwich}
    return chosen[name]() if profile is None else chosen[name](profile=profile)


def _cross_entropy(logits: Tensor, y: Tensor, step: Step) -> Tensor:
    return F.cross_entropy(logits.float(), y, label_smoothing=step.smoothing)
