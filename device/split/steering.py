"""Decide how to process each sample: ask the policy regularly and apply its decision."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from device.energy.battery import FixedBattery, ReadBattery, SystemBattery
from device.energy.charge import Battery, Charge
from device.energy.clock import Clock, boot_s
from device.policy.simple import (
    FOLLOWERS,
    LARGEST_BATCH,
    Decision,
    FixedPolicy,
    Look,
    Policy,
    Situation,
    make_policy,
)
from device.split.settings import ClientSettings
from device.transport.link import Link
from shared.model.bundle import Bundle
from shared.protocol.messages import Hints

if TYPE_CHECKING:
    from device.energy.harvest import Forecast, Prospect

DECIDE_EVERY_S = 0.5
RATE_SMOOTHING = 0.3  # weight of the newest period in the mean rate


class Steering:
    """Asks the policy for a decision twice a second, and keeps it in between.

    ``policy`` and ``battery`` replace those of the settings. ``on_decision`` receives every
    decision that differs from the last.
    """

    def __init__(
        self,
        settings: ClientSettings,
        battery: Battery | None = None,
        policy: Policy | None = None,
        on_decision: Callable[[Decision], None] | None = None,
        clock: Clock = boot_s,
    ) -> None:
        self._settings = settings
        self._battery = battery or battery_of(settings)
        self._capacity_j = _capacity_j(settings)
        self._given = policy
        self._policy = policy
        self._exit_threshold: float | None = None
        self._audit_rate = 0.0
        self._on_decision = on_decision
        self._clock = clock
        self._rate = SampleRate()
        self._prospect = _prospect(settings)
        self._decided_s = 0.0
        self.decision: Decision | None = None

    def use(self, bundle: Bundle) -> None:
        """Choose among the levels of ``bundle`` from now on."""
        self._policy = self._given or client_policy(self._settings, bundle)
        self.decision = None

    def steer(self, policy: Policy, exit_threshold: float | None, audit_rate: float = 0.0) -> None:
        """Use ``policy``; ``exit_threshold``, if not None, overrides the policy's own."""
        self._given = self._policy = policy
        self._exit_threshold = exit_threshold
        self._audit_rate = audit_rate
        self.decision = None

    def audits(self) -> bool:
        """Choose at random whether to have the cloud check an answer of the exit head."""
        return random.random() < self._audit_rate  # noqa: S311 - not for security

    def decide(self, link: Link) -> Decision:
        """Return the decision for one more sample."""
        now_s = self._clock()
        self._rate.count()
        if self.decision is not None and 0 <= now_s - self._decided_s < DECIDE_EVERY_S:
            return self.decision
        self._decided_s = now_s
        decision = self._ask(now_s, link)
        if self._on_decision and _differs(decision, self.decision):
            self._on_decision(decision)
        self.decision = decision
        return decision

    def looks(self, decision: Decision, hints: Hints | None) -> tuple[Look, ...]:
        """Return the looks to take by ``decision`` and the server's ``hints``.

        If the server suggests a level, it is overloaded: then there is one look, at most as wide as
        that level. Fixed levels are used in any case.
        """
        if hints is None or hints.suggested_level is None or self._pinned:
            return decision.looks
        first = decision.looks[0]
        return (replace(first, level=min(first.level, hints.suggested_level)),)

    @property
    def _pinned(self) -> bool:
        return isinstance(self._policy, FixedPolicy)

    def _ask(self, now_s: float, link: Link) -> Decision:
        if self._policy is None:
            raise RuntimeError("no model is in use")
        # Policies with a fixed level need no charge, and reading it may take longer than a sample.
        charge = Charge(1.0, plugged=True) if self._pinned else self._battery.charge()
        stored_j = None if self._capacity_j is None else charge.level * self._capacity_j
        forecast: Forecast = ()
        if self._prospect is not None and stored_j is not None and not self._pinned:
            forecast = self._prospect(now_s, stored_j)
        decision = self._policy.decide(
            Situation(
                charge=charge,
                now_s=now_s,
                stored_j=stored_j,
                forecast=forecast,
                rate_per_s=self._rate.measure(now_s),
                round_trip_s=link.round_trip_s,
                # With a spool, samples for an absent cloud are only delayed, so it counts as
                # present.
                cloud_away=link.away and self._settings.spool is None,
            )
        )
        if self._exit_threshold is not None:
            decision = decision.with_exit(self._exit_threshold)
        if self._settings.max_wait_s and not self._settings.planned:
            decision = replace(decision, wait_s=self._settings.max_wait_s, batch=LARGEST_BATCH)
        return decision


class SampleRate:
    """Samples per second, as an exponential mean over the periods between measurements."""

    def __init__(self) -> None:
        self._samples = 0
        self._mean: float | None = None
        self._measured_s: float | None = None

    def count(self) -> None:
        """Count one sample."""
        self._samples += 1

    def measure(self, now_s: float) -> float:
        """Return the mean rate at ``now_s``; 1 until there are two measurements."""
        if self._measured_s is not None and now_s > self._measured_s:
            rate = self._samples / (now_s - self._measured_s)
            mean = self._mean
            self._mean = rate if mean is None else mean + RATE_SMOOTHING * (rate - mean)
        self._samples = 0
        self._measured_s = now_s
        return self._mean or 1.0


def client_policy(settings: ClientSettings, bundle: Bundle) -> Policy:
    """Make the policy that a client's settings name, for the levels of ``bundle``."""

    def plan() -> Policy:
        from device.split.planning import plan  # imported here, as few clients need it

        return plan(settings, bundle)

    levels = bundle.architecture.device_levels
    return make_policy(settings.fraction, levels, "--fraction", plan if settings.planned else None)


def battery_of(settings: ClientSettings) -> Battery:
    """Return the battery that the settings name, by default the machine's own; ``UsageError``."""
    if settings.battery_percent is not None:
        return FixedBattery(settings.battery_percent)
    ways = (settings.battery_command, settings.battery_file, settings.battery_plugin)
    if not any(ways):
        return SystemBattery(needed=settings.planned or settings.fraction in FOLLOWERS)
    from device.energy import field_batteries as field

    if settings.battery_file is not None:
        return ReadBattery(field.read_file(settings.battery_file))
    if settings.battery_command is not None:
        read = field.read_command(settings.battery_command)
    else:
        read = field.read_plugin(settings.battery_plugin or "")
    return ReadBattery(field.Background(read))


def _capacity_j(settings: ClientSettings) -> float | None:
    """Return the energy of the full battery; None if the policy does not need it."""
    if settings.capacity_j is not None or not settings.planned:
        return settings.capacity_j
    from shared.energy.hardware import find_hardware

    return find_hardware(settings.hardware).battery_j


def _prospect(settings: ClientSettings) -> Prospect | None:
    """Return the forecast of charging; None if the policy does not plan for a lifetime."""
    if not settings.planned or settings.lifetime_s is None:
        return None
    from device.energy.harvest import Prospect
    from shared.energy.hardware import find_hardware

    return Prospect(find_hardware(settings.hardware).idle_w, settings.lifetime_s)


def _differs(one: Decision, other: Decision | None) -> bool:
    return other is None or (one.looks, one.wait_s) != (other.looks, other.wait_s)
