"""Sums over telemetry, and the means and shares that follow from them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter

from shared.fleet.messages import Telemetry


@dataclass(frozen=True)
class Sums:
    """Sums over messages.

    ``waited_ms`` adds up the latencies of all answered samples, ``confidence`` that of the exit
    head in all samples that it looked at.
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
        """Share of right answers; None without labels."""
        return self.right / self.labelled if self.labelled else None

    @property
    def failures(self) -> float | None:
        """Share of samples that failed; None without samples."""
        return self.failed / self.samples if self.samples else None

    @property
    def on_device(self) -> float | None:
        """Share of answers that the devices gave alone; None without answers."""
        return self.answered_device / self.answered if self.answered else None

    @property
    def energy_mj(self) -> float | None:
        """Millijoules an answer; None without answers."""
        return 1000 * self.energy_j / self.answered if self.answered else None

    @property
    def bytes_per_answer(self) -> float | None:
        """Payload bytes an answer; None without answers."""
        return self.payload_bytes / self.answered if self.answered else None

    @property
    def looks_per_answer(self) -> float | None:
        """Looks at a sample that was answered; None without answers."""
        return 1 + self.second_looks / self.answered if self.answered else None

    @property
    def latency_ms(self) -> float | None:
        """Mean time to an answer; None without answers."""
        return self.waited_ms / self.answered if self.answered else None

    @property
    def agreement(self) -> float | None:
        """Share of the exit head's audited answers that the cloud gave too; None without any."""
        return self.agreed / self.audited if self.audited else None

    @property
    def exit_confidence(self) -> float | None:
        """Mean confidence of the exit head; None where it was not asked."""
        return self.confidence / self.exits_asked if self.exits_asked else None

    @property
    def rate(self) -> float:
        """Answers a second of device time."""
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
    """Return one message as the fields of ``Sums``, in their order."""
    waited_ms, confidence = one.latency_ms * one.answered, one.exit_confidence * one.exits_asked
    return (1, *_SHARED(one), waited_ms, one.latency_max_ms, confidence)


def plus(some: Values, more: Values) -> Values:
    """Return the sum of two rows of fields."""
    made = [a + b for a, b in zip(some, more, strict=True)]
    made[_LARGEST] = max(some[_LARGEST], more[_LARGEST])
    return made


def sums_of(values: Values) -> Sums:
    """Return fields as sums."""
    return Sums(*values)  # type: ignore[arg-type] # counts stay whole


def add_up(messages: Iterable[Telemetry | Sums]) -> Sums:
    """Return the sums over messages of telemetry, or over sums."""
    rows = [values_of(one) if isinstance(one, Telemetry) else _VALUES(one) for one in messages]
    if not rows:
        return Sums()
    columns = list(zip(*rows, strict=True))
    made = [sum(column) for column in columns]
    made[_LARGEST] = max(columns[_LARGEST])
    return sums_of(made)
