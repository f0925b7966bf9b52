"""The rules of a roll-out: who gets a model in which wave, and whether a wave may keep it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cloud.telemetry.sums import Sums
from shared.fleet.scenario import Rollout


@dataclass(frozen=True)
class Verdict:
    """Whether a wave may keep the model; ``good`` is None with too few samples to tell."""

    good: bool | None
    reason: str


def judge(rules: Rollout, wave: Sums, rest: Sums, refused: int) -> Verdict:
    """Compare the devices of a wave with those without the new model.

    ``refused`` is the number of devices that could not take the model.
    """
    if refused:
        return Verdict(False, f"{refused} devices could not take the model")
    share = wave.failures or 0.0
    if wave.samples >= rules.samples and share > rules.fail_at_most:
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
    """Return the devices that each wave adds."""
    made, start = [], 0
    for share in shares:
        end = max(round(share * len(names)), start)
        made.append(list(names[start:end]))
        start = end
    return made
