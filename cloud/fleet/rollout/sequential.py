"""A sequential test whether devices with a new model perform worse than a control group. Pure.

For each figure, Wald's sequential probability ratio test compares two hypotheses: the model equals
the old one, or it is worse by the tolerance of the rules. The test may be evaluated at any time and
as often as wanted. An equal model is stopped with a probability of at most ``FALSE_STOPS`` in the
whole roll-out. A model that is worse by the tolerance passes a wave with a probability of at most
``MISSED``. Both hold as far as means over devices are normally distributed.

Source: A. Wald, Sequential Tests of Statistical Hypotheses, 1945.
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
FEWEST_DEVICES = 8  # in a group, where the variance can only be estimated from the devices
Part = Callable[[Sums], float]


class Outcome(Enum):
    """The decision that the evidence so far allows."""

    STOP = "stop"
    ACCEPT = "accept"
    OPEN = "open"


@dataclass(frozen=True)
class Verdict:
    """The outcome, and in words the figure that decides it."""

    outcome: Outcome
    reason: str


@dataclass(frozen=True)
class Figure:
    """A quotient of two sums, by which groups are compared.

    worse      1 if a higher value is worse, -1 if a lower one is tolerance  difference that is
    tolerated; if ``relative``, as a share of the control group's value share      whether it is a
    share of samples; then its variance has a known lower bound
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
    """A figure's value over the devices of a group, and the variance of its error."""

    value: float
    variance: float
    whole: float
    devices: int


def figures(rules: Rollout) -> list[Figure]:
    """Return the figures to compare under ``rules``; two where both directions are worse."""

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
    """Compare the devices with the new model and the control group; each has a sum per device."""
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
    """Log of the likelihood ratio: worse by the tolerance, over equal."""
    tolerance = figure.tolerance * (theirs.value if figure.relative else 1.0)
    variance = ours.variance + theirs.variance
    loss = figure.worse * (ours.value - theirs.value)
    if variance <= 0:  # all devices of both groups have the same value
        return math.inf if loss > tolerance / 2 else -math.inf
    return tolerance / variance * (loss - tolerance / 2)


def _mean(figure: Figure, group: Sequence[Sums]) -> Mean | None:
    """Return a figure over a group; None without samples or if the variance is unknown."""
    pairs = [(figure.part(one), figure.whole(one)) for one in group if figure.whole(one) > 0]
    whole = math.fsum(pair[1] for pair in pairs)
    if not whole or (not figure.share and len(pairs) < FEWEST_DEVICES):
        return None
    value = math.fsum(pair[0] for pair in pairs) / whole
    variance = 0.0
    if len(pairs) >= FEWEST_DEVICES:
        # Variance of a ratio estimator over devices: samples of one device are not independent.
        spread = math.fsum((part - value * size) ** 2 for part, size in pairs)
        variance = len(pairs) / (len(pairs) - 1) * spread / whole**2
    if figure.share:
        # At least that of independent samples, with one added success and failure: a few samples
        # may all be the same, which would give a variance of 0.
        smooth = (value * whole + 1) / (whole + 2)
        variance = max(variance, smooth * (1 - smooth) / whole)
    return Mean(value, variance, whole, len(pairs))
