"""The interface of policies, and the simple ones: fixed, by steps, linear in the charge.

The planning policy is in ``device.policy.auto``.
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
FOLLOWERS = ("linear", "step")  # policies that follow the charge
LARGEST_BATCH = 64  # largest number of samples that wait for each other
MOST_LOOKS = 2  # looks at one sample


@dataclass(frozen=True)
class Situation:
    """The inputs of a policy.

    now_s         seconds on a monotonic clock
    stored_j      joules in the battery, None if its capacity is unknown
    forecast      pairs (seconds ahead, joules charged by then), ascending
    rate_per_s    samples to classify in a second
    round_trip_s  measured time of an exchange, None before the first
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
    """One look at a sample, and the conditions for the next look.

    level           device level
    exit_threshold  confidence of the exit head from which the sample stays on the device; None:
                    that of the settings or the bundle
    escalate_below  confidence of the exit head below which the next look is taken at once, without
                    sending this one
    ask_below       margin of the cloud's answer (``shared.protocol.looks.margins``) below which the
                    cloud requests the next look; None leaves it to the server
    """

    level: int
    exit_threshold: float | None = None
    escalate_below: float = 0.0
    ask_below: int | None = None


@dataclass(frozen=True)
class Decision:
    """How to process samples from now on.

    looks   the plan: one look, or two of which the second is wider
    wait_s  how long samples may wait for each other
    batch   largest number of samples that wait for each other
    asked   share of the sent samples for which a second look is expected; None: unknown
    reason  an explanation in one line
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
        """Return a copy with another exit threshold of the first look."""
        first = replace(self.looks[0], exit_threshold=threshold)
        return replace(self, looks=(first, *self.looks[1:]))


class Policy(Protocol):
    """Chooses how to process samples in a situation."""

    def decide(self, situation: Situation) -> Decision:
        """Return the choice for ``situation``; it may depend on earlier choices."""


@dataclass(frozen=True)
class FixedPolicy:
    """Always uses the level of one fraction; ``then`` is the level of a second look, if any."""

    fraction: float
    levels: Sequence[float]
    then: float | None = None

    def decide(self, situation: Situation) -> Decision:
        """Return the fixed look or looks."""
        looks = [Look(self.level(situation.charge))]
        reason = f"fixed: fraction {self.fraction:g}"
        if self.then is not None:
            looks.append(Look(level_for(self.then, self.levels)))
            reason += f", then {self.then:g} where the cloud asks"
        return Decision(tuple(looks), reason=reason)

    def level(self, charge: Charge) -> int:  # noqa: ARG002 - the charge makes no difference here
        """Return the fixed level."""
        return level_for(self.fraction, self.levels)


class _ChargePolicy(ABC):
    """A policy that maps the charge to a level, with hysteresis.

    The level changes only when the charge has passed the border to the next level by ``margin``, so
    that it does not oscillate around the border. While plugged in, the whole network is used.
    """

    name = ""

    def __init__(self, levels: Sequence[float], margin: float = 0.02) -> None:
        self._levels = tuple(check_fraction(level, "levels") for level in levels)
        self._margin = margin
        self._last: int | None = None

    def decide(self, situation: Situation) -> Decision:
        """Return a look at the level for the charge."""
        charge = situation.charge
        level = self.level(charge)
        power = "plugged in" if charge.plugged else f"battery {charge.level:.0%}"
        reason = f"{self.name}: fraction {self._levels[level]:g}; {power}"
        return Decision((Look(level),), reason=reason)

    def level(self, charge: Charge) -> int:
        """Return the level for ``charge``, given the last one."""
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
        """Return the level for a charge from 0 to 1, without hysteresis."""


class LinearPolicy(_ChargePolicy):
    """The fraction equals the charge, rounded to a level."""

    name = "linear"

    def _plain(self, charge: float) -> int:
        # An empty battery gives the narrowest level, as a fraction of 0 is not allowed.
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
    """Make the policy that a user names; all programs of the device use this function.

    ``auto`` is the planning policy that ``plan`` returns; if there is no goal, ``plan`` is None and
    ``auto`` is the same as ``linear``. Other names are ``linear``, ``step``, ``fixed:F``, a
    fraction F, and two fractions F:G for a second look at G. ``UsageError`` for an unknown name
    quotes ``flag``.
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
