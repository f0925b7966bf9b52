"""Whether devices with a new model do worse than a control group: a sequential test. Pure.

For each figure Wald's sequential probability ratio test compares two hypotheses: the model is equal
to the old one, or it is worse by what the rules tolerate. Evidence may be looked at at any time: an
equal model is stopped with a chance of at most ``FALSE_STOPS`` in the whole roll-out, and one that
is worse by the tolerance passes a wave with a chance of at most ``MISSED``, as far as means over
devices are normal. (A. Wald, Sequential Tests of Statistical Hypotheses, 1945.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from cloud.telemetry.sums import Sums
from shared.fleet.scenario import Rollout

FALSE_STOPS = 0.02
MISSED = 0.05
FEWEST_DEVICES = 8  # of a group, for figures whose spread is known from the devices alone
Part = Callable[[Sums], float]


class Outcome(Enum):
    """What the evidence says so far."""

    STOP = "stop"
    ACCEPT = "accept"
    OPEN = "open"


@dataclass(frozen=True)
class Verdict:
    """The outcome and the figure that decides it, in words."""

    outcome: Outcome
    reason: str


@dataclass(frozen=True)
class Figure:
    """A quotient of sums that is compared.

    worse     1 if more is worse, -1 if less is
    tolerance by how much a group may be worse; ``relative`` to the control group
    share     whether it is a share of samples, whose least variance is known
    """

    name: str
    part: Part
    whole: Part
    worse: int
    tolerance: float
    share: bool = True
    relative: bool = False


@dataclass(frozen=True)
class Mean:
    """A quotient over the devices of a group, and the variance of its error."""

    value: float
    variance: float
    whole: float
    devices: int


def figures(rules: Rollout) -> list[Figure]:
    """Return what is compared under ``rules``; both directions of a figure count as two."""

    def confidence(one: Sums) -> float:
        return one.confidence

    def exits(one: Sums) -> float:
        return one.answered_device

    return [
        Figure("accuracy", lambda one: one.right, lambda one: one.labelled, -1,
               rules.lose_at_most),
        Figure("failed samples", lambda one: one.failed, lambda one: one.samples, 1,
               rules.fail_at_most),
        Figure("agreement with the cloud", lambda one: one.agreed, lambda one: one.audited, -1,
               rules.disagree_at_most),
        *(Figure("local answers", exits, lambda one: one.answered, way, rules.shift_at_most)
          for way in (1, -1)),
        *(Figure("exit confidence", confidence, lambda one: one.exits_asked, way,
                 rules.shift_at_most) for way in (1, -1)),
        Figure("latency", lambda one: one.waited_ms, lambda one: one.answered, 1,
               rules.slow_at_most, share=False, relative=True),
        Figure("energy", lambda one: one.energy_j - one.idle_j, lambda one: one.answered, 1,
               rules.slow_at_most, share=False, relative=True),
    ]  # fmt: skip


def judge(rules: Rollout, new: Sequence[Sums], control: Sequence[Sums]) -> Verdict:
    """Compare devices with the new model and the control group, a sum for each device."""
    samples = min(sum(one.samples for one in group) for group in (new, control))
    if samples < rules.samples:
        return Verdict(Outcome.OPEN, f"{samples} samples, {rules.samples} are needed")
    asked = figures(rules)
    false_stops = FALSE_STOPS / (len(asked) * len(rules.waves))
    stop, go = math.log((1 - MISSED) / false_stops), math.log(MISSED / (1 - false_stops))
    undecided, passed, worst = [], [], ""
    for figure in asked:
        ours, theirs = _mean(figure, new), _mean(figure, control)
        if ours is None or theirs is None:
            continue
        text = f"{figure.name} {ours.value:.4g} against {theirs.value:.4g}"
        ratio = _log_ratio(figure, ours, theirs)
        if ratio >= stop:
            return Verdict(Outcome.STOP, text)
        if ratio > go:
            undecided.append(text)
        else:
            passed.append(text)
        worst = worst or text
    if undecided:
        return Verdict(Outcome.OPEN, f"not sure yet: {undecided[0]}")
    if not passed:
        return Verdict(Outcome.OPEN, "nothing to compare: no figure has samples in both groups")
    return Verdict(Outcome.ACCEPT, worst)


def _log_ratio(figure: Figure, ours: Mean, theirs: Mean) -> float:
    """The log of the likelihood of being worse by the tolerance over that of being equal."""
    tolerance = figure.tolerance * (theirs.value if figure.relative else 1.0)
    variance = ours.variance + theirs.variance
    loss = figure.worse * (ours.value - theirs.value)
    if variance <= 0:  # all devices of both groups are the same
        return math.inf if loss > tolerance / 2 else -math.inf
    return tolerance / variance * (loss - tolerance / 2)


def _mean(figure: Figure, group: Sequence[Sums]) -> Mean | None:
    """The quotient over a group; None without samples, or where its spread is not known."""
    pairs = [(figure.part(one), figure.whole(one)) for one in group if figure.whole(one) > 0]
    whole = math.fsum(pair[1] for pair in pairs)
    if not whole or (not figure.share and len(pairs) < FEWEST_DEVICES):
        return None
    value = math.fsum(pair[0] for pair in pairs) / whole
    variance = 0.0
    if len(pairs) >= FEWEST_DEVICES:
        # Of a quotient of means over devices, which differ: the samples of one are not independent.
        spread = math.fsum((part - value * size) ** 2 for part, size in pairs)
        variance = len(pairs) / (len(pairs) - 1) * spread / whole**2
    if figure.share:
        # Not less than for independent samples, one more of each kind: few may all be the same.
        smooth = (value * whole + 1) / (whole + 2)
        variance = max(variance, smooth * (1 - smooth) / whole)
    return Mean(value, variance, whole, len(pairs))
