"""The interface of policies, the simple ones (fixed, steps, linear in the charge) and their names.

``device.policy.auto`` has the policy that plans.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from device.energy.charge import Charge
from shared.errors import UsageError
from shared.fractions import check_fraction, level_for, parse_fraction

AUTO = "auto"
FOLLOWERS = ("linear", "step")  # of the charge
LARGEST_BATCH = 64  # samples that wait for each other at most
MOST_LOOKS = 2  # at one sample


@dataclass(frozen=True)
class Situation:
    """The inputs of a policy.

    now_s         seconds on a clock that does not go back
    stored_j      joules in the battery, None if its capacity is unknown
    forecast      (seconds ahead, joules that charging will have brought by then), ascending
    rate_per_s    samples to classify in a second
    round_trip_s  measured time to an answer, None before there was one
    cloud_away    whether the cloud cannot be reached
    """

    charge: Charge
    now_s: float = 0.0
    stored_j: float | None = None
    forecast: tuple[tuple[float, float], ...] = ()
    rate_per_s: float = 1.0
    round_trip_s: float | None = None
    cloud_away: bool = False


@dataclass(frozen=True)
class Look:
    """One look at a sample, and when to take the next one.

    level           device level
    exit_threshold  confidence of the exit head from which the sample stays here; None: that of the
                    settings or the bundle
    escalate_below  confidence of the exit head below which the next look is taken at once, and this
                    one is not sent
    ask_below       margin of the cloud's answer, as ``shared.protocol.looks.margins`` gives it,
                    below which the cloud asks for the next look; None leaves it to the server
    """

    level: int
    exit_threshold: float | None = None
    escalate_below: float = 0.0
    ask_below: int | None = None


@dataclass(frozen=True)
class Decision:
    """How to work from now on.

    looks           the plan: one look, or two of which the second is wider
    wait_s, batch   how long samples may wait for each other, and how many at most
    asked           share of the sent samples at which a second look is expected; None: unknown
    reason          one line for people
    """

    looks: tuple[Look, ...]
    wait_s: float = 0.0
    batch: int = 1
    asked: float | None = None
    reason: str = ""

    def __post_init__(self) -> None:
        levels = [look.level for look in self.looks]
        if not 1 <= len(levels) <= MOST_LOOKS or levels != sorted(set(levels)):
            raise ValueError(f"looks at levels {levels}: give one, or a second that is wider")

    @property
    def level(self) -> int:
        """Device level of the first look."""
        return self.looks[0].level

    @property
    def exit_threshold(self) -> float | None:
        """Exit threshold of the first look."""
        return self.looks[0].exit_threshold

    def with_exit(self, threshold: float) -> Decision:
        """The same with another exit threshold of the first look."""
        first = replace(self.looks[0], exit_threshold=threshold)
        return replace(self, looks=(first, *self.looks[1:]))


class Policy(Protocol):
    """Chooses an operating point for the situation."""

    def decide(self, situation: Situation) -> Decision:
        """The choice for ``situation``, given the ones before."""


@dataclass(frozen=True)
class FixedPolicy:
    """The level of one fraction, whatever the situation; ``then`` is that of a second look."""

    fraction: float
    levels: Sequence[float]
    then: float | None = None

    def decide(self, situation: Situation) -> Decision:
        """The fixed level, or the two."""
        looks = [Look(self.level(situation.charge))]
        reason = f"fixed: fraction {self.fraction:g}"
        if self.then is not None:
            looks.append(Look(level_for(self.then, self.levels)))
            reason += f", then {self.then:g} where the cloud asks"
        return Decision(tuple(looks), reason=reason)

    def level(self, charge: Charge) -> int:  # noqa: ARG002 - the charge makes no difference here
        """The fixed level."""
        return level_for(self.fraction, self.levels)


class _ChargePolicy(ABC):
    """A policy that maps the charge to a level, with hysteresis.

    The level changes only when the charge has moved ``margin`` past the border to the next one, so
    that it does not flicker around the border. Plugged in, the whole network is used.
    """

    name = ""

    def __init__(self, levels: Sequence[float], margin: float = 0.02) -> None:
        self._levels = tuple(check_fraction(level, "levels") for level in levels)
        self._margin = margin
        self._last: int | None = None

    def decide(self, situation: Situation) -> Decision:
        """The level for the charge."""
        charge = situation.charge
        level = self.level(charge)
        power = "plugged in" if charge.plugged else f"battery {charge.level:.0%}"
        reason = f"{self.name}: fraction {self._levels[level]:g}; {power}"
        return Decision((Look(level),), reason=reason)

    def level(self, charge: Charge) -> int:
        """The level for ``charge``, given the one before."""
        if charge.plugged:
            self._last = len(self._levels) - 1
        elif self._last is None:
            self._last = self._plain(charge.level)
        else:
            lowest = self._plain(charge.level - self._margin)
            highest = self._plain(charge.level + self._margin)
            self._last = min(max(self._last, lowest), highest)
        return self._last

    @abstractmethod
    def _plain(self, charge: float) -> int:
        """The level for a share of the battery, without hysteresis."""


class LinearPolicy(_ChargePolicy):
    """The fraction follows the charge."""

    name = "linear"

    def _plain(self, charge: float) -> int:
        # An empty battery still gives the narrowest level: a fraction of 0 is no network.
        return level_for(min(max(charge, 1e-6), 1.0), self._levels)


class StepPolicy(_ChargePolicy):
    """Three steps: the whole network above 60% charge, half above 30%, else a quarter."""

    name = "step"
    steps = ((0.6, 1.0), (0.3, 0.5))
    lowest = 0.25

    def _plain(self, charge: float) -> int:
        for border, fraction in self.steps:
            if charge > border:
                return level_for(fraction, self._levels)
        return level_for(self.lowest, self._levels)


def make_policy(
    name: str,
    levels: Sequence[float],
    flag: str,
    plan: Callable[[], Policy] | None = None,
) -> Policy:
    """The policy that a user names; every program of the device makes its policy here.

    ``auto`` works towards a goal with the policy that ``plan`` makes; without a goal ``plan`` is
    None, and ``auto`` follows the charge as ``linear`` does. The other names are ``linear``,
    ``step``, ``fixed:F`` and a fraction F, or two fractions F:G for a second look at G.
    ``UsageError`` for an unknown name gives ``flag``.
    """
    if name == AUTO and plan is not None:
        return plan()
    if name in (AUTO, LinearPolicy.name):
        return LinearPolicy(levels)
    if name == StepPolicy.name:
        return StepPolicy(levels)
    fraction = name.removeprefix("fixed:")
    if fraction[:1].isalpha() and fraction not in ("nan", "inf"):
        raise UsageError(
            f"{flag}: {name!r} is unknown; give a fraction above 0, up to 1, or auto, linear, step"
        )
    first, two, second = fraction.partition(":")
    fixed = FixedPolicy(parse_fraction(first, flag), levels)
    if not two:
        return fixed
    then = parse_fraction(second, flag)
    if level_for(then, levels) <= level_for(fixed.fraction, levels):
        raise UsageError(f"{flag}: {name!r} is not allowed; the second look must be wider")
    return replace(fixed, then=then)
