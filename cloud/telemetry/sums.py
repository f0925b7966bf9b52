"""Sums over telemetry, and means and shares computed from them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter

from shared.fleet.messages import Telemetry


@dataclass(frozen=True)
class Sums:
    """Sums over telemetry messages.

    ``waited_ms`` is the sum of the latencies of all answered samples, ``confidence`` the sum of the
    exit head's confidence over all samples that it evaluated.
    """

    messages: int = 0
    answered_device: int = 0
    answered_cloud: int = 0
    failed: int = 0
    labelled: int = 0
    right: int = 0
    payload_bytes: int = 0
    energy_j: float = 0.0
    period_s: float = 0.0
    dropped: int = 0
    audited: int = 0
    agreed: int = 0
    exits_asked: int = 0
    idle_j: float = 0.0
    second_looks: int = 0
    waited_ms: float = 0.0
    latency_max_ms: float = 0.0
    confidence: float = 0.0

    @property
    def answered(self) -> int:
        """Samples that were answered, on the device or by the cloud."""
        return self.answered_device + self.answered_cloud

    @property
    def samples(self) -> int:
        """Samples that were answered or failed."""
        return self.answered + self.failed

    @property
    def accuracy(self) -> float | None:
        """Share of right answers among labelled samples; None without labels."""
        return self.right / self.labelled if self.labelled else None

    @property
    def failures(self) -> float | None:
        """Share of samples that failed; None without samples."""
        return self.failed / self.samples if self.samples else None

    @property
    def on_device(self) -> float | None:
        """Share of answers given by the device alone; None without answers."""
        return self.answered_device / self.answered if self.answered else None

    @property
    def energy_mj(self) -> float | None:
        """Millijoules per answer; None without answers."""
        return 1000 * self.energy_j / self.answered if self.answered else None

    @property
    def bytes_per_answer(self) -> float | None:
        """Payload bytes per answer; None without answers."""
        return self.payload_bytes / self.answered if self.answered else None

    @property
    def looks_per_answer(self) -> float | None:
        """Looks per answered sample; None without answers."""
        return 1 + self.second_looks / self.answered if self.answered else None

    @property
    def latency_ms(self) -> float | None:
        """Mean milliseconds to an answer; None without answers."""
        return self.waited_ms / self.answered if self.answered else None

    @property
    def agreement(self) -> float | None:
        """Share of the exit head's audited answers that equal the cloud's; None without audits."""
        return self.agreed / self.audited if self.audited else None

    @property
    def exit_confidence(self) -> float | None:
        """Mean confidence of the exit head; None if it evaluated no sample."""
        return self.confidence / self.exits_asked if self.exits_asked else None

    @property
    def rate(self) -> float:
        """Answers per second of device time."""
        return self.answered / self.period_s if self.period_s else 0.0


SUMMED = (
    "answered_device", "answered_cloud", "failed", "labelled", "right", "payload_bytes",
    "energy_j", "period_s", "dropped", "audited", "agreed", "exits_asked", "idle_j",
    "second_looks",
)  # fmt: skip  # fields that Telemetry and Sums share


_VALUES = attrgetter(*(one.name for one in fields(Sums)))
_SHARED = attrgetter(*SUMMED)
_LARGEST = [one.name for one in fields(Sums)].index("latency_max_ms")  # the others are added
Values = Sequence[float]  # the fields of ``Sums``, in their order


def values_of(one: Telemetry) -> Values:
    """Return the fields of ``Sums`` for one message, in their order."""
    waited_ms, confidence = one.latency_ms * one.answered, one.exit_confidence * one.exits_asked
    return (1, *_SHARED(one), waited_ms, one.latency_max_ms, confidence)


def plus(some: Values, more: Values) -> Values:
    """Add two rows of fields; ``latency_max_ms`` becomes the larger of the two."""
    made = [a + b for a, b in zip(some, more, strict=True)]
    made[_LARGEST] = max(some[_LARGEST], more[_LARGEST])
    return made


def sums_of(values: Values) -> Sums:
    """Make ``Sums`` of their fields."""
    return Sums(*values)  # type: ignore[arg-type] # counts are whole numbers


def add_up(messages: Iterable[Telemetry | Sums]) -> Sums:
    """Add up telemetry messages, or sums."""
    rows = [values_of(one) if isinstance(one, Telemetry) else _VALUES(one) for one in messages]
    if not rows:
        return Sums()
    columns = list(zip(*rows, strict=True))
    made = [sum(column) for column in columns]
    made[_LARGEST] = max(columns[_LARGEST])
    return sums_of(made)
