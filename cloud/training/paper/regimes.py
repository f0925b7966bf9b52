"""Training regimes: which widths a step runs, and which loss each of them has."""

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
SWEEP = tuple(round(tenth / 10, 1) for tenth in range(1, 11))  # fractions of every figure


class Regime(Protocol):
    """A training regime without state: gives the trainer a scheme and the losses of a step."""

    @property
    def scheme(self) -> Scheme:
        """Profiles and levels that a network needs for this regime."""
        ...

    @property
    def stages(self) -> int:
        """How many trainings follow one another, each over all epochs."""
        ...

    @property
    def recalibrated(self) -> bool:
        """Whether every level's statistics are measured anew after training."""
        ...

    def losses(
        self, network: IncompleteNetwork, x: Tensor, y: Tensor, step: Step
    ) -> Iterator[Tensor]:
        """Losses of one step, each to be back-propagated before the next is asked for."""
        ...


@dataclass(frozen=True)
class Step:
    """What a regime is told of a step."""

    stage: int
    random: random.Random
    smoothing: float  # of labels


@dataclass(frozen=True)
class Standard:
    """The usual training: complete, all coefficients 1 unless a profile is given."""

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
        """Cross-entropy of the complete network."""
        yield _cross_entropy(network(x), y, step)


@dataclass(frozen=True)
class Idp:
    """The paper's: a profile, and every step truncated at random. Source: arXiv 1710.07830.

    ``per_block``: every block draws a fraction of its inputs for itself, as the research code
    does; all outputs are computed.
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
        """Cross-entropy at the fraction 1 - t."""
        if self.per_block:
            draws = [1 - truncation(step.random) for _ in range(network.truncated)]
            logits = network(x, draws=draws)
        else:
            logits = network(x, 1 - truncation(step.random))
        yield _cross_entropy(logits, y, step)


@dataclass(frozen=True)
class MultiProfile:
    """The paper's profiles for several ranges: a stage a range, the channels before it frozen.

    A stage runs at a random fraction of its range, near its top as in ``Idp``. It has statistics
    and a first and last layer of its own; what it shares is trained only where it is new.
    """

    ranges: tuple[ProfileRange, ...]
    recalibrated: bool = False

    def __post_init__(self) -> None:
        check_ranges(self.ranges)

    @property
    def scheme(self) -> Scheme:
        """A profile and a set of statistics for every range."""
        return Scheme(self.ranges, tuple(entry.upto for entry in self.ranges))

    @property
    def stages(self) -> int:
        """One a range."""
        return len(self.ranges)

    def losses(
        self, network: IncompleteNetwork, x: Tensor, y: Tensor, step: Step
    ) -> Iterator[Tensor]:
        """Cross-entropy at the fraction upto - t * (upto - above)."""
        entry = self.ranges[step.stage]
        fraction = entry.upto - truncation(step.random) * (entry.upto - entry.above)
        yield _cross_entropy(network(x, fraction), y, step)


@dataclass(frozen=True)
class Sandwich:
    """Widest, narrowest and random widths in every step; the widest teaches the others.

    A batch norm for every width, recalibrated after training. Source: Yu and Huang, "Universally
    Slimmable Networks" (arXiv 1903.05134).
    """

    profile: str = "all-one"
    levels: tuple[float, ...] = SWEEP
    random_widths: int = 2
    stages: int = 1
    recalibrated: bool = True

    @property
    def scheme(self) -> Scheme:
        """One profile, a set of statistics for every level."""
        return single(self.profile, self.levels)

    def losses(
        self, network: IncompleteNetwork, x: Tensor, y: Tensor, step: Step
    ) -> Iterator[Tensor]:
        """Cross-entropy of the widest, then of the others against the widest one's answer."""
        logits = network(x)
        yield _cross_entropy(logits, y, step)
        lesson = F.softmax(logits.detach().float(), dim=1)
        between = list(self.levels[1:-1])
        chosen = step.random.sample(between, min(self.random_widths, len(between)))
        for fraction in (*chosen, *self.levels[:1]):
            if fraction < 1.0:
                yield F.cross_entropy(network(x, fraction).float(), lesson)


def truncation(generator: random.Random, mean: float = TRUNCATION_MEAN) -> float:
    """A draw t in [0, 1) of an exponential distribution cut off at 1.

    Inverse of its distribution function: t = -mean * log(1 - u * (1 - exp(-1 / mean))).
    """
    t = -mean * math.log1p(-generator.random() * -math.expm1(-1 / mean))
    return min(t, math.nextafter(1.0, 0.0))


class Frozen:
    """Copies of the shared weights that earlier stages trained, to restore after every step.

    Zero gradients would not freeze them, since momentum and weight decay move weights too. Norms
    and end layers need no copies: each stage runs only its own, and the optimiser skips parameters
    without a gradient.
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
        """Give every frozen weight its value back."""
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
    """The regime of that name; ``UsageError`` lists the known ones.

    No profile means the regime's own; ``ranges`` belong to multi-profile, which needs them;
    ``per_block`` belongs to idp.
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
