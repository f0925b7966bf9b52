"""A model goes out in waves; the first that does worse than the rest sends all of them back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from shared.fleet.messages import Telemetry
from shared.fleet.scenario import Rollout


@dataclass(frozen=True)
class Tally:
    """What some devices did in a while."""

    labelled: int = 0
    right: int = 0
    answered: int = 0
    failed: int = 0
    refused: int = 0

    @property
    def accuracy(self) -> float | None:
        """Share of right answers; None without labels."""
        return self.right / self.labelled if self.labelled else None


@dataclass(frozen=True)
class Verdict:
    """Whether a wave may stay: ``good`` None means that too little is known."""

    good: bool | None
    reason: str


def tally(telemetry: Iterable[Telemetry], refused: int = 0) -> Tally:
    """The sum of ``telemetry``."""
    labelled = right = answered = failed = 0
    for one in telemetry:
        labelled += one.labelled
        right += one.right
        answered += one.answered_cloud + one.answered_device
        failed += one.failed
    return Tally(labelled, right, answered, failed, refused)


def judge(rules: Rollout, wave: Tally, rest: Tally) -> Verdict:
    """Compare the devices of a wave with those without the new model."""
    if wave.refused:
        return Verdict(False, f"{wave.refused} devices could not take the model")
    taken = wave.answered + wave.failed
    share = wave.failed / taken if taken else 0.0
    if taken >= rules.samples and share > rules.fail_at_most:
        return Verdict(False, f"{share:.1%} of the samples failed, {rules.fail_at_most:.1%} may")
    new, old = wave.accuracy, rest.accuracy
    if wave.labelled < rules.samples or new is None:
        return Verdict(None, f"{wave.labelled} labelled samples, {rules.samples} are needed")
    text = f"accuracy {new:.2%}"
    if old is None:
        return Verdict(True, f"{text}, nothing to compare with")
    text += f" against {old:.2%}"
    return Verdict(new >= old - rules.lose_at_most, text)


def waves(names: Sequence[str], shares: Sequence[float]) -> list[list[str]]:
    """The devices that each wave adds."""
    made, start = [], 0
    for share in shares:
        end = max(round(share * len(names)), start)
        made.append(list(names[start:end]))
        start = end
    return made
